// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract VerifierSetBuildSet is Network {
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
}
