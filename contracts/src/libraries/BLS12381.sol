// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title BLS signatures over BLS12-381 by the EIP-2537 precompiles
/// @notice Minimal-signature form: signatures in G1 (128 bytes), public keys in G2 (256 bytes), as EIP-2537 encodes points.
/// @dev Every precompile call has a gas cap, since a failing one burns all that it was given. Points at infinity are refused. Hashing to G1 is
/// RFC 9380's hash_to_curve with BLS12381G1_XMD:SHA-256_SSWU_RO; the precompile's map clears the cofactor, and clearing is linear.
library BLS12381 {
    uint256 internal constant G1_BYTES = 128;
    uint256 internal constant G2_BYTES = 256;
    /// @dev A key as it is stored: without EIP-2537's zero padding.
    uint256 internal constant PACKED_G2_BYTES = 192;
    /// @dev One tag for each ciphersuite; the purpose is separated inside the message.
    bytes internal constant DST = "FUNCNET-V1_BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

    bytes internal constant NEGATED_G2 =
        hex"00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb80000000000000000000000000000000013e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e000000000000000000000000000000000d1b3cc2c7027888be51d9ef691d77bcb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa0000000000000000000000000000000013fa4d4a0ad8b1ce186ed5061789213d993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed";

    /// @dev The field's modulus, in two words.
    uint256 private constant P_HIGH = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
    uint256 private constant P_LOW = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;
    address private constant MODEXP = address(0x05);
    address private constant G1_ADD = address(0x0b);
    address private constant G2_ADD = address(0x0d);
    address private constant PAIRING = address(0x0f);
    address private constant MAP_TO_G1 = address(0x10);
    uint256 private constant PAIRING_GAS = 110_000;
    uint256 private constant MAP_GAS = 7_000;
    uint256 private constant MODEXP_GAS = 5_000;
    uint256 private constant ADD_GAS = 2_000;

    /// @notice Whether `signature` is the key's signature on `message`. Never reverts on malformed points.
    function verify(bytes memory publicKey, bytes memory message, bytes memory signature) internal view returns (bool ok) {
        if (publicKey.length != G2_BYTES || signature.length != G1_BYTES) return false;
        if (isZero(publicKey) || isZero(signature)) return false;
        (bool hashed, bytes memory point) = hashToG1(message);
        if (!hashed) return false;
        bytes memory negated = NEGATED_G2;
        address pairing = PAIRING;
        uint256 limit = PAIRING_GAS;
        // The pairs (point, key) and (signature, -G2), laid side by side in fresh memory.
        assembly ("memory-safe") {
            let input := mload(0x40)
            mcopy(input, add(point, 32), 128)
            mcopy(add(input, 128), add(publicKey, 32), 256)
            mcopy(add(input, 384), add(signature, 32), 128)
            mcopy(add(input, 512), add(negated, 32), 256)
            mstore(0, 0)
            ok := staticcall(limit, pairing, input, 768, 0, 32)
            ok := and(and(ok, eq(returndatasize(), 32)), eq(mload(0), 1))
        }
    }

    /// @notice Sum of two keys. Both must have passed their proof of possession: addition checks no subgroup.
    function addKeys(bytes memory a, bytes memory b) internal view returns (bool ok, bytes memory sum) {
        sum = new bytes(G2_BYTES);
        address add_ = G2_ADD;
        uint256 limit = ADD_GAS;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mcopy(input, add(a, 32), 256)
            mcopy(add(input, 256), add(b, 32), 256)
            ok := staticcall(limit, add_, input, 512, add(sum, 32), 256)
            ok := and(ok, eq(returndatasize(), 256))
        }
    }

    /// @notice The key's inverse: y becomes p - y in both of its coordinates.
    function negateKey(bytes memory key) internal pure returns (bytes memory) {
        bytes memory out = bytes.concat(key);
        for (uint256 at = 128; at < G2_BYTES; at += 64) {
            (uint256 high, uint256 low) = (_word(key, at), _word(key, at + 32));
            if (high | low == 0) continue;
            unchecked {
                uint256 borrow = low > P_LOW ? 1 : 0;
                _setWord(out, at, P_HIGH - high - borrow);
                _setWord(out, at + 32, P_LOW - low);
            }
        }
        return out;
    }

    /// @notice A key without its padding.
    function packKey(bytes memory key) internal pure returns (bytes memory packed) {
        packed = new bytes(PACKED_G2_BYTES);
        for (uint256 i; i < 4; ++i) {
            assembly ("memory-safe") {
                mcopy(add(add(packed, 32), mul(i, 48)), add(add(key, 48), mul(i, 64)), 48)
            }
        }
    }

    /// @notice The key at `offset` of packed data, as the precompiles take it.
    function unpackKey(bytes memory data, uint256 offset) internal pure returns (bytes memory key) {
        key = new bytes(G2_BYTES);
        for (uint256 i; i < 4; ++i) {
            assembly ("memory-safe") {
                mcopy(add(add(key, 48), mul(i, 64)), add(add(add(data, 32), offset), mul(i, 48)), 48)
            }
        }
    }

    function isZero(bytes memory data) internal pure returns (bool) {
        uint256 bits;
        for (uint256 i; i < data.length; i += 32) {
            bits |= _word(data, i);
        }
        return bits == 0;
    }

    /// @notice RFC 9380 hash_to_curve to G1 under DST.
    function hashToG1(bytes memory message) internal view returns (bool ok, bytes memory point) {
        bytes32[4] memory uniform = _expand(message);
        bytes memory pair = new bytes(2 * G1_BYTES);
        if (!_mapToG1(uniform[0], uniform[1], pair, 0) || !_mapToG1(uniform[2], uniform[3], pair, G1_BYTES)) return (false, "");
        point = new bytes(G1_BYTES);
        address add_ = G1_ADD;
        uint256 limit = ADD_GAS;
        assembly ("memory-safe") {
            ok := staticcall(limit, add_, add(pair, 32), 256, add(point, 32), 128)
            ok := and(ok, eq(returndatasize(), 128))
        }
    }

    /// @dev expand_message_xmd with SHA-256 to 128 bytes: RFC 9380 section 5.3.1. Every block but the first hashes 33 bytes and the tag, in place.
    function _expand(bytes memory message) private pure returns (bytes32[4] memory out) {
        bytes32 b0 = sha256(bytes.concat(new bytes(64), message, hex"008000", DST, bytes1(uint8(DST.length))));
        bytes memory next = bytes.concat(b0, hex"01", DST, bytes1(uint8(DST.length)));
        out[0] = sha256(next);
        for (uint256 i = 1; i < 4; ++i) {
            _setWord(next, 0, uint256(b0 ^ out[i - 1]));
            next[32] = bytes1(uint8(i + 1));
            out[i] = sha256(next);
        }
    }

    /// @dev 64 bytes reduced modulo the field, then mapped to `out` at `at`.
    function _mapToG1(bytes32 high, bytes32 low, bytes memory out, uint256 at) private view returns (bool ok) {
        (uint256 pHigh, uint256 pLow) = (P_HIGH, P_LOW);
        (address modexp, address map) = (MODEXP, MAP_TO_G1);
        (uint256 modexpLimit, uint256 mapLimit) = (MODEXP_GAS, MAP_GAS);
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, 64)
            mstore(add(input, 32), 1)
            mstore(add(input, 64), 64)
            mstore(add(input, 96), high)
            mstore(add(input, 128), low)
            mstore8(add(input, 160), 1)
            mstore(add(input, 161), pHigh)
            mstore(add(input, 193), pLow)
            ok := staticcall(modexpLimit, modexp, input, 225, input, 64)
            ok := and(ok, eq(returndatasize(), 64))
            if ok {
                ok := staticcall(mapLimit, map, input, 64, add(add(out, 32), at), 128)
                ok := and(ok, eq(returndatasize(), 128))
            }
        }
    }

    function _word(bytes memory data, uint256 at) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 32), at))
        }
    }

    function _setWord(bytes memory data, uint256 at, uint256 word) private pure {
        assembly ("memory-safe") {
            mstore(add(add(data, 32), at), word)
        }
    }
}
