// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesExecute is Network {
    function test_execute__guilty__slashes_jails_refunds_and_pays_the_challenger() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        assertEq(uint8(_statusOf(evidenceId)), uint8(IDisputes.Status.Guilty));
        assertEq(staking.slashable(owner), STAKE - 1_000 ether);
        assertEq(staking.openDisputes(owner), 0);
        assertEq(token.balanceOf(judges[0]), 400 ether);
        assertEq(disputes.owed(judges[0]), BOND - 100 ether);
        assertEq(escrow.depositOf(payer).balance, 10 ether);
        assertFalse(providers.isServing(owner));
        assertEq(commitments.auditRate(owner), 3_000_000);
        (,, bool closed) = disputes.evidence(evidenceId);
        assertTrue(closed);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongStatus.selector, 1, IDisputes.Status.Guilty));
        disputes.execute(claim);
        _assertLedgers();
    }

    function test_execute__innocent__gives_the_bond_to_the_accused() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Innocent);
        skip(61);
        disputes.execute(claim);
        assertEq(uint8(_statusOf(evidenceId)), uint8(IDisputes.Status.Innocent));
        assertEq(disputes.owed(owner), BOND - 100 ether);
        assertEq(staking.slashable(owner), STAKE);
        assertEq(staking.accountOf(owner).frozen, 0);
        assertTrue(providers.isServing(owner));
        assertEq(escrow.depositOf(payer).balance, 0);
    }

    function test_execute__lost_appeal__the_winner_takes_both_bonds() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _appeal(evidenceId, owner);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        assertEq(disputes.owed(judges[0]), BOND - 100 ether + APPEAL_BOND - 200 ether);
        assertEq(disputes.owed(owner), 0);
    }

    function test_execute__won_appeal__the_accused_takes_both_bonds() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _appeal(evidenceId, owner);
        _verdict(evidenceId, IDisputes.Outcome.Innocent);
        skip(61);
        disputes.execute(claim);
        assertEq(disputes.owed(owner), BOND - 100 ether + APPEAL_BOND - 200 ether);
        assertEq(staking.slashable(owner), STAKE);
    }

    function test_execute__unattested__refunds_and_slashes_nothing() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers();
        _fundPayer(10 ether);
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        assertEq(staking.slashable(owner), STAKE);
        assertEq(escrow.depositOf(payer).balance, 10 ether);
        assertTrue(providers.isServing(owner));
    }

    function test_execute__full_set_of_a_large_network__at_once() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers(9);
        _attest();
        _fundPayer(10 ether);
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _appeal(evidenceId, owner);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(1);
        disputes.execute(claim);
        assertEq(staking.slashable(owner), STAKE / 2);
    }

    function test_execute__another_claim__reverts() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        claim.receipt.amount = 50 ether;
        vm.expectPartialRevert(IDisputes.WrongClaim.selector);
        disputes.execute(claim);
    }

    function test_execute__disputes_of_two_kinds__return_the_fee_once() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _fund(judges[0], BOND);
        vm.startPrank(judges[0]);
        token.approve(address(disputes), BOND);
        disputes.open(claim.receipt, claim.batchId, new bytes32[](0), IDisputes.Kind.Withheld);
        vm.stopPrank();
        IDisputes.Claim memory other = _claim(claim.receipt, claim.batchId);
        other.kind = IDisputes.Kind.Withheld;
        bytes32 otherId = disputes.evidenceIdOf(other);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _verdict(otherId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        disputes.execute(other);
        assertEq(escrow.depositOf(payer).balance, 10 ether);
        assertEq(settlement.refundDue(owner, payer, modelId), 0);
        _assertLedgers();
    }

    function test_execute__hidden__slashes_and_jails__and_refunds_nobody() public {
        _joinAll();
        ReceiptLib.Receipt memory r = _receipt(1, 10 ether);
        uint64 batchId = _anchor(r);
        _redeem(10 ether);
        ReceiptLib.Receipt memory blank;
        (blank.provider, blank.number) = (owner, 1);
        _openHidden(blank, batchId, judges[0]);
        IDisputes.Claim memory claim = _hiddenClaim(blank, batchId);
        bytes32 evidenceId = disputes.evidenceIdOf(claim);
        skip(disputes.parameters().evidencePeriod);
        _verdict(evidenceId, IDisputes.Outcome.Withheld);
        skip(61);
        disputes.execute(claim);
        assertEq(staking.slashable(owner), STAKE - 1_000 ether);
        assertFalse(providers.isServing(owner));
        assertEq(disputes.owed(judges[0]), BOND - 100 ether);
        assertEq(escrow.depositOf(payer).balance, 0);
        assertEq(settlement.refundDue(owner, payer, modelId), 0);
        assertEq(settlement.refundDue(owner, address(0), bytes32(0)), 0);
        assertEq(settlement.heldOf(owner, modelId), 10 ether);
        _assertLedgers();
    }
}
