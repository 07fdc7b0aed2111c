// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract RewardPoolClaim is Network {
    address private second = makeAddr("second");

    function _record(address provider, uint96 cut) private {
        vm.prank(address(settlement));
        rewards.record(provider, cut);
    }

    function _fundPool(uint128 amount) private {
        token.approve(address(rewards), amount);
        rewards.fund(amount);
    }

    function testFuzz_claim__never_more_than_ninety_percent_of_the_cut(uint96 a, uint96 b, uint96 pool) public {
        a = uint96(bound(a, 1, 10_000 ether));
        b = uint96(bound(b, 1, 10_000 ether));
        pool = uint96(bound(pool, 1, 1_000 ether));
        _fundPool(pool);
        uint64 epoch = rewards.currentEpoch();
        _record(owner, a);
        _record(second, b);
        skip(100);
        uint256 expected = rewards.claimable(owner, epoch);
        uint256 first = rewards.claim(owner, epoch);
        assertEq(first, expected);
        uint256 other = rewards.claim(second, epoch);
        assertLe(first, uint256(a) * 9_000 / 10_000);
        assertLe(other, uint256(b) * 9_000 / 10_000);
        assertLe(first + other, 100 ether);
        // Nothing is lost: what was not paid is unallocated again.
        assertEq(rewards.unallocated() + first + other, pool);
        assertEq(token.balanceOf(owner), first);
        _assertLedgers();
    }

    function test_claim__with_delegators__they_get_their_share() public {
        _fundPool(1_000 ether);
        _stake(owner, 10_000 ether);
        _delegate(owner, 10_000 ether);
        uint64 epoch = rewards.currentEpoch();
        _record(owner, 10 ether);
        skip(100);
        assertEq(rewards.claim(owner, epoch), 9 ether);
        assertEq(token.balanceOf(owner), 4.5 ether);
        assertApproxEqAbs(staking.delegationOf(owner, delegator), 10_004.5 ether, 10);
        _assertLedgers();
    }

    function test_claim__early_twice_or_without_fees__reverts() public {
        _fundPool(1_000 ether);
        uint64 epoch = rewards.currentEpoch();
        _record(owner, 10 ether);
        assertEq(rewards.claimable(owner, epoch), 0);
        vm.expectRevert(abi.encodeWithSelector(IRewardPool.EpochOpen.selector, epoch));
        rewards.claim(owner, epoch);
        skip(100);
        rewards.claim(owner, epoch);
        vm.expectRevert(abi.encodeWithSelector(IRewardPool.NothingToClaim.selector, owner, epoch));
        rewards.claim(owner, epoch);
        vm.expectRevert(abi.encodeWithSelector(IRewardPool.NothingToClaim.selector, second, epoch));
        rewards.claim(second, epoch);
    }

    function test_claim__empty_pool__pays_nothing_and_ends() public {
        uint64 epoch = rewards.currentEpoch();
        _record(owner, 10 ether);
        skip(100);
        assertEq(rewards.claim(owner, epoch), 0);
    }

    function test_claim__emission__bounds_an_epoch() public {
        _fundPool(1_000 ether);
        uint64 epoch = rewards.currentEpoch();
        _record(owner, 1_000 ether);
        skip(100);
        assertEq(rewards.claim(owner, epoch), 100 ether);
        assertEq(rewards.unallocated(), 900 ether);
        assertTrue(rewards.epochOf(epoch).closed);
    }
}
