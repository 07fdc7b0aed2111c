// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract SettlementRelease is Network {
    function test_release__splits_exactly() public {
        _joinAll();
        uint64 batchId = _anchor(_receipt(1, 10 ether));
        _redeem(10 ether);
        skip(51);
        assertEq(_release(batchId), 8.7 ether);
        assertEq(token.balanceOf(owner), 8.7 ether);
        assertEq(token.balanceOf(creator), 0.5 ether);
        assertEq(settlement.pot(verifiers.currentEpoch()), 0.5 ether);
        (uint96 toTreasury, uint96 toBurn) = settlement.sweepable();
        assertEq(toTreasury, 0.2 ether);
        assertEq(toBurn, 0.1 ether);
        assertEq(rewards.cutOf(owner, rewards.currentEpoch()), 0.3 ether);
        assertEq(settlement.heldOf(owner, modelId), 0);
        _assertLedgers();
    }

    function testFuzz_release__parts_sum_to_the_gross(uint96 amount, uint96 delegated) public {
        amount = uint96(bound(amount, 1, 100 ether));
        _joinAll();
        _delegate(owner, uint96(bound(delegated, 1 ether, 100_000 ether)));
        uint256 pool = staking.poolOf(owner).delegated;
        uint64 batchId = _anchor(_receipt(1, amount));
        _redeem(amount);
        skip(51);
        uint256 net = _release(batchId);
        (uint96 toTreasury, uint96 toBurn) = settlement.sweepable();
        uint256 parts = net + token.balanceOf(creator) + settlement.pot(verifiers.currentEpoch()) + toTreasury + toBurn;
        assertEq(parts + staking.poolOf(owner).delegated - pool, amount);
        _assertLedgers();
    }

    function test_release__no_more_than_is_anchored_and_past_its_window() public {
        _joinAll();
        uint64 first = _anchor(_receipt(1, 4 ether));
        skip(30);
        uint64 second = _anchor(_receipt(2, 6 ether));
        _redeem(20 ether);
        skip(21);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.WindowOpen.selector, uint64(block.timestamp) + 29));
        this.release(second);
        _release(first);
        assertEq(settlement.releasedOf(owner), 4 ether);
        vm.expectRevert(ISettlement.NothingToRelease.selector);
        this.release(first);
        skip(30);
        _release(second);
        assertEq(settlement.releasedOf(owner), 10 ether);
        assertEq(settlement.heldOf(owner, modelId), 10 ether);
    }

    function release(uint64 batchId) external {
        _release(batchId);
    }

    function test_release__while_a_dispute_is_open__reverts() public {
        _joinAll();
        _disputed(3 ether);
        skip(51);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.DisputeOpen.selector, owner));
        this.release(0);
    }

    function test_release__several_models__each_by_its_own_royalty() public {
        _joinAll();
        bytes32 first = modelId;
        IModelRegistry.Registration memory r = _registration(2_000);
        r.manifestRoot = keccak256("second");
        vm.startPrank(creator);
        models.commit(keccak256(abi.encode(r, creator)));
        skip(1);
        bytes32 other = models.register(r);
        vm.stopPrank();
        uint64 batchId = _anchor(_receipt(1, 10 ether));
        _redeem(5 ether);
        modelId = other;
        _redeem(5 ether);
        skip(51);
        bytes32[] memory list = new bytes32[](3);
        (list[0], list[1], list[2]) = (first, other, first);
        settlement.release(owner, batchId, list);
        assertEq(token.balanceOf(creator), 0.25 ether + 1 ether);
    }
}
