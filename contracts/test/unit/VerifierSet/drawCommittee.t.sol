// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract VerifierSetDrawCommittee is Network {
    function test_drawCommittee__small_set__is_its_own_committee() public {
        assertEq(verifiers.drawCommittee(), 0);
        _joinVerifiers();
        assertEq(verifiers.drawCommittee(), 7);
        IVerifierSet.Panel memory panel = verifiers.committeePanel(verifiers.currentEpoch(), judges[1]);
        assertEq(panel.seats, 5);
        assertEq(verifiers.fullPanel(verifiers.currentEpoch(), address(this)).seats, 7);
        assertEq(verifiers.committeePanel(0, address(0)).setId, 0);
    }

    function test_drawCommittee__large_set__draws_once_an_epoch() public {
        _joinVerifiers(20);
        assertEq(verifiers.committeePanel(verifiers.currentEpoch(), address(0)).seats, 0);
        uint112 seats = verifiers.drawCommittee();
        uint256 count;
        for (uint256 i; i < 20; ++i) {
            count += (seats >> i) & 1;
        }
        assertEq(count, 15);
        assertEq(seats >> 20, 0);
        vm.prevrandao(uint256(7));
        assertEq(verifiers.drawCommittee(), seats);
        skip(10);
        assertTrue(verifiers.drawCommittee() != seats);
    }
}
