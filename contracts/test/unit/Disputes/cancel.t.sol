// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesCancel is Network {
    function test_cancel__small_network__returns_the_bonds_and_slashes_nothing() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _govern(address(disputes), abi.encodeCall(disputes.cancel, (evidenceId)));
        assertEq(uint8(_statusOf(evidenceId)), uint8(IDisputes.Status.Cancelled));
        assertEq(disputes.owed(judges[0]), BOND - 100 ether);
        assertEq(staking.slashable(owner), STAKE);
        assertEq(staking.openDisputes(owner), 0);
    }

    function test_cancel__after_an_appeal__returns_both_bonds() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _appeal(evidenceId, owner);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        vm.prank(address(timelock));
        disputes.cancel(evidenceId);
        assertEq(disputes.owed(judges[0]), BOND - 100 ether);
        assertEq(disputes.owed(owner), APPEAL_BOND - 200 ether);
        _assertLedgers();
    }

    function test_cancel__an_acquittal_a_large_network_or_by_another__reverts() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Innocent);
        vm.expectRevert();
        disputes.cancel(evidenceId);
        vm.prank(address(timelock));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.BadOutcome.selector, IDisputes.Outcome.Innocent));
        disputes.cancel(evidenceId);
    }

    function test_cancel__large_network__reverts() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers(8);
        _attest();
        _fundPayer(10 ether);
        (, bytes32 evidenceId) = _disputed(1 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        vm.prank(address(timelock));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotSmall.selector, 7));
        disputes.cancel(evidenceId);
    }
}
