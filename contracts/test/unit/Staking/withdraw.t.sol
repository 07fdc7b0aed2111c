// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingWithdraw is Network {
    function _buckets(address who) private view returns (uint32[] memory buckets) {
        IStaking.Unbonding[] memory waiting = staking.unbondingsOf(owner, who, 20);
        buckets = new uint32[](waiting.length);
        for (uint256 i; i < waiting.length; ++i) {
            buckets[i] = waiting[i].bucket;
        }
    }

    function test_withdraw__after_the_period__pays_once() public {
        _stake(owner, STAKE);
        vm.startPrank(owner);
        staking.beginUnbonding(1_000 ether);
        skip(300);
        staking.beginUnbonding(2_000 ether);
        uint32[] memory buckets = _buckets(owner);
        assertEq(buckets.length, 2);
        skip(1_200);
        assertEq(staking.withdraw(buckets), 3_000 ether);
        vm.expectRevert(IStaking.NothingToWithdraw.selector);
        staking.withdraw(buckets);
        vm.stopPrank();
        assertEq(token.balanceOf(owner), 3_000 ether);
        _assertLedgers();
    }

    function testFuzz_withdraw__early__reverts(uint16 wait) public {
        wait = uint16(bound(wait, 0, 999));
        _stake(owner, STAKE);
        vm.startPrank(owner);
        staking.beginUnbonding(1_000 ether);
        uint32[] memory buckets = _buckets(owner);
        skip(wait);
        vm.expectPartialRevert(IStaking.StillUnbonding.selector);
        staking.withdraw(buckets);
        vm.stopPrank();
    }

    function test_withdraw__while_a_dispute_holds__waits_for_its_end() public {
        _stake(owner, STAKE);
        vm.prank(owner);
        staking.beginUnbonding(1_000 ether);
        uint32[] memory buckets = _buckets(owner);
        skip(990);
        vm.prank(address(disputes));
        staking.freeze(owner, 100 ether);
        skip(500);
        vm.prank(owner);
        vm.expectPartialRevert(IStaking.StillUnbonding.selector);
        staking.withdraw(buckets);
        assertEq(staking.slashable(owner), STAKE);
        vm.prank(address(disputes));
        staking.unfreeze(owner, 100 ether);
        vm.prank(owner);
        staking.withdraw(buckets);
    }

    function test_withdraw__ended_before_the_dispute__leaves_and_is_no_longer_slashable() public {
        _stake(owner, STAKE);
        vm.prank(owner);
        staking.beginUnbonding(1_000 ether);
        uint32[] memory buckets = _buckets(owner);
        skip(1_200);
        vm.startPrank(address(disputes));
        staking.freeze(owner, STAKE);
        assertEq(staking.slashable(owner), STAKE - 1_000 ether);
        assertEq(staking.slash(owner, uint96(STAKE), address(this), 0), STAKE - 1_000 ether);
        vm.stopPrank();
        vm.prank(owner);
        assertEq(staking.withdraw(buckets), 1_000 ether);
        _assertLedgers();
    }
}
