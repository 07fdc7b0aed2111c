// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICommitmentLog} from "../../src/interfaces/ICommitmentLog.sol";
import {IVerifierSet} from "../../src/interfaces/IVerifierSet.sol";
import {Bls} from "../utils/Bls.sol";
import {Network} from "../utils/Network.t.sol";

contract CommitmentLogTest is Network {
    function setUp() public override {
        super.setUp();
        _registerModel(0);
        _joinProvider();
    }

    function test_anchor__consecutive__chains_the_epochs_tip() public {
        _anchor(_receipt(1, 5));
        bytes32 first = commitments.tip(verifiers.currentEpoch());
        _anchor(_receipt(2, 7));
        assertNotEq(commitments.tip(verifiers.currentEpoch()), first);
        assertEq(commitments.batch(owner, 1).cumulativeAmount, 12);
        assertEq(commitments.lastNumber(owner), 2);
    }

    function test_anchor__gap__reverts() public {
        vm.prank(operator);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NumberGap.selector, 1, 2));
        commitments.anchor("root", 2, 2, 1, 1);
    }

    function test_anchor__empty__reverts() public {
        vm.startPrank(operator);
        vm.expectRevert(ICommitmentLog.EmptyBatch.selector);
        commitments.anchor(0, 1, 1, 1, 1);
        vm.expectRevert(ICommitmentLog.EmptyBatch.selector);
        commitments.anchor("root", 1, 0, 1, 1);
    }

    function test_anchor__not_the_operator__reverts() public {
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NotOperator.selector, owner));
        commitments.anchor("root", 1, 1, 1, 1);
    }

    function test_anchor__rotated_out_operator__reverts() public {
        vm.prank(owner);
        providers.setOperator(makeAddr("fresh"));
        vm.prank(operator);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NotOperator.selector, operator));
        commitments.anchor("root", 1, 1, 1, 1);
    }

    function test_auditRate__newcomer_to_proven__falls_and_is_reset_by_a_fault() public {
        assertEq(commitments.auditRate(owner), 3_000_000);
        vm.prank(operator);
        commitments.anchor("a", 1, 100, 1, 1);
        skip(51);
        vm.prank(operator);
        commitments.anchor("b", 101, 101, 1, 1);
        assertEq(commitments.auditRate(owner), 1_500_000);
        assertEq(commitments.batch(owner, 1).auditRate, 1_500_000);
        vm.prank(address(disputes));
        commitments.resetRecord(owner);
        assertEq(commitments.auditRate(owner), 3_000_000);
    }

    function test_auditRate__very_much_work__stops_at_the_floor() public {
        vm.prank(operator);
        commitments.anchor("a", 1, 1_000_000, 1, 1);
        skip(51);
        vm.prank(operator);
        commitments.anchor("b", 1_000_001, 1_000_001, 1, 1);
        assertEq(commitments.auditRate(owner), 20_000);
    }

    function test_batch__unknown__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NoSuchBatch.selector, owner, 0));
        commitments.batch(owner, 0);
    }
}

contract VerifierSetTest is Network {
    function setUp() public override {
        super.setUp();
        _joinVerifiers();
    }

    function test_register__counts_from_the_second_epoch_on() public {
        address late = makeAddr("late");
        _stake(late, STAKE);
        bytes memory key = Bls.publicKey(9);
        bytes memory proof = Bls.sign(9, _possession(late, key));
        vm.prank(late);
        verifiers.register(key, proof, "");
        uint64 epoch = verifiers.currentEpoch();
        assertFalse(verifiers.isActive(late, epoch + 1));
        assertTrue(verifiers.isActive(late, epoch + 2));
    }

    function test_register__bad_input__reverts_by_name() public {
        address late = makeAddr("late");
        bytes memory key = Bls.publicKey(9);
        bytes memory proof = Bls.sign(9, _possession(late, key));
        vm.startPrank(late);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.StakeBelowMinimum.selector, 0, STAKE));
        verifiers.register(key, proof, "");
        vm.stopPrank();
        _stake(late, STAKE);
        bytes memory stolen = Bls.sign(9, _possession(payer, key));
        bytes memory taken = Bls.publicKey(1);
        vm.startPrank(late);
        vm.expectRevert(IVerifierSet.BadProofOfPossession.selector);
        verifiers.register(key, stolen, "");
        vm.expectRevert(IVerifierSet.BadProofOfPossession.selector);
        verifiers.register(new bytes(256), new bytes(128), "");
        vm.expectRevert(IVerifierSet.KeyTaken.selector);
        verifiers.register(taken, proof, "");
        verifiers.register(key, proof, "");
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.AlreadyMember.selector, late));
        verifiers.register(key, proof, "");
    }

    function test_exit__counts_until_the_second_epoch() public {
        uint64 epoch = verifiers.currentEpoch();
        vm.prank(judges[0]);
        verifiers.exit();
        assertTrue(verifiers.isActive(judges[0], epoch + 1));
        assertFalse(verifiers.isActive(judges[0], epoch + 2));
        vm.prank(judges[0]);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.NotMember.selector, judges[0], epoch));
        verifiers.exit();
    }

    function test_postDuties__closed_epoch_once() public {
        uint64 epoch = verifiers.currentEpoch();
        vm.startPrank(judges[0]);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.DutiesClosed.selector, epoch));
        verifiers.postDuties(epoch, "root", 1);
        skip(10);
        vm.expectRevert(IVerifierSet.ZeroRoot.selector);
        verifiers.postDuties(epoch, 0, 1);
        verifiers.postDuties(epoch, "root", 1);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.AlreadyPosted.selector, judges[0], epoch));
        verifiers.postDuties(epoch, "root", 1);
        vm.stopPrank();
        skip(40);
        vm.prank(judges[1]);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.DutiesClosed.selector, epoch));
        verifiers.postDuties(epoch, "root", 1);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.NotMember.selector, payer, epoch));
        verifiers.postDuties(epoch, "root", 1);
    }

    function test_verifyQuorum__all_who_remain__holds() public view {
        (uint256[] memory signers, bytes memory signature) = _signed(3);
        assertTrue(_holds(signers, signature, address(0)));
    }

    function test_verifyQuorum__one_missing_of_a_small_set__fails() public view {
        (uint256[] memory signers, bytes memory signature) = _signed(2);
        assertFalse(_holds(signers, signature, address(0)));
        assertTrue(_holds(signers, signature, judges[2]));
    }

    function test_verifyQuorum__excluded_signs__fails() public view {
        (uint256[] memory signers, bytes memory signature) = _signed(2);
        assertFalse(_holds(signers, signature, judges[0]));
    }

    function test_verifyQuorum__signer_twice_or_out_of_range__fails() public view {
        (uint256[] memory signers, bytes memory signature) = _signed(3);
        signers[1] = 0;
        assertFalse(_holds(signers, signature, address(0)));
        (signers[1], signers[2]) = (1, 7);
        assertFalse(_holds(signers, signature, address(0)));
    }

    function test_verifyQuorum__malformed_signature__fails_with_bounded_gas() public view {
        (uint256[] memory signers,) = _signed(3);
        bytes memory garbage = new bytes(128);
        garbage[127] = 0x07;
        uint256 before = gasleft();
        assertFalse(_holds(signers, garbage, address(0)));
        assertLt(before - gasleft(), 400_000);
    }

    function test_verifyQuorum__other_purpose_or_epoch__fails() public view {
        (uint256[] memory signers, bytes memory signature) = _signed(3);
        uint64 epoch = verifiers.currentEpoch();
        assertFalse(verifiers.verifyQuorum("OTHER", address(this), epoch, "payload", signers, signature, address(0)));
        assertFalse(verifiers.verifyQuorum("TEST", address(this), epoch + 1, "payload", signers, signature, address(0)));
    }

    function _signed(uint256 count) private view returns (uint256[] memory signers, bytes memory signature) {
        signature = _aggregate(verifiers.messageFor("TEST", address(this), verifiers.currentEpoch(), "payload"), count);
        signers = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            signers[i] = i;
        }
    }

    function _holds(uint256[] memory signers, bytes memory signature, address excluded) private view returns (bool) {
        return verifiers.verifyQuorum("TEST", address(this), verifiers.currentEpoch(), "payload", signers, signature, excluded);
    }
}
