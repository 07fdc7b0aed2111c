// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesEscalate is Network {
    function test_escalate__once_and_after_the_deadline__goes_to_the_full_set() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DeadlineNotPassed.selector, uint64(block.timestamp) + 120));
        disputes.escalate(evidenceId);
        skip(121);
        disputes.escalate(evidenceId);
        assertEq(uint8(disputes.dispute(1).round), uint8(IDisputes.Round.FullSet));
        assertEq(disputes.dispute(1).deadline, block.timestamp + 120);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoAppeal.selector, 1));
        disputes.escalate(evidenceId);
    }

    function test_escalate__full_set_verdict__is_carried_out() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        skip(121);
        disputes.escalate(evidenceId);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        assertEq(disputes.owed(judges[0]), BOND - 100 ether);
        assertEq(staking.slashable(owner), STAKE - 1_000 ether);
    }
}
