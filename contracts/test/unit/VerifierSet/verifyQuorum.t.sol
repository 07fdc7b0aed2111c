// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract VerifierSetVerifyQuorum is Network {
    uint256[] private absent;

    function _message(uint64 epoch) private view returns (bytes memory) {
        return verifiers.messageFor("VERDICT", address(this), epoch, "payload");
    }

    function _check(IVerifierSet.Panel memory panel, uint64 epoch, bytes memory signature) private view returns (bool ok, uint112 signed) {
        return verifiers.verifyQuorum("VERDICT", address(this), epoch, "payload", panel, absent, signature);
    }

    function _sumOf(uint256 count) private view returns (uint256 sum) {
        sum = count * (count + 1) / 2;
        for (uint256 i; i < absent.length; ++i) {
            sum -= absent[i] + 1;
        }
    }

    function test_verifyQuorum__small__needs_all() public {
        _joinVerifiers(6);
        uint64 epoch = verifiers.currentEpoch();
        IVerifierSet.Panel memory panel = verifiers.fullPanel(epoch, address(0));
        (bool ok, uint112 signed) = _check(panel, epoch, Bls.sign(21, _message(epoch)));
        assertTrue(ok);
        assertEq(signed, 63);
        absent.push(5);
        (ok,) = _check(panel, epoch, Bls.sign(15, _message(epoch)));
        assertFalse(ok);
    }

    function testFuzz_verifyQuorum__accepts_exactly_two_thirds_by_weight(uint16 missing) public {
        _joinVerifiers(12);
        uint64 epoch = verifiers.currentEpoch();
        for (uint256 i; i < 12; ++i) {
            if ((missing >> i) & 1 == 1) absent.push(i);
        }
        if (absent.length == 12) return;
        IVerifierSet.Panel memory panel = verifiers.fullPanel(epoch, address(0));
        (bool ok,) = _check(panel, epoch, Bls.sign(_sumOf(12), _message(epoch)));
        assertEq(ok, (12 - absent.length) * 3 >= 24);
    }

    function test_verifyQuorum__few_signers_of_a_large_set__are_summed() public {
        _joinVerifiers(20);
        uint64 epoch = verifiers.currentEpoch();
        IVerifierSet.Panel memory panel = IVerifierSet.Panel(1, uint112(0x1ff));
        (bool ok,) = _check(panel, epoch, Bls.sign(45, _message(epoch)));
        assertTrue(ok);
        absent.push(0);
        (ok,) = _check(panel, epoch, Bls.sign(44, _message(epoch)));
        assertTrue(ok);
        absent.push(1);
        absent.push(2);
        absent.push(3);
        (ok,) = _check(panel, epoch, Bls.sign(35, _message(epoch)));
        assertFalse(ok);
    }

    function test_verifyQuorum__not_strictly_increasing_or_not_in_the_panel__is_refused() public {
        _joinVerifiers(9);
        uint64 epoch = verifiers.currentEpoch();
        IVerifierSet.Panel memory panel = verifiers.fullPanel(epoch, judges[8]);
        uint256[2][4] memory lists = [[uint256(1), 1], [uint256(2), 1], [uint256(1), 8], [uint256(1), 200]];
        for (uint256 i; i < lists.length; ++i) {
            absent = new uint256[](2);
            (absent[0], absent[1]) = (lists[i][0], lists[i][1]);
            (bool ok,) = _check(panel, epoch, Bls.sign(36, _message(epoch)));
            assertFalse(ok);
        }
    }

    function test_verifyQuorum__another_epoch_purpose_target_or_payload__is_refused() public {
        _joinVerifiers();
        uint64 epoch = verifiers.currentEpoch();
        IVerifierSet.Panel memory panel = verifiers.fullPanel(epoch, address(0));
        bytes memory signature = Bls.sign(6, _message(epoch));
        (bool ok,) = _check(panel, epoch, signature);
        assertTrue(ok);
        (ok,) = _check(panel, epoch + 1, signature);
        assertFalse(ok);
        (ok,) = verifiers.verifyQuorum("TOLERANCE", address(this), epoch, "payload", panel, absent, signature);
        assertFalse(ok);
        (ok,) = verifiers.verifyQuorum("VERDICT", address(1), epoch, "payload", panel, absent, signature);
        assertFalse(ok);
        (ok,) = verifiers.verifyQuorum("VERDICT", address(this), epoch, "other", panel, absent, signature);
        assertFalse(ok);
    }

    function test_verifyQuorum__a_set_that_does_not_count_then__is_refused() public {
        _joinVerifiers();
        uint64 epoch = verifiers.currentEpoch();
        bytes memory signature = Bls.sign(6, _message(epoch));
        (bool ok,) = _check(IVerifierSet.Panel(0, 7), epoch, signature);
        assertFalse(ok);
        (ok,) = _check(IVerifierSet.Panel(2, 7), epoch, signature);
        assertFalse(ok);
        (ok,) = _check(IVerifierSet.Panel(1, 0), epoch, signature);
        assertFalse(ok);
        (ok,) = _check(IVerifierSet.Panel(1, 15), epoch, signature);
        assertFalse(ok);
    }

    function testFuzz_verifyQuorum__random_signature__is_refused_in_bounded_gas(bytes memory noise) public {
        _joinVerifiers();
        uint64 epoch = verifiers.currentEpoch();
        IVerifierSet.Panel memory panel = verifiers.fullPanel(epoch, address(0));
        uint256 before = gasleft();
        (bool ok,) = _check(panel, epoch, noise);
        assertLt(before - gasleft(), 400_000);
        assertFalse(ok);
        bytes memory padded = new bytes(128);
        for (uint256 i; i < 128 && i < noise.length; ++i) {
            padded[i] = noise[i];
        }
        before = gasleft();
        (ok,) = _check(panel, epoch, padded);
        assertLt(before - gasleft(), 400_000);
        assertFalse(ok);
    }
}
