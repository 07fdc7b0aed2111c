// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesExpire is Network {
    function _again(IDisputes.Claim memory claim) private {
        _openDispute(claim.receipt, claim.batchId, judges[0]);
    }

    function again(IDisputes.Claim memory claim) external {
        _again(claim);
    }

    /// @dev The slot of the evidence's record, found by what it holds.
    function _slotOf(bytes32 evidenceId) private returns (bytes32 slot) {
        vm.record();
        disputes.evidence(evidenceId);
        (bytes32[] memory reads,) = vm.accesses(address(disputes));
        return reads[0];
    }

    function test_expire__no_quorum_of_the_full_set__ends__and_may_be_brought_once_more() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        skip(121);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoAppeal.selector, 1));
        disputes.expire(claim);
        disputes.escalate(evidenceId);
        vm.expectPartialRevert(IDisputes.DeadlineNotPassed.selector);
        disputes.expire(claim);
        skip(121);
        disputes.expire(claim);
        assertEq(uint8(_statusOf(evidenceId)), uint8(IDisputes.Status.Expired));
        assertEq(disputes.owed(judges[0]), BOND);
        assertEq(escrow.depositOf(payer).balance, 10 ether);
        assertEq(staking.openDisputes(owner), 0);
        _again(claim);
        assertEq(disputes.dispute(2).provider, owner);
        skip(121);
        disputes.escalate(evidenceId);
        skip(121);
        disputes.expire(claim);
        // The job was refunded the first time.
        assertEq(escrow.depositOf(payer).balance, 10 ether);
        assertEq(settlement.refundDue(owner, payer, modelId), 0);
        _assertLedgers();
    }

    function test_expire__fee_of_the_first_verdict__is_there_after_the_evidence_is_brought_again() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _appeal(evidenceId, owner);
        skip(121);
        disputes.expire(claim);
        _again(claim);
        vm.prank(judges[1]);
        disputes.claimFee(1, IDisputes.Round.Committee, 1);
        assertEq(token.balanceOf(judges[1]), 50 ether);
        _assertLedgers();
    }

    function test_expire__brought_a_third_time__reverts() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        vm.warp(disputes.dispute(1).deadline - 120);
        vm.store(address(disputes), _slotOf(evidenceId), bytes32(uint256(1) | (uint256(2) << 64)));
        skip(121);
        disputes.escalate(evidenceId);
        skip(121);
        disputes.expire(claim);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.EvidenceClosed.selector, evidenceId));
        this.again(claim);
    }

    function test_expire__on_appeal__each_bond_returns_less_the_fee_that_was_earned() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _appeal(evidenceId, owner);
        skip(121);
        disputes.expire(claim);
        assertEq(disputes.owed(judges[0]), BOND - 100 ether);
        assertEq(disputes.owed(owner), APPEAL_BOND);
        assertEq(staking.slashable(owner), STAKE);
        _assertLedgers();
    }
}
