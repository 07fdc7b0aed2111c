// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract CommitmentLogResetRecord is Network {
    function test_resetRecord__begins_anew__and_what_is_anchored_counts_for_nothing() public {
        _joinProvider();
        vm.startPrank(operator);
        commitments.anchor("root", 1, 100, 1, 1);
        skip(51);
        commitments.mature(owner, 0);
        commitments.anchor("root", 101, 200, 1, 1);
        vm.stopPrank();
        vm.prank(address(disputes));
        commitments.resetRecord(owner);
        assertEq(commitments.auditRate(owner), 3_000_000);
        skip(51);
        commitments.mature(owner, 1);
        assertEq(commitments.auditRate(owner), 3_000_000);
        vm.prank(operator);
        commitments.anchor("root", 201, 300, 1, 1);
        skip(51);
        commitments.mature(owner, 2);
        assertEq(commitments.auditRate(owner), 1_500_000);
    }

    function test_resetRecord__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NotAllowed.selector, address(this)));
        commitments.resetRecord(owner);
    }
}
