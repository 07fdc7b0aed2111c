// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesOpen is Network {
    function test_open__takes_the_bond__and_freezes_what_a_slash_would_take() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        IDisputes.Dispute memory d = disputes.dispute(1);
        assertEq(d.provider, owner);
        assertEq(d.challenger, judges[0]);
        assertEq(d.frozen, 1_000 ether);
        assertEq(d.deadline, block.timestamp + 120);
        assertEq(staking.openDisputes(owner), 1);
        assertEq(staking.accountOf(owner).frozen, 1_000 ether);
        assertEq(disputes.disputeCount(), 1);
        (uint256 id, uint8 attempts, bool closed) = disputes.evidence(evidenceId);
        assertEq(id, 1);
        assertEq(attempts, 1);
        assertFalse(closed);
        assertEq(uint8(d.status), uint8(IDisputes.Status.Open));
        _assertLedgers();
    }

    function test_open__before_attestation__holds_and_freezes_nothing() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers();
        _fundPayer(10 ether);
        _disputed(1 ether);
        assertEq(disputes.dispute(1).frozen, 0);
        assertEq(staking.openDisputes(owner), 1);
    }

    function test_open__large_network__freezes_half() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers(8);
        _attest();
        _fundPayer(10 ether);
        _disputed(1 ether);
        assertEq(disputes.dispute(1).frozen, 10_000 ether);
    }

    function test_open__bad_kind_not_anchored_late_or_twice__reverts() public {
        _joinAll();
        ReceiptLib.Receipt memory r = _receipt(1, 1 ether);
        uint64 batchId = _anchor(r);
        bytes32[] memory proof = new bytes32[](0);
        vm.expectRevert(IDisputes.BadKind.selector);
        disputes.open(r, batchId, proof, IDisputes.Kind.None);
        r.amount = 2 ether;
        vm.expectRevert(IDisputes.NotAnchored.selector);
        disputes.open(r, batchId, proof, IDisputes.Kind.Output);
        r.amount = 1 ether;
        _openDispute(r, batchId, judges[0]);
        bytes32 evidenceId = disputes.evidenceIdOf(_claim(r, batchId));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.EvidenceClosed.selector, evidenceId));
        disputes.open(r, batchId, proof, IDisputes.Kind.Output);
        uint256 until = block.timestamp + 300;
        skip(301);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WindowOver.selector, until));
        disputes.open(r, batchId, proof, IDisputes.Kind.Withheld);
    }

    function _blank(uint64 number) private view returns (ReceiptLib.Receipt memory r) {
        (r.provider, r.number) = (owner, number);
    }

    function test_open__hidden__is_about_the_whole_batch__and_freezes_without_attestation() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers();
        _anchor(_receipt(1, 1 ether));
        uint64 batchId = _anchor(_receipt(2, 1 ether));
        _openHidden(_blank(2), batchId, judges[0]);
        assertEq(disputes.dispute(1).frozen, 1_000 ether);
        assertEq(staking.openDisputes(owner), 1);
        // One list, one dispute.
        bytes32 evidenceId = disputes.evidenceIdOf(_hiddenClaim(_blank(2), batchId));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.EvidenceClosed.selector, evidenceId));
        disputes.open(_blank(2), batchId, new bytes32[](0), IDisputes.Kind.Hidden);
        _assertLedgers();
    }

    function test_open__hidden__that_names_more_or_another_batch__reverts() public {
        _joinAll();
        ReceiptLib.Receipt memory r = _receipt(1, 1 ether);
        uint64 batchId = _anchor(r);
        vm.expectRevert(IDisputes.NotAnchored.selector);
        disputes.open(r, batchId, new bytes32[](0), IDisputes.Kind.Hidden);
        ReceiptLib.Receipt memory blank = _blank(2);
        vm.expectRevert(IDisputes.NotAnchored.selector);
        disputes.open(blank, batchId, new bytes32[](0), IDisputes.Kind.Hidden);
        blank = _blank(1);
        blank.payer = payer;
        vm.expectRevert(IDisputes.NotAnchored.selector);
        disputes.open(blank, batchId, new bytes32[](0), IDisputes.Kind.Hidden);
        // Nor is a receipt that only names the list one of its receipts.
        blank = _blank(1);
        vm.expectRevert(IDisputes.NotAnchored.selector);
        disputes.open(blank, batchId, new bytes32[](0), IDisputes.Kind.Withheld);
        skip(301);
        vm.expectPartialRevert(IDisputes.WindowOver.selector);
        disputes.open(blank, batchId, new bytes32[](0), IDisputes.Kind.Hidden);
    }
}
