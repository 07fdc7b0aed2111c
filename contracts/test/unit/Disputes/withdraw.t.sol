// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesWithdraw is Network {
    function test_withdraw__all_bonds__each_paid_exactly_once() public {
        _joinAll();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        _appeal(evidenceId, owner);
        _verdict(evidenceId, IDisputes.Outcome.Innocent);
        skip(61);
        disputes.execute(claim);
        for (uint256 i = 1; i < 3; ++i) {
            vm.startPrank(judges[i]);
            disputes.claimFee(1, IDisputes.Round.Committee, i);
            disputes.claimFee(1, IDisputes.Round.Appeal, i);
            vm.stopPrank();
            assertEq(token.balanceOf(judges[i]), 150 ether);
        }
        vm.prank(owner);
        disputes.withdraw();
        vm.prank(owner);
        vm.expectRevert(IDisputes.NothingOwed.selector);
        disputes.withdraw();
        assertEq(disputes.ledger(), 0);
        _assertLedgers();
    }
}
