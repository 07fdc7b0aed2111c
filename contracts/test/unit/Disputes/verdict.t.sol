// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesVerdict is Network {
    function test_verdict__of_the_committee__waits_for_an_appeal() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        assertEq(uint8(_statusOf(evidenceId)), uint8(IDisputes.Status.Judged));
        uint64 deadline = uint64(block.timestamp) + 60;
        assertEq(disputes.dispute(1).deadline, deadline);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DeadlineNotPassed.selector, deadline));
        disputes.execute(claim);
    }

    function enter(bytes32 evidenceId, IDisputes.Outcome outcome) external {
        _verdict(evidenceId, outcome);
    }

    function test_verdict__late_none_or_withheld_too_early__reverts() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.BadOutcome.selector, IDisputes.Outcome.None));
        this.enter(evidenceId, IDisputes.Outcome.None);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.BadOutcome.selector, IDisputes.Outcome.Withheld));
        this.enter(evidenceId, IDisputes.Outcome.Withheld);
        uint256 snapshot = vm.snapshotState();
        skip(10);
        _verdict(evidenceId, IDisputes.Outcome.Withheld);
        vm.revertToState(snapshot);
        skip(121);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DeadlinePassed.selector, uint64(block.timestamp) - 1));
        this.enter(evidenceId, IDisputes.Outcome.Guilty);
    }

    function test_verdict__signed_by_the_challenger_or_for_another__has_no_quorum() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        bytes memory message = _ballot(evidenceId, IDisputes.Outcome.Guilty);
        uint256[] memory none = new uint256[](0);
        bytes memory withChallenger = _aggregate(message, 0, 3);
        vm.expectRevert(IDisputes.NoQuorum.selector);
        disputes.verdict(evidenceId, IDisputes.Outcome.Guilty, none, withChallenger);
        bytes memory guilty = _aggregate(message, 1, 3);
        vm.expectRevert(IDisputes.NoQuorum.selector);
        disputes.verdict(evidenceId, IDisputes.Outcome.Innocent, none, guilty);
        disputes.verdict(evidenceId, IDisputes.Outcome.Guilty, none, guilty);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongStatus.selector, 1, IDisputes.Status.Judged));
        disputes.verdict(evidenceId, IDisputes.Outcome.Guilty, none, guilty);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongClaim.selector, bytes32("x")));
        disputes.verdict("x", IDisputes.Outcome.Guilty, none, guilty);
    }

    function test_verdict__drawn_committee__judges_by_its_own_weight() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers(20);
        _attest();
        _fundPayer(10 ether);
        (, bytes32 evidenceId) = _disputed(1 ether);
        IDisputes.Dispute memory d = disputes.dispute(1);
        uint112 seats = verifiers.committeePanel(d.epoch, d.challenger).seats;
        uint256 sum;
        for (uint256 i; i < 20; ++i) {
            if ((seats >> i) & 1 == 1) sum += i + 1;
        }
        bytes32 payload = disputes.verdictPayload(1, evidenceId, d.round, IDisputes.Outcome.Guilty);
        bytes memory signature = Bls.sign(sum, verifiers.messageFor("VERDICT", address(disputes), d.epoch, payload));
        disputes.verdict(evidenceId, IDisputes.Outcome.Guilty, new uint256[](0), signature);
        assertEq(uint8(_statusOf(evidenceId)), uint8(IDisputes.Status.Judged));
    }
}
