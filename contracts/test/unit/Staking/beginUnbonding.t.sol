// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingBeginUnbonding is Network {
    function test_beginUnbonding__part__stays_slashable() public {
        _stake(owner, STAKE);
        vm.prank(owner);
        staking.beginUnbonding(5_000 ether);
        assertEq(staking.stakeOf(owner), 15_000 ether);
        assertEq(staking.slashable(owner), STAKE);
        IStaking.Unbonding[] memory waiting = staking.unbondingsOf(owner, owner, 4);
        assertEq(waiting.length, 1);
        assertEq(waiting[0].amount, 5_000 ether);
        assertGe(waiting[0].releaseAt, block.timestamp + 1_000);
        assertLe(waiting[0].releaseAt, block.timestamp + 1_000 + staking.bucketWidth());
    }

    function test_beginUnbonding__more_than_there_is__reverts() public {
        _stake(owner, 5 ether);
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IStaking.InsufficientStake.selector, 5 ether, 6 ether));
        staking.beginUnbonding(6 ether);
        vm.prank(owner);
        vm.expectRevert(IStaking.ZeroAmount.selector);
        staking.beginUnbonding(0);
    }

    function test_beginUnbonding__fees_in_flight__keep_their_stake() public {
        _joinAll();
        uint64 batchId = _anchor(_receipt(1, 8_000 ether));
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IStaking.FeesInFlight.selector, 8_000 ether));
        staking.beginUnbonding(STAKE - 8_000 ether + 1);
        vm.prank(owner);
        staking.beginUnbonding(STAKE - 8_000 ether);
        skip(51);
        commitments.mature(owner, batchId);
        vm.prank(owner);
        staking.beginUnbonding(8_000 ether);
    }
}
