// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract CommitmentLogMature is Network {
    function test_mature__counts_the_record_and_frees_the_stake() public {
        _joinProvider();
        vm.prank(operator);
        commitments.anchor("root", 1, 100, 7 ether, 1);
        assertEq(commitments.inFlight(owner), 7 ether);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.WindowOpen.selector, uint64(block.timestamp) + 50));
        commitments.mature(owner, 0);
        skip(51);
        assertEq(commitments.mature(owner, 0), 7 ether);
        assertEq(commitments.inFlight(owner), 0);
        assertEq(commitments.auditRate(owner), 1_500_000);
        uint64 events = commitments.lastSequence();
        commitments.mature(owner, 0);
        assertEq(commitments.lastSequence(), events);
    }
}
