// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReceiptLib} from "../../src/libraries/ReceiptLib.sol";
import {Network} from "../utils/Network.t.sol";

/// @notice Whatever the parties do in whatever order, the ledgers equal the balances and no FUNC appears or is lost.
/// @dev The contract is its own handler: each action bounds its input so that it never reverts.
contract ConservationInvariant is Network {
    uint64 internal number;
    uint128 internal cumulative;
    uint256 internal openDisputeId = type(uint256).max;

    function setUp() public override {
        super.setUp();
        _registerModel(500);
        _joinProvider();
        _joinVerifiers();
        _attest();
        _fundPayer(1_000 ether);
        _bond(500 ether, 500 ether);
        targetContract(address(this));
        bytes4[] memory actions = new bytes4[](10);
        actions[0] = this.stakeNoRevert.selector;
        actions[1] = this.unbondNoRevert.selector;
        actions[2] = this.withdrawStakeNoRevert.selector;
        actions[3] = this.depositNoRevert.selector;
        actions[4] = this.thawNoRevert.selector;
        actions[5] = this.redeemNoRevert.selector;
        actions[6] = this.anchorNoRevert.selector;
        actions[7] = this.releaseNoRevert.selector;
        actions[8] = this.disputeNoRevert.selector;
        actions[9] = this.judgeNoRevert.selector;
        targetSelector(FuzzSelector(address(this), actions));
    }

    function stakeNoRevert(uint128 amount) external {
        _stake(owner, uint128(bound(amount, 1, 1_000 ether)));
    }

    function unbondNoRevert(uint128 amount) external {
        uint256 active = staking.stakeOf(owner);
        if (active == 0 || staking.unbondingsOf(owner).length == 16) return;
        vm.prank(owner);
        staking.beginUnbonding(uint128(bound(amount, 1, active)));
    }

    function withdrawStakeNoRevert(uint16 wait) external {
        skip(wait);
        uint256 before = token.balanceOf(owner);
        uint256 slashable = staking.slashable(owner);
        vm.prank(owner);
        try staking.withdraw() returns (uint256 amount) {
            assertEq(token.balanceOf(owner) - before, amount);
            assertEq(staking.slashable(owner), slashable - amount);
        } catch {}
    }

    function depositNoRevert(uint128 amount) external {
        amount = uint128(bound(amount, 1, 100 ether));
        token.approve(address(escrow), amount);
        escrow.deposit(payer, amount);
    }

    function thawNoRevert(uint128 amount) external {
        uint256 balance = escrow.depositOf(payer).balance;
        if (balance == 0) return;
        vm.startPrank(payer);
        escrow.startWithdrawal(uint128(bound(amount, 1, balance)));
        skip(600);
        escrow.withdraw();
        vm.stopPrank();
    }

    function redeemNoRevert(uint128 amount) external {
        cumulative += uint128(bound(amount, 1, 10 ether));
        _redeem(cumulative);
    }

    function anchorNoRevert(uint128 amount) external {
        number += 1;
        _anchor(_receipt(number, uint128(bound(amount, 1, 10 ether))));
    }

    function releaseNoRevert() external {
        if (number == 0) return;
        skip(51);
        try settlement.release(owner, number - 1) {} catch {}
    }

    function disputeNoRevert() external {
        if (number == 0 || openDisputeId != type(uint256).max) return;
        ReceiptLib.Receipt memory r = _receipt(++number, 3 ether);
        openDisputeId = _openDispute(r, _anchor(r), judges[0]);
    }

    function judgeNoRevert(bool guilty) external {
        if (openDisputeId == type(uint256).max) return;
        if (block.timestamp > disputes.dispute(openDisputeId).deadline) disputes.expire(openDisputeId);
        else _verdict(openDisputeId, guilty);
        openDisputeId = type(uint256).max;
    }

    function invariant_ledgers_equal_balances() public view {
        _assertLedgers();
    }

    function invariant_supply_is_held_by_known_accounts() public view {
        uint256 sum = token.balanceOf(address(staking)) + token.balanceOf(address(escrow)) + token.balanceOf(address(settlement))
            + token.balanceOf(address(disputes)) + token.balanceOf(address(this)) + token.balanceOf(owner) + token.balanceOf(creator)
            + token.balanceOf(payer) + token.balanceOf(gateway);
        for (uint256 i; i < VERIFIERS; ++i) {
            sum += token.balanceOf(judges[i]);
        }
        assertEq(sum, token.totalSupply());
    }

    function invariant_stake_adds_up() public view {
        uint256 sum = staking.slashable(owner);
        for (uint256 i; i < VERIFIERS; ++i) {
            sum += staking.slashable(judges[i]);
        }
        assertEq(sum, staking.ledger());
        assertLe(staking.accountOf(owner).frozen, staking.slashable(owner));
    }
}
