// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ContradictionsProve is Network {
    function _signed(ReceiptLib.Receipt memory r) private view returns (bytes memory) {
        bytes32 domain = ReceiptLib.domainSeparator(address(commitments));
        return _sign(operatorKey, keccak256(abi.encodePacked(hex"1901", domain, ReceiptLib.structHash(r))));
    }

    function _two() private returns (ReceiptLib.Receipt memory other, IContradictions.Anchored memory anchored) {
        _joinProvider();
        ReceiptLib.Receipt memory r = _receipt(1, 10 ether);
        anchored = IContradictions.Anchored(r, _anchor(r), new bytes32[](0));
        other = _receipt(1, 2 ether);
    }

    function _note(address reporter, uint64 number) private {
        contradictions.note(keccak256(abi.encode(owner, number, reporter, bytes32("salt"))));
        skip(1);
    }

    function test_prove__two_receipts_of_one_number__slashes_once() public {
        (ReceiptLib.Receipt memory other, IContradictions.Anchored memory anchored) = _two();
        bytes memory signature = _signed(other);
        address reporter = makeAddr("reporter");
        _note(reporter, 1);
        vm.startPrank(reporter);
        contradictions.prove(other, signature, anchored, "salt");
        assertEq(staking.slashable(owner), STAKE / 2);
        assertEq(token.balanceOf(reporter), 4_000 ether);
        assertFalse(providers.isServing(owner));
        vm.expectRevert(abi.encodeWithSelector(IContradictions.AlreadyProven.selector, owner, 1));
        contradictions.prove(other, signature, anchored, "salt");
        vm.stopPrank();
        _assertLedgers();
    }

    function test_prove__not_noted_by_the_caller__reverts() public {
        (ReceiptLib.Receipt memory other, IContradictions.Anchored memory anchored) = _two();
        bytes memory signature = _signed(other);
        _note(makeAddr("reporter"), 1);
        vm.expectPartialRevert(IContradictions.NotNoted.selector);
        contradictions.prove(other, signature, anchored, "salt");
        contradictions.note(keccak256(abi.encode(owner, uint64(1), address(this), bytes32("salt"))));
        vm.expectPartialRevert(IContradictions.NotNoted.selector);
        contradictions.prove(other, signature, anchored, "salt");
        skip(1);
        contradictions.note(keccak256(abi.encode(owner, uint64(1), address(this), bytes32("salt"))));
        contradictions.prove(other, signature, anchored, "salt");
    }

    function test_prove__the_same_another_number_unsigned_or_not_anchored__reverts() public {
        (ReceiptLib.Receipt memory other, IContradictions.Anchored memory anchored) = _two();
        _note(address(this), 1);
        bytes memory signature = _signed(anchored.receipt);
        vm.expectRevert(IContradictions.NoContradiction.selector);
        contradictions.prove(anchored.receipt, signature, anchored, "salt");
        signature = _sign(gatewayKey, keccak256("x"));
        vm.expectRevert(IContradictions.NoContradiction.selector);
        contradictions.prove(other, signature, anchored, "salt");
        vm.expectRevert(IContradictions.NoContradiction.selector);
        contradictions.prove(other, "short", anchored, "salt");
        _note(address(this), 2);
        other.number = 2;
        signature = _signed(other);
        vm.expectRevert(IContradictions.NoContradiction.selector);
        contradictions.prove(other, signature, anchored, "salt");
        other.number = 1;
        anchored.receipt.amount = 11 ether;
        signature = _signed(other);
        vm.expectRevert(IContradictions.NotAnchored.selector);
        contradictions.prove(other, signature, anchored, "salt");
        anchored.receipt.amount = 10 ether;
        skip(301);
        vm.expectPartialRevert(IContradictions.WindowOver.selector);
        contradictions.prove(other, signature, anchored, "salt");
    }

    function test_prove__by_a_former_key__still_convicts() public {
        (ReceiptLib.Receipt memory other, IContradictions.Anchored memory anchored) = _two();
        bytes memory signature = _signed(other);
        vm.startPrank(owner);
        providers.startRotation(makeAddr("new"));
        skip(100);
        providers.finishRotation();
        vm.stopPrank();
        _note(address(this), 1);
        contradictions.prove(other, signature, anchored, "salt");
        assertEq(staking.slashable(owner), STAKE / 2);
    }
}
