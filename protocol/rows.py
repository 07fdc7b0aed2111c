"""Hashes of boundary rows: what a stage commits to. Design section 3, step 4."""

import hashlib
import struct
from collections.abc import Sequence

from protocol.trees import RowTree

TOKEN_DTYPE = "token"
TOKEN_BYTES = 8
CHECKPOINT_EVERY = 32
"""Rows between two checkpoints while decoding."""
FRAME_ROWS = 256
"""The most rows in one frame: a long prompt goes in several, which the stages work on at once, and between which others get their turn."""


def row_leaf(salt: bytes, boundary: int, position: int, dtype: str, payload: bytes) -> bytes:
    """``SHA-256(salt, boundary, position, dtype, payload)``.

    ``boundary``: the layer index before which the row crosses (0: token ids in; the layer count: final-norm rows out). ``payload``: the
    row's bytes exactly as sent. Fixed-width and length-prefixed fields make the encoding injective.
    """
    name = dtype.encode()
    head = struct.pack("<HIB", boundary, position, len(name))
    return hashlib.sha256(salt + head + name + payload).digest()


def token_payload(token: int) -> bytes:
    """A token id as it crosses boundary 0: 8 bytes, little-endian."""
    return struct.pack("<q", token)


def last_stage_payload(row: bytes, token: int) -> bytes:
    """What the last stage commits to for a position: the final-norm row and the token sampled from it, -1 where none was."""
    return row + struct.pack("<q", token)


def prompt_root(salt: bytes, tokens: Sequence[int]) -> bytes:
    """Root over the prompt's token ids at boundary 0."""
    tree = RowTree()
    for position, token in enumerate(tokens):
        tree.append(row_leaf(salt, 0, position, TOKEN_DTYPE, token_payload(token)))
    return tree.root()
