// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingDelegate is Network {
    function testFuzz_delegate__then_all_back__never_profits(uint96 first, uint96 second) public {
        first = uint96(bound(first, 1 ether, 1_000_000 ether));
        second = uint96(bound(second, 1 ether, 1_000_000 ether));
        _stake(owner, STAKE);
        address other = makeAddr("other");
        _fund(other, first);
        vm.startPrank(other);
        token.approve(address(staking), first);
        staking.delegate(owner, first);
        vm.stopPrank();
        uint256 shares = _delegate(owner, second);
        vm.prank(delegator);
        assertLe(staking.undelegate(owner, uint128(shares)), second);
        assertGe(staking.delegationOf(owner, other) + 1, first);
        _assertLedgers();
    }

    function test_delegate__twice__adds_shares() public {
        uint256 a = _delegate(owner, 10 ether);
        uint256 b = _delegate(owner, 10 ether);
        assertEq(a, b);
        assertEq(staking.sharesOf(owner, delegator), a + b);
        assertEq(staking.delegationOf(owner, delegator), 20 ether);
        assertEq(staking.poolOf(owner).delegated, 20 ether);
    }

    function test_delegate__below_the_minimum__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IStaking.BelowMinimumDelegation.selector, 1 ether - 1, 1 ether));
        staking.delegate(owner, 1 ether - 1);
    }

    function test_delegate__to_oneself__reverts() public {
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IStaking.NotAllowed.selector, owner));
        staking.delegate(owner, 1 ether);
    }

    function test_delegate__after_earnings__buys_fewer_shares() public {
        uint256 before = _delegate(owner, 10 ether);
        _fund(address(staking), 10 ether);
        vm.prank(address(rewards));
        staking.creditPool(owner, 10 ether);
        uint256 later = _delegate(owner, 10 ether);
        assertApproxEqRel(later * 2, before, 1e12);
        assertApproxEqAbs(staking.delegationOf(owner, delegator), 30 ether, 10);
    }

    function test_delegate__first_depositor_inflates_the_price__steals_nothing() public {
        _delegate(owner, 1 ether);
        // All but the least share goes, then the pool earns a fortune.
        uint256 all = staking.sharesOf(owner, delegator);
        vm.prank(delegator);
        staking.undelegate(owner, uint128(all - 1));
        _fund(address(staking), 10_000 ether);
        vm.prank(address(rewards));
        staking.creditPool(owner, 10_000 ether);
        address victim = makeAddr("victim");
        _fund(victim, 1_000 ether);
        vm.startPrank(victim);
        token.approve(address(staking), 1_000 ether);
        staking.delegate(owner, 1_000 ether);
        vm.stopPrank();
        assertGe(staking.delegationOf(owner, victim), 980 ether);
    }
}
