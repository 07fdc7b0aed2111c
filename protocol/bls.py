"""BLS12-381 signatures, minimal-signature form: signatures in G1, keys in G2, points as EIP-2537 encodes them."""

import secrets
from collections.abc import Sequence

from eth_abi import encode as abi_encode
from eth_hash.auto import keccak
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

DST = b"FUNCNET-V1_BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
FIELD_BYTES = 48
ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
POSSESSION, DUTY, VERDICT, TOLERANCE = (name.ljust(32, b"\0") for name in (b"POSSESSION", b"DUTY", b"VERDICT", b"TOLERANCE"))


def new_secret() -> bytes:
    """32 bytes, a scalar below the group's order and not zero."""
    return (secrets.randbelow(ORDER - 1) + 1).to_bytes(32, "big")


def public_key(secret: bytes) -> bytes:
    """256 bytes, EIP-2537."""
    return encode_g2(G2Point() * _scalar(secret))


def sign(secret: bytes, message: bytes) -> bytes:
    """128 bytes, EIP-2537. Deterministic, so a signature is unique and nobody else can predict it."""
    return encode_g1(G1Point.hash_to_curve(message, DST) * _scalar(secret))


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the key signed the message; False for malformed points and for the point at infinity."""
    try:
        public, point = decode_g2(key), decode_g1(signature)
    except ValueError:
        return False
    if not any(key) or not any(signature):
        return False
    hashed = G1Point.hash_to_curve(message, DST)
    return bool(GT.multi_pairing([hashed, -point], [public, G2Point()]) == GT.one())


def aggregate(signatures: Sequence[bytes]) -> bytes:
    """The sum of signatures on one message."""
    first, *rest = map(decode_g1, signatures)
    for point in rest:
        first = first + point
    return encode_g1(first)


def message(purpose: bytes, chain_id: int, contract: str, epoch: int, payload: bytes) -> bytes:
    """The bytes signed, as ``VerifierSet.messageFor``: separated by purpose, chain, contract and epoch."""
    return abi_encode(["bytes32", "uint256", "address", "uint64", "bytes32"], [purpose, chain_id, contract, epoch, payload])


def possession_payload(verifier: str, key: bytes) -> bytes:
    return keccak(abi_encode(["address", "bytes32"], [verifier, keccak(key)]))


def verdict_payload(dispute_id: int, evidence_id: bytes, round_: int, outcome: int) -> bytes:
    """What judges sign: ``Disputes.verdictPayload``; round and outcome as its enums count."""
    return keccak(abi_encode(["uint256", "bytes32", "uint8", "uint8"], [dispute_id, evidence_id, round_, outcome]))


def tolerance_payload(model_id: bytes, tolerance_root: bytes) -> bytes:
    return keccak(abi_encode(["bytes32", "bytes32"], [model_id, tolerance_root]))


def encode_g1(point: G1Point) -> bytes:
    """x | y, each padded to 64 bytes, big-endian."""
    return _pad(bytes(point.to_xy_bytes_be()))


def encode_g2(point: G2Point) -> bytes:
    """x.c0 | x.c1 | y.c0 | y.c1, each padded to 64 bytes, big-endian."""
    return _pad(bytes(point.to_xy_bytes_be()))


def decode_g1(raw: bytes) -> G1Point:
    """Raises ValueError unless the bytes are a point of the subgroup."""
    return G1Point.from_xy_bytes_be(_unpad(raw, 2))


def decode_g2(raw: bytes) -> G2Point:
    """Raises ValueError unless the bytes are a point of the subgroup."""
    return G2Point.from_xy_bytes_be(_unpad(raw, 4))


def _pad(packed: bytes) -> bytes:
    return b"".join(bytes(16) + packed[i : i + FIELD_BYTES] for i in range(0, len(packed), FIELD_BYTES))


def _unpad(raw: bytes, elements: int) -> bytes:
    if len(raw) != 64 * elements or any(any(raw[i : i + 16]) for i in range(0, len(raw), 64)):
        raise ValueError(f"not {elements} field elements of 64 bytes")
    return b"".join(raw[i + 16 : i + 64] for i in range(0, len(raw), 64))


def _scalar(secret: bytes) -> Scalar:
    return Scalar.from_be_bytes(secret)
