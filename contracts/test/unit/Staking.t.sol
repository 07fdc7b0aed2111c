// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {IStaking} from "../../src/interfaces/IStaking.sol";
import {Network} from "../utils/Network.t.sol";

contract StakingTest is Network {
    function testFuzz_stake__any_amount__counts_and_is_held(uint128 amount) public {
        amount = uint128(bound(amount, 1, 1e27));
        _stake(owner, amount);
        assertEq(staking.stakeOf(owner), amount);
        _assertLedgers();
    }

    function test_stake__zero__reverts() public {
        vm.expectRevert(IStaking.ZeroAmount.selector);
        staking.stake(owner, 0);
    }

    function testFuzz_beginUnbonding__part__stays_slashable(uint128 amount, uint128 part) public {
        amount = uint128(bound(amount, 1, 1e27));
        part = uint128(bound(part, 1, amount));
        _stake(owner, amount);
        vm.prank(owner);
        staking.beginUnbonding(part);
        assertEq(staking.stakeOf(owner), amount - part);
        assertEq(staking.slashable(owner), amount);
    }

    function test_beginUnbonding__more_than_active__reverts() public {
        _stake(owner, 5);
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IStaking.InsufficientStake.selector, 5, 6));
        staking.beginUnbonding(6);
    }

    function test_beginUnbonding__seventeenth__reverts() public {
        _stake(owner, 100);
        vm.startPrank(owner);
        for (uint256 i; i < 16; ++i) {
            staking.beginUnbonding(1);
        }
        vm.expectRevert(abi.encodeWithSelector(IStaking.TooManyUnbondings.selector, 16));
        staking.beginUnbonding(1);
    }

    function test_withdraw__before_the_period__reverts() public {
        _stake(owner, 100);
        vm.startPrank(owner);
        staking.beginUnbonding(40);
        skip(staking.unbondingPeriod() - 1);
        vm.expectRevert(IStaking.NothingToWithdraw.selector);
        staking.withdraw();
    }

    function test_withdraw__after_the_period__pays() public {
        _stake(owner, 100);
        vm.startPrank(owner);
        staking.beginUnbonding(40);
        skip(staking.unbondingPeriod());
        assertEq(staking.withdraw(), 40);
        assertEq(token.balanceOf(owner), 40);
        assertEq(staking.slashable(owner), 60);
        _assertLedgers();
    }

    function test_withdraw__frozen__leaves_what_is_frozen() public {
        _stake(owner, 100);
        vm.prank(owner);
        staking.beginUnbonding(100);
        vm.prank(address(disputes));
        staking.freeze(owner, 70);
        skip(staking.unbondingPeriod());
        vm.startPrank(owner);
        assertEq(staking.withdraw(), 30);
        vm.expectRevert(IStaking.NothingToWithdraw.selector);
        staking.withdraw();
    }

    function test_freeze__more_than_there_is__is_capped() public {
        _stake(owner, 100);
        vm.prank(address(disputes));
        assertEq(staking.freeze(owner, 150), 100);
        vm.prank(address(disputes));
        staking.unfreeze(owner, 100);
        assertEq(staking.accountOf(owner).frozen, 0);
    }

    function testFuzz_slash__active_then_unbonding__moves_what_it_records(uint128 amount, uint128 part, uint128 taken) public {
        amount = uint128(bound(amount, 1, 1e27));
        part = uint128(bound(part, 0, amount));
        taken = uint128(bound(taken, 1, 2e27));
        _stake(owner, amount);
        if (part != 0) {
            vm.prank(owner);
            staking.beginUnbonding(part);
        }
        uint256 supply = token.totalSupply();
        vm.prank(address(disputes));
        uint128 slashed = staking.slash(owner, taken, creator, 4_000);
        assertEq(slashed, taken < amount ? taken : amount);
        assertEq(staking.slashable(owner), amount - slashed);
        assertEq(token.balanceOf(creator), uint256(slashed) * 4_000 / 10_000);
        assertEq(supply - token.totalSupply(), slashed - token.balanceOf(creator));
        _assertLedgers();
    }

    function test_slash__unbonding_begun_before__cannot_be_outrun() public {
        _stake(owner, 100);
        vm.prank(owner);
        staking.beginUnbonding(100);
        vm.prank(address(disputes));
        assertEq(staking.slash(owner, 60, creator, 0), 60);
        skip(staking.unbondingPeriod());
        vm.prank(owner);
        assertEq(staking.withdraw(), 40);
    }

    function test_slash__stranger__is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, payer));
        vm.prank(payer);
        staking.slash(owner, 1, payer, 0);
    }
}
