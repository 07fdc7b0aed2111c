// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingSetCommission is Network {
    function test_setCommission__raise__waits_for_the_unbonding_period() public {
        vm.startPrank(owner);
        staking.setCommission(1_000);
        assertEq(staking.commissionOf(owner), 0);
        skip(1_000);
        assertEq(staking.commissionOf(owner), 1_000);
        staking.setCommission(400);
        assertEq(staking.commissionOf(owner), 400);
        staking.setCommission(900);
        assertEq(staking.commissionOf(owner), 400);
        vm.stopPrank();
    }

    function test_setCommission__above_the_cap__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IStaking.CommissionTooHigh.selector, 5_001));
        staking.setCommission(5_001);
    }

    function testFuzz_delegatorsShare__is_by_stake_less_commission(uint96 own, uint96 delegated, uint16 bps, uint96 amount) public {
        own = uint96(bound(own, 1, 1_000_000 ether));
        delegated = uint96(bound(delegated, 1 ether, 1_000_000 ether));
        bps = uint16(bound(bps, 0, 5_000));
        amount = uint96(bound(amount, 0, 1_000_000 ether));
        _stake(owner, own);
        vm.prank(owner);
        staking.setCommission(bps);
        skip(1_000);
        assertEq(staking.delegatorsShareDown(owner, amount), 0);
        _delegate(owner, delegated);
        uint256 gross = uint256(amount) * delegated / (uint256(own) + delegated);
        assertEq(staking.delegatorsShareDown(owner, amount), gross * (10_000 - bps) / 10_000);
    }
}
