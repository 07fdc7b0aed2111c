"""BLS cases by py-ecc, which shares no code with ours: ``python -m tests.protocol.bls_cases`` writes what Foundry and pytest both read."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.bls.point_compression import modular_squareroot_in_FQ2
from py_ecc.optimized_bls12_381 import FQ, FQ2, G2, Z1, Z2, add, b, b2, curve_order, field_modulus, is_inf, is_on_curve, multiply, normalize

from protocol.bls import DST

FILE = Path("contracts/test/vectors/bls_cases.json")
MESSAGE, OTHER_DST = b"a verdict", b"ANOTHER_DOMAIN_BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"


def build() -> list[dict[str, Any]]:
    """``{name, key, message, signature, valid}``, points as EIP-2537 encodes them."""
    secret = 987_654_321
    key, point = multiply(G2, secret), hash_to_G1(MESSAGE, DST, sha256)
    good = multiply(point, secret)
    key_bytes, signature = _g2(key), _g1(good)
    rest = field_modulus - int(normalize(good)[1])
    cases = [
        ("a valid signature", key_bytes, signature, True),
        ("the key 1", _g2(G2), _g1(point), True),
        ("the largest secret", _g2(multiply(G2, curve_order - 1)), _g1(multiply(point, curve_order - 1)), True),
        ("one key twice, aggregated", _g2(add(key, key)), _g1(add(good, good)), True),
        ("one key twice, signed once", _g2(add(key, key)), signature, False),
        ("two keys that cancel out: infinity", _g2(Z2), _g1(Z1), False),
        ("the key at infinity", _g2(Z2), signature, False),
        ("the signature at infinity", key_bytes, _g1(Z1), False),
        ("another domain", key_bytes, _g1(multiply(hash_to_G1(MESSAGE, OTHER_DST, sha256), secret)), False),
        ("another message", key_bytes, _g1(multiply(hash_to_G1(b"another", DST, sha256), secret)), False),
        ("another key", _g2(multiply(G2, secret + 1)), signature, False),
        ("the negated signature", key_bytes, signature[:64] + rest.to_bytes(64, "big"), False),
        ("a signature outside the subgroup", key_bytes, _g1(_outside_g1()), False),
        ("a key outside the subgroup", _g2(_outside_g2()), signature, False),
        ("a signature off the curve", key_bytes, signature[:127] + bytes([signature[127] ^ 1]), False),
        ("a key off the curve", key_bytes[:255] + bytes([key_bytes[255] ^ 1]), signature, False),
        (
            "a coordinate above the modulus",
            key_bytes,
            (int.from_bytes(signature[:64], "big") + field_modulus).to_bytes(64, "big") + signature[64:],
            False,
        ),
        ("padding that is not zero", key_bytes, b"\x01" + signature[1:], False),
    ]
    return [{"name": name, "key": _hex(k), "message": _hex(MESSAGE), "signature": _hex(s), "valid": valid} for name, k, s, valid in cases]


def _outside_g1() -> Any:
    """A point of the curve whose order is not that of the subgroup."""
    for x in range(1, 100):
        square = FQ(x) ** 3 + b
        root = square ** ((field_modulus + 1) // 4)
        point = (FQ(x), root, FQ.one())
        if root * root == square and is_on_curve(point, b) and not is_inf(multiply(point, curve_order)):
            return point
    raise AssertionError("no such point below 100")


def _outside_g2() -> Any:
    for x in range(1, 100):
        at = FQ2([x, 0])
        root = modular_squareroot_in_FQ2(at**3 + b2)
        if root is not None and not is_inf(multiply(point := (at, root, FQ2.one()), curve_order)):
            return point
    raise AssertionError("no such point below 100")


def _g1(point: Any) -> bytes:
    if is_inf(point):
        return bytes(128)
    return b"".join(int(value).to_bytes(64, "big") for value in normalize(point))


def _g2(point: Any) -> bytes:
    if is_inf(point):
        return bytes(256)
    return b"".join(int(part).to_bytes(64, "big") for value in normalize(point) for part in value.coeffs)


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


if __name__ == "__main__":
    FILE.write_text(json.dumps({"cases": build()}, indent=1) + "\n")
