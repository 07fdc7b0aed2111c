// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PinsPin is Network {
    function _pinnable() private returns (IPins.Anchored memory r, bytes memory signature) {
        _joinProvider();
        _joinVerifiers();
        ReceiptLib.Receipt memory receipt = _receipt(1, 1 ether);
        uint64 batchId = _anchor(receipt);
        r = IPins.Anchored(owner, batchId, ReceiptLib.leaf(receipt), new bytes32[](0));
        uint64 epoch = commitments.batch(owner, batchId).epoch;
        signature = Bls.sign(2, verifiers.messageFor("DUTY", address(verifiers), epoch, commitments.tip(epoch)));
    }

    function test_pin__by_who_drew_it__keeps_the_rows() public {
        (IPins.Anchored memory r, bytes memory signature) = _pinnable();
        vm.prank(judges[1]);
        pins.pin(r, 1, signature);
        assertEq(pins.pinnedUntil(owner, 0, r.leaf), block.timestamp + 700);
        vm.prank(judges[1]);
        vm.expectRevert(IPins.AlreadyPinned.selector);
        pins.pin(r, 1, signature);
    }

    function test_pin__not_anchored_late_or_not_the_holder__reverts() public {
        (IPins.Anchored memory r, bytes memory signature) = _pinnable();
        bytes32 leaf = r.leaf;
        vm.startPrank(judges[1]);
        r.leaf = "other";
        vm.expectRevert(IPins.NotAnchored.selector);
        pins.pin(r, 1, signature);
        r.leaf = leaf;
        uint64 epoch = commitments.batch(owner, 0).epoch;
        vm.expectRevert(abi.encodeWithSelector(IPins.BadDutySignature.selector, epoch, 0));
        pins.pin(r, 0, signature);
        bytes memory wrong = Bls.sign(3, "x");
        vm.expectRevert(abi.encodeWithSelector(IPins.BadDutySignature.selector, epoch, 1));
        pins.pin(r, 1, wrong);
        skip(41);
        vm.expectPartialRevert(IPins.WindowOver.selector);
        pins.pin(r, 1, signature);
        vm.stopPrank();
    }

    function test_pin__not_drawn__reverts() public {
        _joinProvider();
        _joinVerifiers();
        // A long record: its rate has fallen to the floor.
        vm.prank(operator);
        commitments.anchor("root", 1, 1 << 20, 1, 1);
        skip(51);
        commitments.mature(owner, 0);
        ReceiptLib.Receipt memory receipt = _receipt((1 << 20) + 1, 1 ether);
        IPins.Anchored memory r = IPins.Anchored(owner, _anchor(receipt), ReceiptLib.leaf(receipt), new bytes32[](0));
        uint64 epoch = verifiers.currentEpoch();
        bytes memory signature = Bls.sign(2, verifiers.messageFor("DUTY", address(verifiers), epoch, commitments.tip(epoch)));
        assertFalse(pins.isDrawn(signature, owner, r.batchId, r.leaf, 20_000, STAKE, 3 * uint256(STAKE)));
        vm.prank(judges[1]);
        vm.expectRevert(IPins.NotDrawn.selector);
        pins.pin(r, 1, signature);
    }

    function testFuzz_isDrawn__at_full_rate__always(bytes memory signature, bytes32 leaf) public view {
        assertTrue(pins.isDrawn(signature, owner, 1, leaf, 1_000_000, 3, 3));
        assertFalse(pins.isDrawn(signature, owner, 1, leaf, 0, 3, 3));
    }
}
