// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesCallOff is Network {
    function test_callOff__by_plants__returns_the_bond_and_slashes_nothing() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        vm.prank(address(plants));
        assertEq(disputes.callOff(evidenceId), judges[0]);
        assertEq(uint8(_statusOf(evidenceId)), uint8(IDisputes.Status.Cancelled));
        assertEq(disputes.owed(judges[0]), BOND - 100 ether);
        assertEq(staking.slashable(owner), STAKE);
        assertEq(staking.openDisputes(owner), 0);
        _assertLedgers();
    }

    function test_callOff__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotAllowed.selector, address(this)));
        disputes.callOff("");
    }
}
