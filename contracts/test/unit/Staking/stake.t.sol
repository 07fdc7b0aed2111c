// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingStake is Network {
    function testFuzz_stake__any_amount__counts_and_is_held(uint96 amount) public {
        amount = uint96(bound(amount, 1, 1_000_000 ether));
        _stake(owner, amount);
        assertEq(staking.stakeOf(owner), amount);
        assertEq(staking.slashable(owner), amount);
        _assertLedgers();
    }

    function test_stake__by_another__only_adds() public {
        _stake(owner, 5 ether);
        _stake(owner, 7 ether);
        assertEq(staking.stakeOf(owner), 12 ether);
        assertEq(staking.accountOf(owner).holds, 0);
    }

    function test_stake__nothing__reverts() public {
        vm.expectRevert(IStaking.ZeroAmount.selector);
        staking.stake(owner, 0);
    }

    function test_stake__paused__reverts_and_unbonding_does_not() public {
        _stake(owner, 5 ether);
        staking.pause(staking.stake.selector);
        token.approve(address(staking), 1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(Guarded.Paused.selector, staking.stake.selector, uint64(block.timestamp) + staking.PAUSE_PERIOD())
        );
        staking.stake(owner, 1 ether);
        vm.prank(owner);
        staking.beginUnbonding(1 ether);
    }
}
