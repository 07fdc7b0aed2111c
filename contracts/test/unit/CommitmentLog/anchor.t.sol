// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract CommitmentLogAnchor is Network {
    function test_anchor__first__is_kept() public {
        _joinProvider();
        uint64 batchId = _anchor(_receipt(1, 5 ether));
        ICommitmentLog.Anchor memory b = commitments.batch(owner, batchId);
        assertEq(b.root, ReceiptLib.leaf(_receipt(1, 5 ether)));
        assertEq(b.firstNumber, 1);
        assertEq(b.lastNumber, 1);
        assertEq(b.cumulativeAmount, 5 ether);
        assertEq(b.anchoredAt, block.timestamp);
        assertEq(b.epoch, verifiers.currentEpoch());
        assertEq(b.auditRate, 3_000_000);
        assertEq(commitments.batchCount(owner), 1);
        assertEq(commitments.lastNumber(owner), 1);
    }

    function test_anchor__with_gaps_empty_or_by_another__reverts() public {
        _joinProvider();
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NotOperator.selector, address(this)));
        commitments.anchor("root", 1, 1, 1, 1);
        vm.startPrank(operator);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NumberGap.selector, 1, 2));
        commitments.anchor("root", 2, 2, 1, 1);
        vm.expectRevert(ICommitmentLog.EmptyBatch.selector);
        commitments.anchor(0, 1, 1, 1, 1);
        vm.expectRevert(ICommitmentLog.EmptyBatch.selector);
        commitments.anchor("root", 1, 0, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.TooManyReceipts.selector, 1 << 24));
        commitments.anchor("root", 1, 1 << 24, 1, 1);
        commitments.anchor("root", 1, 7, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NumberGap.selector, 8, 7));
        commitments.anchor("root", 7, 9, 1, 1);
        vm.stopPrank();
    }

    function test_anchor__another_provider__cannot_block_it() public {
        _joinProvider();
        _stake(payer, STAKE);
        vm.prank(payer);
        providers.register(gateway, "x", 0);
        vm.prank(gateway);
        commitments.anchor("theirs", 1, 5, 1, 1);
        _anchor(_receipt(1, 5 ether));
        assertEq(commitments.lastNumber(owner), 1);
    }

    function test_tip__chains_an_epochs_batches_and_no_others() public {
        _joinProvider();
        uint64 epoch = verifiers.currentEpoch();
        assertEq(commitments.tip(epoch), 0);
        _anchor(_receipt(1, 5 ether));
        bytes32 first = commitments.tip(epoch);
        bytes32 leaf = ReceiptLib.leaf(_receipt(1, 5 ether));
        bytes32 chained = keccak256(abi.encode(bytes32(0), owner, uint64(0), leaf, uint64(1), uint64(1), uint128(5 ether), uint64(11)));
        assertEq(first, (chained >> 40) << 40);
        _anchor(_receipt(2, 5 ether));
        assertTrue(commitments.tip(epoch) != first);
        skip(10);
        assertEq(commitments.tip(epoch + 1), 0);
        bytes32 last = commitments.tip(epoch);
        _anchor(_receipt(3, 5 ether));
        assertEq(commitments.tip(epoch), last);
        // 1,024 epochs later the place is another epoch's.
        skip(10 * 1_023);
        _anchor(_receipt(4, 5 ether));
        assertEq(commitments.tip(epoch), 0);
    }

    function test_anchor__ring_wrapped__writes_over_only_what_is_past_retention() public {
        _joinProvider();
        vm.startPrank(operator);
        for (uint64 i = 1; i <= 1_024; ++i) {
            commitments.anchor("root", i, i, 1, 1);
        }
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.RingFull.selector, uint64(block.timestamp) + 700));
        commitments.anchor("root", 1_025, 1_025, 1, 1);
        skip(701);
        commitments.anchor("root", 1_025, 1_025, 1, 1);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NoSuchBatch.selector, owner, 0));
        commitments.batch(owner, 0);
        assertEq(commitments.batch(owner, 1).lastNumber, 2);
        assertEq(commitments.batch(owner, 1_024).lastNumber, 1_025);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NoSuchBatch.selector, owner, 1_025));
        commitments.batch(owner, 1_025);
    }
}
