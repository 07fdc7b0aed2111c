// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingSlash is Network {
    function _slash(uint96 amount, uint16 bps) private returns (uint96) {
        vm.prank(address(disputes));
        return staking.slash(owner, amount, makeAddr("reporter"), bps);
    }

    function testFuzz_slash__moves_exactly_what_it_records(uint96 own, uint96 unbonding, uint96 delegated, uint96 leaving, uint96 amount)
        public
    {
        own = uint96(bound(own, 1, 1_000_000 ether));
        unbonding = uint96(bound(unbonding, 1, own));
        delegated = uint96(bound(delegated, 1 ether, 1_000_000 ether));
        _stake(owner, own);
        vm.prank(owner);
        staking.beginUnbonding(unbonding);
        uint256 shares = _delegate(owner, delegated);
        leaving = uint96(bound(leaving, 1e7, shares));
        vm.prank(delegator);
        staking.undelegate(owner, leaving);
        uint256 before = staking.slashable(owner);
        uint96 taken = _slash(amount, 4_000);
        assertEq(taken, amount < before ? amount : before);
        assertEq(staking.slashable(owner), before - taken);
        assertEq(token.balanceOf(makeAddr("reporter")), uint256(taken) * 4_000 / 10_000);
        _assertLedgers();
    }

    function test_slash__own_stake_first__active_before_unbonding() public {
        _stake(owner, 100 ether);
        _delegate(owner, 50 ether);
        vm.prank(owner);
        staking.beginUnbonding(40 ether);
        _slash(70 ether, 0);
        assertEq(staking.stakeOf(owner), 0);
        assertEq(staking.unbondingsOf(owner, owner, 4)[0].amount, 30 ether);
        assertEq(staking.delegationOf(owner, delegator), 50 ether);
    }

    function test_slash__pool__bears_pro_rata_with_what_unbonds() public {
        uint256 shares = _delegate(owner, 100 ether);
        vm.prank(delegator);
        staking.undelegate(owner, uint128(shares / 4));
        skip(300);
        vm.prank(delegator);
        staking.undelegate(owner, uint128(shares / 4));
        _slash(50 ether, 0);
        assertApproxEqAbs(staking.delegationOf(owner, delegator), 25 ether, 5);
        IStaking.Unbonding[] memory waiting = staking.unbondingsOf(owner, delegator, 9);
        assertApproxEqAbs(waiting[0].amount, 12.5 ether, 5);
        assertApproxEqAbs(waiting[1].amount, 12.5 ether, 5);
        _assertLedgers();
    }

    function test_slash__several_own_buckets__oldest_first() public {
        _stake(owner, 100 ether);
        vm.startPrank(owner);
        staking.beginUnbonding(40 ether);
        skip(300);
        staking.beginUnbonding(60 ether);
        vm.stopPrank();
        _slash(50 ether, 0);
        IStaking.Unbonding[] memory waiting = staking.unbondingsOf(owner, owner, 9);
        assertEq(waiting.length, 1);
        assertEq(waiting[0].amount, 50 ether);
    }

    function test_slash__frozen_by_another_dispute__is_at_most_what_is_left() public {
        _stake(owner, 100 ether);
        vm.startPrank(address(disputes));
        staking.freeze(owner, 60 ether);
        staking.freeze(owner, 40 ether);
        staking.slash(owner, 60 ether, address(this), 0);
        assertEq(staking.accountOf(owner).frozen, 40 ether);
        staking.unfreeze(owner, 60 ether);
        assertEq(staking.accountOf(owner).holds, 1);
        vm.stopPrank();
    }
}
