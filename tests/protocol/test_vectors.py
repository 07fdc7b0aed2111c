"""The committed vectors are what the spec computes, and BLS agrees with an implementation that is not ours."""

import json
from pathlib import Path

import pytest
from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.optimized_bls12_381 import G2, multiply, neg, normalize, pairing

from protocol import bls, vectors
from protocol.chain import CONTRACTS, abi
from tests.protocol import bls_cases


@pytest.mark.parametrize("name", vectors.NAMES)
def test_vectors__rebuilt__equal_the_committed_files(name: str) -> None:
    assert vectors.build(name) == vectors.read(name)


def test_bls__hash_to_curve__equals_py_ecc() -> None:
    from hashlib import sha256

    message = bytes.fromhex(vectors.read("bls")["message"][2:])
    x, y = normalize(hash_to_G1(message, bls.DST, sha256))
    ours = bls.encode_g1(bls.G1Point.hash_to_curve(message, bls.DST))
    assert ours == int(x).to_bytes(64, "big") + int(y).to_bytes(64, "big")


def test_bls__signature__holds_by_py_ecc_pairing() -> None:
    from hashlib import sha256

    secret, message = 12345, b"a message"
    signature = multiply(hash_to_G1(message, bls.DST, sha256), secret)
    x, y = normalize(signature)
    assert bls.sign(secret.to_bytes(32, "big"), message) == int(x).to_bytes(64, "big") + int(y).to_bytes(64, "big")
    assert pairing(G2, signature) * pairing(multiply(neg(G2), secret), hash_to_G1(message, bls.DST, sha256)) == type(pairing(G2, signature)).one()


def test_bls__verify__refuses_infinity_wrong_message_and_garbage() -> None:
    secret = bls.new_secret()
    key, signature = bls.public_key(secret), bls.sign(secret, b"m")
    assert bls.verify(key, b"m", signature)
    assert not bls.verify(key, b"n", signature)
    assert not bls.verify(bytes(256), b"m", bytes(128))
    assert not bls.verify(key, b"m", b"\x01" * 128)
    assert not bls.verify(key, b"m", signature[:-1])


def test_bls__cases_by_py_ecc__are_judged_alike() -> None:
    committed = json.loads(bls_cases.FILE.read_text())["cases"]
    assert committed == bls_cases.build()
    for case in committed:
        key, message, signature = (bytes.fromhex(case[part][2:]) for part in ("key", "message", "signature"))
        assert bls.verify(key, message, signature) == case["valid"], case["name"]


@pytest.mark.parametrize("name", CONTRACTS)
def test_abi__committed__is_that_of_the_build(name: str) -> None:
    built = json.loads(Path(f"out/{name}.sol/{name}.json").read_text())["abi"]
    assert abi(name) == json.loads(json.dumps(built, sort_keys=True))
