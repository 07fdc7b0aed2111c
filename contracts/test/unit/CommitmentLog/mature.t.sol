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

    function testFuzz_auditRate__falls_to_its_floor(uint24 count) public {
        count = uint24(bound(count, 1, type(uint24).max));
        _joinProvider();
        vm.prank(operator);
        commitments.anchor("root", 1, count, 1, 1);
        skip(51);
        commitments.mature(owner, 0);
        uint256 rate = uint256(300_000_000) / (100 + uint256(count));
        assertEq(commitments.auditRate(owner), rate < 20_000 ? 20_000 : rate);
    }

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
