// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract VerifierSetBuildSet is Network {
    function test_exit__leaves_with_the_next_set() public {
        _joinVerifiers();
        vm.prank(judges[0]);
        verifiers.exit();
        assertTrue(verifiers.needsBuild());
        vm.prank(judges[0]);
        vm.expectPartialRevert(IVerifierSet.NotMember.selector);
        verifiers.exit();
        uint64 epoch = verifiers.currentEpoch();
        verifiers.buildSet();
        assertEq(verifiers.seatsOf(epoch).length, 3);
        assertEq(verifiers.seatsOf(epoch + 2).length, 2);
        assertFalse(verifiers.memberOf(judges[0]).joined);
        verifiers.buildSet();
        assertEq(verifiers.setOf(epoch + 2), 2);
    }

    function test_buildSet__below_the_minimum__is_left_out_and_weights_are_new() public {
        _joinVerifiers();
        vm.prank(judges[1]);
        staking.beginUnbonding(1);
        _stake(judges[2], 5_000 ether);
        verifiers.buildSet();
        IVerifierSet.Seat[] memory seats = verifiers.seatsOf(verifiers.currentEpoch() + 2);
        assertEq(seats.length, 2);
        assertEq(seats[1].verifier, judges[2]);
        assertEq(seats[1].weight, STAKE + 5_000 ether);
        (address none,) = verifiers.seatAt(2, 2);
        assertEq(none, address(0));
        (none,) = verifiers.seatAt(9, 0);
        assertEq(none, address(0));
    }

    function test_buildSet__nobody__reverts() public {
        vm.expectRevert(IVerifierSet.EmptySet.selector);
        verifiers.buildSet();
    }

    function test_drawCommittee__small_set__is_its_own_committee() public {
        assertEq(verifiers.drawCommittee(), 0);
        _joinVerifiers();
        assertEq(verifiers.drawCommittee(), 7);
        IVerifierSet.Panel memory panel = verifiers.committeePanel(verifiers.currentEpoch(), judges[1]);
        assertEq(panel.seats, 5);
        assertEq(verifiers.fullPanel(verifiers.currentEpoch(), address(this)).seats, 7);
        assertEq(verifiers.committeePanel(0, address(0)).setId, 0);
    }

    function test_drawCommittee__large_set__draws_once_an_epoch() public {
        _joinVerifiers(20);
        assertEq(verifiers.committeePanel(verifiers.currentEpoch(), address(0)).seats, 0);
        uint112 seats = verifiers.drawCommittee();
        uint256 count;
        for (uint256 i; i < 20; ++i) {
            count += (seats >> i) & 1;
        }
        assertEq(count, 15);
        assertEq(seats >> 20, 0);
        vm.prevrandao(uint256(7));
        assertEq(verifiers.drawCommittee(), seats);
        skip(10);
        assertTrue(verifiers.drawCommittee() != seats);
    }
}
