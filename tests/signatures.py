"""Signatures that no honest party makes."""

from eth_keys.constants import SECPK1_N


def twin(signature: bytes) -> bytes:
    """The same key's other signature, with s in the upper half of the curve's order: ecrecover takes it, our contracts do not."""
    upper = SECPK1_N - int.from_bytes(signature[32:64], "big")
    return signature[:32] + upper.to_bytes(32, "big") + bytes([55 - signature[64]])
