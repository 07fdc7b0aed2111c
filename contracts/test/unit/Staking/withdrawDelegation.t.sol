// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingWithdrawDelegation is Network {
    function _begin(uint96 amount) private returns (uint32[] memory buckets) {
        _stake(owner, STAKE);
        uint256 shares = _delegate(owner, amount);
        vm.prank(delegator);
        staking.undelegate(owner, uint128(shares));
        buckets = new uint32[](1);
        buckets[0] = staking.unbondingsOf(owner, delegator, 4)[0].bucket;
    }

    function testFuzz_withdrawDelegation__after_the_period__pays_all(uint96 amount) public {
        amount = uint96(bound(amount, 1 ether, 1_000_000 ether));
        uint32[] memory buckets = _begin(amount);
        skip(1_200);
        vm.prank(delegator);
        uint256 paid = staking.withdrawDelegation(owner, buckets);
        assertApproxEqAbs(paid, amount, 2);
        assertLe(paid, amount);
        _assertLedgers();
    }

    function test_withdrawDelegation__twice_or_by_another__reverts() public {
        uint32[] memory buckets = _begin(10 ether);
        skip(1_200);
        vm.expectRevert(IStaking.NothingToWithdraw.selector);
        staking.withdrawDelegation(owner, buckets);
        vm.startPrank(delegator);
        staking.withdrawDelegation(owner, buckets);
        vm.expectRevert(IStaking.NothingToWithdraw.selector);
        staking.withdrawDelegation(owner, buckets);
        vm.stopPrank();
    }

    function test_withdrawDelegation__early__reverts() public {
        uint32[] memory buckets = _begin(10 ether);
        skip(900);
        vm.prank(delegator);
        vm.expectPartialRevert(IStaking.StillUnbonding.selector);
        staking.withdrawDelegation(owner, buckets);
    }

    function test_withdrawDelegation__slashed_meanwhile__pays_the_rest() public {
        uint32[] memory buckets = _begin(10_000 ether);
        vm.prank(address(disputes));
        staking.slash(owner, uint96(STAKE) + 5_000 ether, address(this), 0);
        skip(1_200);
        vm.prank(delegator);
        assertApproxEqAbs(staking.withdrawDelegation(owner, buckets), 5_000 ether, 2);
        _assertLedgers();
    }
}
