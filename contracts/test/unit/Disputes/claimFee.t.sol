// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesClaimFee is Network {
    function test_claimFee__equal_shares__once_for_those_who_signed() public {
        _joinAll();
        (, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Innocent);
        for (uint256 i = 1; i < 3; ++i) {
            vm.prank(judges[i]);
            disputes.claimFee(1, IDisputes.Round.Committee, i);
            assertEq(token.balanceOf(judges[i]), 50 ether);
        }
        vm.prank(judges[1]);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotJudge.selector, judges[1]));
        disputes.claimFee(1, IDisputes.Round.Committee, 1);
        vm.prank(judges[0]);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotJudge.selector, judges[0]));
        disputes.claimFee(1, IDisputes.Round.Committee, 0);
        vm.prank(judges[1]);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotJudge.selector, judges[1]));
        disputes.claimFee(1, IDisputes.Round.Appeal, 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotJudge.selector, address(this)));
        disputes.claimFee(1, IDisputes.Round.Committee, 1);
        _assertLedgers();
    }
}
