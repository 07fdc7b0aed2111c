// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract CommitmentLogAuditRate is Network {
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
}
