// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BLS12381} from "../../src/libraries/BLS12381.sol";

/// @notice Signs with BLS keys by the multiplication precompiles. For tests alone: the secret is in memory.
library Bls {
    bytes internal constant G2 =
        hex"00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb80000000000000000000000000000000013e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e000000000000000000000000000000000ce5d527727d6e118cc9cdc6da2e351aadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801000000000000000000000000000000000606c4a02ea734cc32acd2b02bc28b99cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be";

    function publicKey(uint256 secret) internal view returns (bytes memory key) {
        bool ok;
        (ok, key) = address(0x0e).staticcall(bytes.concat(G2, bytes32(secret)));
        require(ok, "G2 multiplication");
    }

    function sign(uint256 secret, bytes memory message) internal view returns (bytes memory signature) {
        (bool hashed, bytes memory point) = BLS12381.hashToG1(message);
        require(hashed, "hash to G1");
        bool ok;
        (ok, signature) = address(0x0c).staticcall(bytes.concat(point, bytes32(secret)));
        require(ok, "G1 multiplication");
    }

    function aggregate(bytes memory a, bytes memory b) internal view returns (bytes memory sum) {
        bool ok;
        (ok, sum) = address(0x0b).staticcall(bytes.concat(a, b));
        require(ok, "G1 addition");
    }
}
