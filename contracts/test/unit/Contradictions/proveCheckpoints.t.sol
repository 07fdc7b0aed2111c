// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CheckpointLib} from "../../../src/libraries/CheckpointLib.sol";
import "../../utils/Network.t.sol";

abstract contract ContradictionsProveCheckpoints is Network {
    function _point() private view returns (CheckpointLib.Checkpoint memory p) {
        (p.jobId, p.provider, p.epoch, p.endLayer, p.count) = ("job", owner, 0, 30, 10);
        (p.rootIn, p.rootOut, p.previous, p.upstream) = ("in", "out", "before", "sender");
    }

    function _signed(CheckpointLib.Checkpoint memory p) private view returns (bytes memory) {
        bytes32 domain = ReceiptLib.domainSeparator(address(commitments));
        return _sign(operatorKey, keccak256(abi.encodePacked(hex"1901", domain, CheckpointLib.structHash(p))));
    }

    /// @dev A receipt that names `_point()`, anchored, and a note to prove something about it.
    function _anchoredPoint() private returns (IContradictions.Anchored memory anchored) {
        _joinProvider();
        ReceiptLib.Receipt memory r = _receipt(1, 10 ether);
        r.checkpoint = CheckpointLib.structHash(_point());
        anchored = IContradictions.Anchored(r, _anchor(r), new bytes32[](0));
        contradictions.note(keccak256(abi.encode(owner, uint64(1), address(this), bytes32("salt"))));
        skip(1);
    }

    function test_proveCheckpoints__two_roots_for_the_same_rows__slashes_once() public {
        IContradictions.Anchored memory anchored = _anchoredPoint();
        CheckpointLib.Checkpoint memory other = _point();
        // Its own way there, and other rows at its end.
        (other.previous, other.upstream, other.rootOut) = ("elsewhere", 0, "other");
        bytes memory signature = _signed(other);
        uint256 before = token.balanceOf(address(this));
        contradictions.proveCheckpoints(other, signature, _point(), anchored, "salt");
        assertEq(staking.slashable(owner), STAKE / 2);
        assertEq(token.balanceOf(address(this)) - before, 4_000 ether);
        assertFalse(providers.isServing(owner));
        vm.expectRevert(abi.encodeWithSelector(IContradictions.AlreadyProven.selector, owner, 1));
        contradictions.proveCheckpoints(other, signature, _point(), anchored, "salt");
        _assertLedgers();
    }

    function test_proveCheckpoints__other_rows_in__slashes() public {
        IContradictions.Anchored memory anchored = _anchoredPoint();
        CheckpointLib.Checkpoint memory other = _point();
        other.rootIn = "other";
        contradictions.proveCheckpoints(other, _signed(other), _point(), anchored, "salt");
        assertEq(staking.slashable(owner), STAKE / 2);
    }

    function test_proveCheckpoints__not_the_same_rows__is_no_contradiction() public {
        IContradictions.Anchored memory anchored = _anchoredPoint();
        for (uint256 i; i < 8; ++i) {
            CheckpointLib.Checkpoint memory other = _point();
            if (i != 0) other.rootOut = "other";
            if (i == 0) (other.previous, other.upstream) = ("elsewhere", "elsewhere");
            else if (i == 1) other.count = 9;
            else if (i == 2) other.firstPosition = 1;
            else if (i == 3) other.epoch = 1;
            else if (i == 4) other.jobId = "another";
            else if (i == 5) other.firstLayer = 10;
            else if (i == 6) other.endLayer = 20;
            else other.provider = payer;
            bytes memory signature = _signed(other);
            vm.expectRevert(IContradictions.NoContradiction.selector);
            contradictions.proveCheckpoints(other, signature, _point(), anchored, "salt");
        }
    }

    function test_proveCheckpoints__by_another_or_of_another_receipt__is_no_contradiction() public {
        IContradictions.Anchored memory anchored = _anchoredPoint();
        CheckpointLib.Checkpoint memory other = _point();
        other.rootOut = "other";
        bytes memory signature = _sign(gatewayKey, keccak256("x"));
        vm.expectRevert(IContradictions.NoContradiction.selector);
        contradictions.proveCheckpoints(other, signature, _point(), anchored, "salt");
        signature = _signed(other);
        CheckpointLib.Checkpoint memory named = _point();
        named.rootIn = "not what the receipt names";
        vm.expectRevert(IContradictions.NoContradiction.selector);
        contradictions.proveCheckpoints(other, signature, named, anchored, "salt");
        vm.expectPartialRevert(IContradictions.NotNoted.selector);
        contradictions.proveCheckpoints(other, signature, _point(), anchored, "another salt");
        anchored.receipt.amount = 1;
        vm.expectRevert(IContradictions.NotAnchored.selector);
        contradictions.proveCheckpoints(other, signature, _point(), anchored, "salt");
        anchored.receipt.amount = 10 ether;
        skip(301);
        vm.expectPartialRevert(IContradictions.WindowOver.selector);
        contradictions.proveCheckpoints(other, signature, _point(), anchored, "salt");
    }
}
