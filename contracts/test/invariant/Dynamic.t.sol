// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../utils/Network.t.sol";
import {StaticHandler} from "./handlers/Handler.t.sol";

/// @notice The same with time, releases, disputes, appeals and slashes.
contract DynamicInvariant is StaticHandler {
    bytes32 internal openEvidence;
    IDisputes.Claim internal openClaim;
    uint256 internal slashedSoFar;
    /// @dev Of the plant in the open dispute; zero where there is none.
    bytes32 internal plantSalt;
    mapping(bytes32 evidenceId => uint256) internal slashes;

    function _actions() internal pure override returns (bytes4[] memory actions) {
        bytes4[] memory base = super._actions();
        actions = new bytes4[](base.length + 10);
        for (uint256 i; i < base.length; ++i) {
            actions[i] = base[i];
        }
        actions[base.length] = this.waitNoRevert.selector;
        actions[base.length + 1] = this.withdrawStakeNoRevert.selector;
        actions[base.length + 2] = this.withdrawDelegationNoRevert.selector;
        actions[base.length + 3] = this.withdrawDepositNoRevert.selector;
        actions[base.length + 4] = this.releaseNoRevert.selector;
        actions[base.length + 5] = this.claimRewardNoRevert.selector;
        actions[base.length + 6] = this.disputeNoRevert.selector;
        actions[base.length + 7] = this.judgeNoRevert.selector;
        actions[base.length + 8] = this.sweepNoRevert.selector;
        actions[base.length + 9] = this.plantNoRevert.selector;
    }

    function waitNoRevert(uint16 time) external {
        skip(bound(time, 1, 400));
    }

    /// @dev Property 9 and 10: only what has ended leaves, and nothing while a dispute holds it.
    function withdrawStakeNoRevert() external {
        uint32[] memory buckets = _ended(owner);
        if (buckets.length == 0) return;
        uint256 slashable = staking.slashable(owner);
        vm.prank(owner);
        staking.withdraw(buckets);
        assertEq(staking.slashable(owner), slashable);
    }

    function withdrawDelegationNoRevert(uint256 who) external {
        address account = delegators[who % DELEGATORS];
        uint32[] memory buckets = _ended(account);
        if (buckets.length == 0) return;
        uint256 slashable = staking.slashable(owner);
        vm.prank(account);
        staking.withdrawDelegation(owner, buckets);
        assertEq(staking.slashable(owner), slashable);
    }

    function withdrawDepositNoRevert() external {
        IPaymentEscrow.Deposit memory d = escrow.depositOf(payer);
        if (d.thawing == 0 || d.balance == 0 || d.thawedAt > block.timestamp) return;
        vm.prank(payer);
        escrow.withdraw();
    }

    function releaseNoRevert() external {
        if (number == 0 || staking.openDisputes(owner) != 0) return;
        uint64 batchId = number - 1;
        if (block.timestamp <= commitments.batch(owner, batchId).anchoredAt + 50) return;
        uint128 matured = commitments.maturedAmount(owner, batchId);
        if (matured <= settlement.releasedOf(owner) || settlement.heldOf(owner, modelId) == 0) return;
        _release(batchId);
        assertLe(settlement.releasedOf(owner), matured);
    }

    /// @dev Property 5.
    function claimRewardNoRevert(uint64 back) external {
        uint64 current = rewards.currentEpoch();
        uint64 epoch = current - uint64(bound(back, 0, current < 20 ? current : 20));
        uint96 cut = rewards.cutOf(owner, epoch);
        if (cut == 0 || epoch == current) return;
        assertLe(rewards.claim(owner, epoch), uint256(cut) * 9_000 / 10_000);
    }

    function disputeNoRevert(uint96 amount) external {
        if (openEvidence == 0) _dispute(amount);
    }

    /// @dev A fault on purpose, noted before its batch is anchored.
    function plantNoRevert(uint96 amount) external {
        if (openEvidence != 0) return;
        plantSalt = bytes32(uint256(number) + 1);
        token.approve(address(plants), 200 ether);
        plants.note(plants.hashOf(plantSalt, owner, payer));
        skip(1);
        _dispute(amount);
    }

    function _dispute(uint96 amount) private {
        amount = uint96(bound(amount, 1, 3 ether));
        number += 1;
        ReceiptLib.Receipt memory r = _receipt(number, amount);
        uint64 batchId = _anchor(r);
        _openDispute(r, batchId, judges[0]);
        openClaim = _claim(r, batchId);
        openEvidence = disputes.evidenceIdOf(openClaim);
    }

    /// @dev Property 12: whatever happens, the next legal step brings a dispute nearer to its end.
    function judgeNoRevert(uint8 choice) external {
        if (openEvidence == 0) return;
        (uint256 id,,) = disputes.evidence(openEvidence);
        IDisputes.Dispute memory d = disputes.dispute(id);
        bool late = block.timestamp > d.deadline;
        if (d.status == IDisputes.Status.Open && !late) {
            _verdict(openEvidence, choice % 2 == 0 ? IDisputes.Outcome.Guilty : IDisputes.Outcome.Innocent);
        } else if (d.status == IDisputes.Status.Open && d.round == IDisputes.Round.Committee) {
            disputes.escalate(openEvidence);
        } else if (d.status == IDisputes.Status.Open) {
            disputes.expire(openClaim);
        } else if (d.status == IDisputes.Status.Judged && plantSalt != 0 && d.outcome == IDisputes.Outcome.Guilty) {
            _reveal();
        } else if (d.status == IDisputes.Status.Judged && late) {
            _execute();
        } else if (d.status == IDisputes.Status.Judged && choice % 3 == 0 && d.round == IDisputes.Round.Committee) {
            _appeal(openEvidence, d.outcome == IDisputes.Outcome.Innocent ? d.challenger : d.provider);
        }
        if (uint8(disputes.dispute(id).status) > uint8(IDisputes.Status.Judged)) (openEvidence, plantSalt) = (0, 0);
    }

    function sweepNoRevert() external {
        (uint96 toTreasury, uint96 toBurn) = settlement.sweepable();
        if (toTreasury + toBurn != 0) settlement.sweep();
        if (slashedSoFar != 0) try staking.burn() {} catch {}
    }

    /// @dev A plant that was convicted costs its provider nothing, and its challenger wins the bounty. What is slashable may fall all the same: the
    /// hold ends, and with it what had ended its unbonding meanwhile is out of reach.
    function _reveal() private {
        uint256 stake = staking.stakeOf(owner) + staking.poolOf(owner).delegated;
        uint256 before = token.balanceOf(judges[0]);
        (, uint256 payerKey) = makeAddrAndKey("payer");
        bytes32 consent = plants.consentTo(plants.hashOf(plantSalt, owner, payer));
        bytes32 digest = keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", consent));
        plants.reveal(openClaim, plantSalt, _sign(payerKey, digest));
        assertEq(staking.stakeOf(owner) + staking.poolOf(owner).delegated, stake);
        assertEq(token.balanceOf(judges[0]), before + 200 ether);
    }

    /// @dev Property 4 and 14.
    function _execute() private {
        uint256 before = staking.slashable(owner);
        disputes.execute(openClaim);
        uint256 taken = before - staking.slashable(owner);
        slashedSoFar += taken;
        if (taken != 0) assertEq(++slashes[openEvidence], 1);
    }

    function _ended(address account) private view returns (uint32[] memory buckets) {
        IStaking.Account memory a = staking.accountOf(owner);
        uint256 asOf = a.holds == 0 ? block.timestamp : a.frozenSince;
        IStaking.Unbonding[] memory list = staking.unbondingsOf(owner, account, 1_000);
        buckets = new uint32[](list.length);
        uint256 n;
        for (uint256 i; i < list.length; ++i) {
            if (list[i].releaseAt <= asOf) buckets[n++] = list[i].bucket;
        }
        assembly ("memory-safe") {
            mstore(buckets, n)
        }
    }

    /// @dev Property 2: the escrow owes payers, bonds and what is earned, and no more leaves than it holds.
    function invariant_escrow__holds_payers_bonds_and_earned() public view {
        uint256 payers = uint256(escrow.depositOf(payer).balance) + escrow.limitOf(payer, gateway).reserved;
        assertEq(payers + escrow.bondOf(gateway).balance + _earned(), token.balanceOf(address(escrow)));
        assertEq(escrow.ledger(), token.balanceOf(address(escrow)));
    }

    /// @dev Property 10: what is frozen is there, and there is no freeze without a dispute.
    function invariant_frozen__is_slashable__and_ends_with_its_dispute() public view {
        IStaking.Account memory a = staking.accountOf(owner);
        assertLe(a.frozen, staking.slashable(owner));
        assertEq(a.holds, openEvidence == 0 ? 0 : 1);
        if (a.holds == 0) assertEq(a.frozen, 0);
    }

    /// @dev Property 12: bonds that are not paid are held, and all that is held is owed.
    function invariant_disputes__hold_the_bonds() public view {
        assertEq(disputes.ledger(), token.balanceOf(address(disputes)));
    }

    function invariant_plants__hold_the_bounties_that_are_not_paid() public view {
        assertEq(plants.ledger(), token.balanceOf(address(plants)));
    }

    function invariant_supply__shrinks_only_by_burning() public view {
        assertLe(token.totalSupply(), token.INITIAL_SUPPLY());
    }
}
