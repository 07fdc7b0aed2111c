// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../utils/Network.t.sol";

/// @notice A job from deposit to payout, then one from lie to slash, with an appeal that is lost: everyone gets what is due, to the wei.
contract FlowTest is Network {
    function test_flow__honest_then_cheat__everyone_gets_what_is_due() public {
        _joinAll();
        token.approve(address(rewards), 1_000 ether);
        rewards.fund(1_000 ether);
        _delegate(owner, 20_000 ether);

        uint64 honest = _anchor(_receipt(1, 10 ether));
        _redeem(10 ether);
        skip(51);
        assertEq(_release(honest), 4.35 ether);
        assertEq(token.balanceOf(creator), 0.5 ether);
        assertApproxEqAbs(staking.delegationOf(owner, delegator), 20_004.35 ether, 10);

        uint64 epoch = verifiers.currentEpoch();
        skip(10);
        for (uint256 i; i < VERIFIERS; ++i) {
            vm.prank(judges[i]);
            verifiers.postDuties(epoch, i, "root", 1);
        }
        skip(40);
        for (uint256 i; i < VERIFIERS; ++i) {
            vm.prank(judges[i]);
            settlement.claimVerifierPay(epoch);
        }
        settlement.sweep();

        uint64 rewardEpoch = rewards.currentEpoch();
        skip(100);
        // Nine tenths of the 3 % that went to treasury and burn, half of it to the delegator.
        uint64 recorded = rewards.cutOf(owner, rewardEpoch) == 0 ? rewardEpoch - 1 : rewardEpoch;
        assertEq(rewards.claim(owner, recorded), 0.27 ether);

        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _appeal(evidenceId, owner);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        // Five percent of own stake and pool together, and all of it from the own stake.
        uint256 slashed = (uint256(STAKE) + staking.poolOf(owner).delegated) * 500 / 10_000;
        assertEq(staking.stakeOf(owner), STAKE - slashed);
        assertEq(escrow.depositOf(payer).balance, 10 ether);
        assertFalse(providers.isServing(owner));

        for (uint256 i = 1; i < VERIFIERS; ++i) {
            vm.startPrank(judges[i]);
            disputes.claimFee(1, IDisputes.Round.Committee, i);
            disputes.claimFee(1, IDisputes.Round.Appeal, i);
            vm.stopPrank();
        }
        vm.prank(judges[0]);
        disputes.withdraw();
        assertEq(disputes.ledger(), 0);
        staking.burn();
        _assertLedgers();
    }

    /// @dev Nothing that was unbonding when the fault happened is out of reach when the verdict is carried out, at the latest moment of each step.
    function test_flow__latest_possible_slash__still_reaches_stake_that_left_after_the_fault() public {
        _joinAll();
        ReceiptLib.Receipt memory r = _receipt(1, 1 ether);
        uint64 batchId = _anchor(r);
        vm.prank(owner);
        staking.beginUnbonding(STAKE - 1 ether);
        skip(300);
        _openDispute(r, batchId, judges[0]);
        bytes32 evidenceId = disputes.evidenceIdOf(_claim(r, batchId));
        skip(120);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(60);
        _appeal(evidenceId, owner);
        skip(120);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(5_000);
        disputes.execute(_claim(r, batchId));
        assertEq(token.balanceOf(judges[0]), 400 ether);
        assertEq(staking.ledger() - VERIFIERS * uint256(STAKE), STAKE - 400 ether);
    }
}
