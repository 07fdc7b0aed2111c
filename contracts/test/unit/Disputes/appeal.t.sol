// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesAppeal is Network {
    function test_appeal__by_the_convicted__goes_to_the_full_set() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _appeal(evidenceId, owner);
        IDisputes.Dispute memory d = disputes.dispute(1);
        assertEq(uint8(d.status), uint8(IDisputes.Status.Open));
        assertEq(uint8(d.round), uint8(IDisputes.Round.Appeal));
        assertEq(disputes.appellantOf(1), owner);
        _assertLedgers();
    }

    function appealAs(bytes32 evidenceId, address who) external {
        _appeal(evidenceId, who);
    }

    function test_appeal__by_the_winner_late_or_again__reverts() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongStatus.selector, 1, IDisputes.Status.Open));
        this.appealAs(evidenceId, owner);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoAppeal.selector, 1));
        this.appealAs(evidenceId, judges[0]);
        uint256 snapshot = vm.snapshotState();
        _appeal(evidenceId, owner);
        _verdict(evidenceId, IDisputes.Outcome.Innocent);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoAppeal.selector, 1));
        this.appealAs(evidenceId, judges[0]);
        vm.revertToState(snapshot);
        skip(61);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DeadlinePassed.selector, uint64(block.timestamp) - 1));
        this.appealAs(evidenceId, owner);
    }

    function test_appeal__of_an_acquittal__by_the_challenger() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Innocent);
        _appeal(evidenceId, judges[0]);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        assertEq(disputes.owed(judges[0]), BOND + APPEAL_BOND - 300 ether);
        assertEq(uint8(_statusOf(evidenceId)), uint8(IDisputes.Status.Guilty));
    }
}
