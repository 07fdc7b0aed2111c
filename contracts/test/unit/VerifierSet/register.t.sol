// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract VerifierSetRegister is Network {
    function _join(uint256 secret, address who) private {
        bytes memory key = Bls.publicKey(secret);
        bytes memory proof = Bls.sign(secret, _possession(who, key));
        vm.prank(who);
        verifiers.register(key, proof, "x");
    }

    function join(uint256 secret, address who) external {
        _join(secret, who);
    }

    function test_register__counts_two_epochs_after_the_set_is_built() public {
        _stake(owner, STAKE);
        _join(1, owner);
        assertTrue(verifiers.needsBuild());
        uint64 epoch = verifiers.currentEpoch();
        verifiers.buildSet();
        assertFalse(verifiers.needsBuild());
        assertEq(verifiers.setOf(epoch + 1), 0);
        assertEq(verifiers.setOf(epoch + 2), 1);
        assertEq(verifiers.totalWeight(epoch + 1), 0);
        assertEq(verifiers.seatsOf(epoch + 1).length, 0);
        IVerifierSet.Seat[] memory seats = verifiers.seatsOf(epoch + 2);
        assertEq(seats.length, 1);
        assertEq(seats[0].verifier, owner);
        assertEq(seats[0].weight, STAKE);
        assertEq(seats[0].publicKey, Bls.publicKey(1));
        assertEq(seats[0].endpoint, "x");
        assertEq(verifiers.totalWeight(epoch + 2), STAKE);
        assertEq(verifiers.epochStart(epoch), 1_000_000 + epoch * 10);
    }

    function test_register__bad__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.StakeBelowMinimum.selector, 0, 20_000 ether));
        this.join(1, owner);
        _stake(owner, STAKE);
        _stake(payer, STAKE);
        bytes memory key = Bls.publicKey(1);
        bytes memory proofForOther = Bls.sign(1, _possession(payer, key));
        vm.prank(owner);
        vm.expectRevert(IVerifierSet.BadProofOfPossession.selector);
        verifiers.register(key, proofForOther, "x");
        _join(1, owner);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.AlreadyMember.selector, owner));
        this.join(2, owner);
        vm.expectRevert(IVerifierSet.KeyTaken.selector);
        this.join(1, payer);
    }

    function test_register__paused__reverts_and_exit_does_not() public {
        _stake(owner, STAKE);
        _join(1, owner);
        verifiers.pause(verifiers.register.selector);
        _stake(payer, STAKE);
        vm.expectPartialRevert(Guarded.Paused.selector);
        this.join(2, payer);
        vm.prank(owner);
        verifiers.exit();
    }
}
