// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputes} from "../../src/interfaces/IDisputes.sol";
import {ISettlement} from "../../src/interfaces/ISettlement.sol";
import {ReceiptLib} from "../../src/libraries/ReceiptLib.sol";
import {Network} from "../utils/Network.t.sol";

contract DisputesTest is Network {
    ReceiptLib.Receipt internal receipt;
    uint64 internal batchId;

    function setUp() public override {
        super.setUp();
        _registerModel(500);
        _joinProvider();
        _joinVerifiers();
        _attest();
        _fundPayer(100 ether);
        receipt = _receipt(1, 10 ether);
        batchId = _anchor(receipt);
    }

    function test_open__anchored__takes_the_bond_and_freezes() public {
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        assertEq(staking.accountOf(owner).frozen, uint256(STAKE) * 500 / 10_000);
        assertEq(disputes.openAgainst(owner), 1);
        assertEq(uint8(disputes.dispute(id).status), uint8(IDisputes.Status.Open));
        _assertLedgers();
    }

    function test_open__changed_receipt__reverts() public {
        receipt.amount += 1;
        vm.expectRevert(IDisputes.NotAnchored.selector);
        disputes.open(receipt, batchId, new bytes32[](0), IDisputes.Kind.Output);
    }

    function test_open__same_evidence_twice__reverts() public {
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        bytes32 evidenceId = disputes.dispute(id).evidenceId;
        vm.expectRevert(abi.encodeWithSelector(IDisputes.EvidenceClosed.selector, evidenceId));
        disputes.open(receipt, batchId, new bytes32[](0), IDisputes.Kind.Output);
    }

    function test_open__no_kind__reverts() public {
        vm.expectRevert(IDisputes.BadKind.selector);
        disputes.open(receipt, batchId, new bytes32[](0), IDisputes.Kind.None);
    }

    function test_open__window_over__reverts() public {
        uint256 until = block.timestamp + 300;
        skip(301);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WindowOver.selector, until));
        disputes.open(receipt, batchId, new bytes32[](0), IDisputes.Kind.Output);
    }

    function test_verdict__guilty__slashes_jails_refunds_and_pays() public {
        _redeem(10 ether);
        uint256 held = settlement.heldOf(owner).net;
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        _verdict(id, true);
        uint256 slashed = uint256(STAKE) * 500 / 10_000;
        assertEq(staking.slashable(owner), STAKE - slashed);
        assertEq(token.balanceOf(judges[0]), slashed * 4_000 / 10_000);
        assertEq(disputes.owed(judges[0]), 900 ether);
        assertEq(disputes.owed(judges[1]), 50 ether);
        assertEq(disputes.owed(judges[2]), 50 ether);
        assertEq(escrow.depositOf(payer).balance, 90 ether + held);
        assertFalse(providers.isServing(owner));
        assertEq(staking.accountOf(owner).frozen, 0);
        _assertLedgers();
    }

    function test_verdict__innocent__bond_goes_to_the_accused_and_judges() public {
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        _verdict(id, false);
        assertEq(staking.slashable(owner), STAKE);
        assertEq(disputes.owed(owner), 900 ether);
        assertEq(disputes.owed(judges[1]), 50 ether);
        vm.prank(owner);
        assertEq(disputes.withdraw(), 900 ether);
        _assertLedgers();
    }

    function test_verdict__challenger_judges__reverts() public {
        uint256 id = _openDispute(receipt, batchId, judges[1]);
        (uint256[] memory signers, bytes memory signature) = _signedVerdict(id, true);
        vm.expectRevert(IDisputes.NoQuorum.selector);
        disputes.verdict(id, true, signers, signature);
    }

    function test_verdict__signature_for_the_other_verdict__reverts() public {
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        (uint256[] memory signers, bytes memory signature) = _signedVerdict(id, false);
        vm.expectRevert(IDisputes.NoQuorum.selector);
        disputes.verdict(id, true, signers, signature);
    }

    function test_verdict__twice__reverts() public {
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        _verdict(id, true);
        (uint256[] memory signers, bytes memory signature) = _signedVerdict(id, true);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotOpen.selector, id));
        disputes.verdict(id, true, signers, signature);
    }

    function test_verdict__after_the_deadline__reverts() public {
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        (uint256[] memory signers, bytes memory signature) = _signedVerdict(id, true);
        skip(121);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DeadlinePassed.selector, block.timestamp - 1));
        disputes.verdict(id, true, signers, signature);
    }

    function test_verdict__tolerance_not_attested__only_refunds() public {
        // A second model without attestation, served by the same provider.
        bytes32 attested = modelId;
        modelId = keccak256("another");
        ReceiptLib.Receipt memory other = _receipt(2, 1 ether);
        uint64 otherBatch = _anchor(other);
        uint256 id = _openDispute(other, otherBatch, judges[0]);
        _verdict(id, true);
        assertEq(staking.slashable(owner), STAKE);
        assertEq(settlement.refundDue(owner, payer), 1 ether);
        modelId = attested;
    }

    function test_expire__no_quorum__returns_the_bond_and_leaves_the_evidence_open() public {
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        uint64 deadline = disputes.dispute(id).deadline;
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DeadlineNotPassed.selector, deadline));
        disputes.expire(id);
        skip(121);
        disputes.expire(id);
        assertEq(disputes.owed(judges[0]), 1_000 ether);
        assertEq(staking.accountOf(owner).frozen, 0);
        _openDispute(receipt, batchId, judges[1]);
    }

    function test_release__dispute_open__waits() public {
        _redeem(10 ether);
        skip(51);
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.DisputeOpen.selector, owner));
        settlement.release(owner, batchId);
        _verdict(id, false);
        settlement.release(owner, batchId);
    }

    function test_verdict__unbonding_begun_before__is_slashed_all_the_same() public {
        vm.prank(owner);
        staking.beginUnbonding(STAKE);
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        _verdict(id, true);
        assertEq(staking.slashable(owner), STAKE - uint256(STAKE) * 500 / 10_000);
    }

    function test_setParameters__past_the_bounds__reverts() public {
        IDisputes.Parameters memory p = disputes.parameters();
        p.smallNetworkSlashBps = 501;
        vm.expectRevert(IDisputes.BadParameters.selector);
        disputes.setParameters(p);
    }

    function test_setParameters__open_dispute__keeps_its_own() public {
        uint256 id = _openDispute(receipt, batchId, judges[0]);
        IDisputes.Parameters memory p = disputes.parameters();
        p.smallNetworkSlashBps = 0;
        disputes.setParameters(p);
        _verdict(id, true);
        assertEq(staking.slashable(owner), STAKE - uint256(STAKE) * 500 / 10_000);
    }

    function test_withdraw__nothing_owed__reverts() public {
        vm.expectRevert(IDisputes.NothingOwed.selector);
        disputes.withdraw();
    }
}
