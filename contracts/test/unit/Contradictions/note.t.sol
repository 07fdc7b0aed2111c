// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ContradictionsNote is Network {
    function test_note__again__does_not_restart_the_clock() public {
        contradictions.note("hash");
        uint64 first = uint64(block.timestamp);
        skip(5);
        vm.prank(payer);
        contradictions.note("hash");
        assertEq(contradictions.notedAt("hash"), first);
    }
}
