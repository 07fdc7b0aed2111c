// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract VerifierSetVerifySeat is Network {
    function test_verifySeat__the_holder_alone() public {
        _joinVerifiers();
        uint64 epoch = verifiers.currentEpoch();
        bytes memory signature = Bls.sign(2, verifiers.messageFor("DUTY", address(verifiers), epoch, "tip"));
        assertTrue(verifiers.verifySeat("DUTY", address(verifiers), epoch, "tip", 1, signature));
        assertFalse(verifiers.verifySeat("DUTY", address(verifiers), epoch, "tip", 0, signature));
        assertFalse(verifiers.verifySeat("DUTY", address(verifiers), epoch, "tip", 3, signature));
        assertFalse(verifiers.verifySeat("DUTY", address(verifiers), 0, "tip", 1, signature));
    }
}
