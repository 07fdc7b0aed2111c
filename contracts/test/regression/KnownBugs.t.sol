// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../utils/Network.t.sol";

/// @notice Bugs that systems like this have had, each tried on ours. Those that a unit test tries are named in `docs/contracts.md`.
contract KnownBugsTest is Network {
    function _bucketOf(address who) private view returns (uint32[] memory buckets) {
        buckets = new uint32[](1);
        buckets[0] = staking.unbondingsOf(owner, who, 20)[0].bucket;
    }

    function test_bug__slash_front_run_by_unbonding() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(1 ether);
        vm.prank(owner);
        staking.beginUnbonding(STAKE - 1 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        uint256 before = staking.slashable(owner);
        disputes.execute(claim);
        assertEq(before - staking.slashable(owner), 1_000 ether);
    }

    function test_bug__stake_withdrawn_during_an_open_dispute() public {
        _joinAll();
        vm.prank(owner);
        staking.beginUnbonding(STAKE - 1 ether);
        skip(950);
        _disputed(1 ether);
        uint32[] memory buckets = _bucketOf(owner);
        skip(900);
        vm.prank(owner);
        vm.expectPartialRevert(IStaking.StillUnbonding.selector);
        staking.withdraw(buckets);
    }

    function test_bug__two_slashes_for_one_fault() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(1 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        token.approve(address(disputes), BOND);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.EvidenceClosed.selector, evidenceId));
        disputes.open(claim.receipt, claim.batchId, new bytes32[](0), IDisputes.Kind.Output);
    }

    function test_bug__delegators_are_hit_before_the_operator() public {
        _joinAll();
        _delegate(owner, 100_000 ether);
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(1 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        assertEq(staking.stakeOf(owner), STAKE - 6_000 ether);
        assertEq(staking.delegationOf(owner, delegator), 100_000 ether);
    }

    function test_bug__delegator_dodges_by_undelegating() public {
        _joinAll();
        uint256 shares = _delegate(owner, 600_000 ether);
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(1 ether);
        vm.prank(delegator);
        staking.undelegate(owner, uint128(shares));
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        // 5 % of 620,000 is 31,000: 20,000 of the operator's, the rest from what left the pool.
        assertApproxEqAbs(staking.unbondingsOf(owner, delegator, 10)[0].amount, 589_000 ether, 10);
    }

    function test_bug__griefing_by_freezing__ends_by_itself_and_costs_the_bond() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(1 ether);
        _verdict(evidenceId, IDisputes.Outcome.Innocent);
        skip(61);
        disputes.execute(claim);
        assertEq(staking.openDisputes(owner), 0);
        assertEq(disputes.owed(judges[0]), 0);
        assertEq(disputes.owed(owner), BOND - 100 ether);
    }

    function test_bug__self_dispute_launders_a_slash__burns_more_than_it_returns() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(1 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        uint256 supply = token.totalSupply();
        disputes.execute(claim);
        staking.burn();
        assertGt(supply - token.totalSupply(), token.balanceOf(judges[0]));
    }

    function test_bug__donation_moves_no_ledger_and_no_price() public {
        _joinAll();
        _delegate(owner, 100 ether);
        uint256 worth = staking.delegationOf(owner, delegator);
        _fund(address(staking), 1_000 ether);
        _fund(address(escrow), 1_000 ether);
        assertEq(staking.delegationOf(owner, delegator), worth);
        assertEq(staking.ledger() + 1_000 ether, token.balanceOf(address(staking)));
        (uint256 fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 100 ether);
    }

    function test_bug__voucher_replayed_or_spent_twice() public {
        _joinAll();
        (ISettlement.Voucher[] memory v, bytes[] memory s) = _voucher(5 ether);
        settlement.redeem(v, s);
        for (uint256 i; i < 3; ++i) {
            assertEq(uint8(settlement.redeem(v, s)[0]), uint8(ISettlement.Result.Stale));
        }
        assertEq(settlement.heldOf(owner, modelId), 5 ether);
    }

    function test_bug__voucher_of_another_contract() public {
        _joinAll();
        ISettlement.Voucher[] memory v = new ISettlement.Voucher[](1);
        bytes[] memory s = new bytes[](1);
        v[0] = ISettlement.Voucher(payer, gateway, owner, modelId, 5 ether);
        Settlement other = Settlement(vm.deployCode("Settlement.sol:Settlement", _settlementArguments()));
        s[0] = _sign(gatewayKey, other.hashVoucher(v[0]));
        assertEq(uint8(settlement.redeem(v, s)[0]), uint8(ISettlement.Result.BadSignature));
    }

    function _settlementArguments() private view returns (bytes memory) {
        Settlement.Wiring memory w =
            Settlement.Wiring(escrow, staking, models, commitments, verifiers, rewards, address(disputes), attendance, providers);
        return abi.encode(access, w, ISettlement.Parameters(address(this), 500, 200, 100));
    }

    function test_bug__payer_drains_the_escrow_before_redemption() public {
        _joinAll();
        vm.startPrank(payer);
        escrow.startWithdrawal(100 ether);
        skip(600);
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.withdraw();
        vm.stopPrank();
        assertEq(uint8(_redeem(100 ether)), uint8(ISettlement.Result.Redeemed));
    }

    function test_bug__commitment_copied_by_another__blocks_nobody() public {
        _joinProvider();
        ReceiptLib.Receipt memory r = _receipt(1, 1 ether);
        _stake(payer, STAKE);
        vm.prank(payer);
        providers.register(gateway, "x", 0);
        vm.prank(gateway);
        commitments.anchor(ReceiptLib.leaf(r), 1, 1, 1 ether, 11);
        assertEq(_anchor(r), 0);
        // The copier has no receipt of its own under that root.
        r.provider = payer;
        vm.expectRevert(IDisputes.NotAnchored.selector);
        disputes.open(r, 0, new bytes32[](0), IDisputes.Kind.Output);
    }

    function test_bug__cheated_jobs_left_out_of_the_batches__are_not_paid() public {
        _joinAll();
        uint64 batchId = _anchor(_receipt(1, 2 ether));
        _redeem(10 ether);
        skip(51);
        _release(batchId);
        assertEq(settlement.releasedOf(owner), 2 ether);
        assertEq(settlement.heldOf(owner, modelId), 8 ether);
    }

    function test_bug__fees_invented_to_draw_emission__lose_money() public {
        // One party is payer, gateway, provider and creator, and pays itself.
        _joinAll();
        token.approve(address(rewards), 1_000 ether);
        rewards.fund(1_000 ether);
        uint64 batchId = _anchor(_receipt(1, 50 ether));
        _redeem(50 ether);
        skip(51);
        uint256 back = _release(batchId) + token.balanceOf(creator);
        uint64 epoch = rewards.currentEpoch();
        skip(100);
        assertLt(back + rewards.claim(owner, epoch), 50 ether);
    }

    function test_bug__rogue_key__needs_a_proof_of_possession() public {
        _joinVerifiers();
        _stake(owner, STAKE);
        // The key that would cancel judges 1 and 2 out of the aggregate: minus five.
        bytes memory rogue = Bls.publicKey(0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001 - 5);
        bytes memory stolen = Bls.sign(1, _possession(owner, rogue));
        vm.prank(owner);
        vm.expectRevert(IVerifierSet.BadProofOfPossession.selector);
        verifiers.register(rogue, stolen, "x");
    }

    function test_bug__stale_set_signs__after_its_time() public {
        _registerModel(500);
        _joinVerifiers();
        uint64 epoch = verifiers.currentEpoch();
        bytes32 payload = keccak256(abi.encode(modelId, keccak256("tolerance")));
        bytes memory signature = _aggregate(verifiers.messageFor("TOLERANCE", address(models), epoch, payload), 0, 3);
        vm.prank(judges[2]);
        verifiers.exit();
        verifiers.buildSet();
        skip(20);
        uint64 later = verifiers.currentEpoch();
        vm.expectRevert(IModelRegistry.BadAttestation.selector);
        models.attestTolerance(modelId, keccak256("tolerance"), later, new uint256[](0), signature);
    }

    function test_bug__dispute_that_times_out__does_not_close_the_evidence() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(1 ether);
        skip(121);
        disputes.escalate(evidenceId);
        skip(121);
        disputes.expire(claim);
        (,, bool closed) = disputes.evidence(evidenceId);
        assertFalse(closed);
    }

    function test_bug__parameters_changed_under_an_open_dispute() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(1 ether);
        IDisputes.Parameters memory p = disputes.parameters();
        (p.bond, p.appealBond, p.judgesFee, p.appealFee) = (1, 1, 0, 0);
        vm.prank(address(timelock));
        disputes.setParameters(p);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        assertEq(disputes.owed(judges[0]), BOND - 100 ether);
    }

    function test_bug__calls_on_behalf__only_add() public {
        _joinAll();
        vm.prank(owner);
        staking.beginUnbonding(100 ether);
        IStaking.Unbonding memory before = staking.unbondingsOf(owner, owner, 4)[0];
        skip(100);
        _stake(owner, 1 ether);
        IStaking.Unbonding memory later = staking.unbondingsOf(owner, owner, 20)[0];
        assertEq(later.releaseAt, before.releaseAt);
        assertEq(later.amount, before.amount);
        vm.expectRevert(IStaking.ZeroAmount.selector);
        staking.stake(owner, 0);
    }
}
