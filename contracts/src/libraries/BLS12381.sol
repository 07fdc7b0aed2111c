// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title BLS signatures over BLS12-381 by the EIP-2537 precompiles
/// @notice Minimal-signature form: signatures in G1 (128 bytes), public keys in G2 (256 bytes), as EIP-2537 encodes points.
/// @dev Every precompile call has a gas cap, since a failing one burns all that it was given. Points at infinity are refused. Hashing to G1 is
/// RFC 9380's hash_to_curve with BLS12381G1_XMD:SHA-256_SSWU_RO; the precompile's map clears the cofactor, and clearing is linear.
library BLS12381 {
    uint256 internal constant G1_BYTES = 128;
    uint256 internal constant G2_BYTES = 256;
    /// @dev One tag for each ciphersuite; the purpose is separated inside the message.
    bytes internal constant DST = "FUNCNET-V1_BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

    bytes internal constant NEGATED_G2 =
        hex"00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb80000000000000000000000000000000013e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e000000000000000000000000000000000d1b3cc2c7027888be51d9ef691d77bcb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa0000000000000000000000000000000013fa4d4a0ad8b1ce186ed5061789213d993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed";

    address private constant MODEXP = address(0x05);
    address private constant G1_ADD = address(0x0b);
    address private constant G2_ADD = address(0x0d);
    address private constant PAIRING = address(0x0f);
    address private constant MAP_TO_G1 = address(0x10);
    uint256 private constant PAIRING_GAS = 110_000;
    uint256 private constant MAP_GAS = 7_000;
    uint256 private constant ADD_GAS = 2_000;

    /// @notice Whether `signature` is the key's signature on `message`. Never reverts on malformed points.
    function verify(bytes memory publicKey, bytes memory message, bytes memory signature) internal view returns (bool) {
        if (publicKey.length != G2_BYTES || signature.length != G1_BYTES) return false;
        if (isZero(publicKey) || isZero(signature)) return false;
        (bool hashed, bytes memory point) = hashToG1(message);
        if (!hashed) return false;
        (bool ok, bytes memory out) = PAIRING.staticcall{gas: PAIRING_GAS}(bytes.concat(point, publicKey, signature, NEGATED_G2));
        return ok && out.length == 32 && abi.decode(out, (uint256)) == 1;
    }

    /// @notice Sum of two keys. Both must have passed their proof of possession: addition checks no subgroup.
    function addKeys(bytes memory a, bytes memory b) internal view returns (bool ok, bytes memory sum) {
        (ok, sum) = G2_ADD.staticcall{gas: ADD_GAS}(bytes.concat(a, b));
        ok = ok && sum.length == G2_BYTES;
    }

    function isZero(bytes memory data) internal pure returns (bool) {
        for (uint256 i; i < data.length; i += 32) {
            uint256 word;
            assembly ("memory-safe") {
                word := mload(add(add(data, 32), i))
            }
            if (word != 0) return false;
        }
        return true;
    }

    /// @notice RFC 9380 hash_to_curve to G1 under DST.
    function hashToG1(bytes memory message) internal view returns (bool ok, bytes memory point) {
        bytes32[4] memory uniform = _expand(message);
        (bool first, bytes memory p) = _mapToG1(uniform[0], uniform[1]);
        (bool second, bytes memory q) = _mapToG1(uniform[2], uniform[3]);
        if (!first || !second) return (false, "");
        (ok, point) = G1_ADD.staticcall{gas: ADD_GAS}(bytes.concat(p, q));
        ok = ok && point.length == G1_BYTES;
    }

    /// @dev expand_message_xmd with SHA-256 to 128 bytes: RFC 9380 section 5.3.1.
    function _expand(bytes memory message) private pure returns (bytes32[4] memory out) {
        bytes memory tag = bytes.concat(DST, bytes1(uint8(DST.length)));
        bytes32 b0 = sha256(bytes.concat(new bytes(64), message, hex"0080", hex"00", tag));
        out[0] = sha256(bytes.concat(b0, hex"01", tag));
        for (uint8 i = 1; i < 4; ++i) {
            out[i] = sha256(bytes.concat(b0 ^ out[i - 1], bytes1(i + 1), tag));
        }
    }

    /// @dev 64 bytes reduced modulo the field, then mapped.
    function _mapToG1(bytes32 high, bytes32 low) private view returns (bool ok, bytes memory point) {
        bytes memory input = bytes.concat(
            abi.encode(uint256(64), uint256(1), uint256(64)),
            high,
            low,
            hex"01",
            hex"000000000000000000000000000000001a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"
        );
        bytes memory element;
        (ok, element) = MODEXP.staticcall{gas: 5_000}(input);
        if (!ok || element.length != 64) return (false, "");
        (ok, point) = MAP_TO_G1.staticcall{gas: MAP_GAS}(element);
        ok = ok && point.length == G1_BYTES;
    }
}
