// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract VerifierSetExit is Network {
    function test_exit__leaves_with_the_next_set() public {
        _joinVerifiers();
        vm.prank(judges[0]);
        verifiers.exit();
        assertTrue(verifiers.needsBuild());
        vm.prank(judges[0]);
        vm.expectPartialRevert(IVerifierSet.NotMember.selector);
        verifiers.exit();
        uint64 epoch = verifiers.currentEpoch();
        verifiers.buildSet();
        assertEq(verifiers.seatsOf(epoch).length, 3);
        assertEq(verifiers.seatsOf(epoch + 2).length, 2);
        assertFalse(verifiers.memberOf(judges[0]).joined);
        verifiers.buildSet();
        assertEq(verifiers.setOf(epoch + 2), 2);
    }
}
