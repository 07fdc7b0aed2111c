"""Models that turn texts into vectors: how rows are cut into texts, and those made vectors. Read from a folder as sentence-transformers lays it out.

A job carries many texts, one after another. Each begins with the token that the tokenizer puts first, and none crosses a frame, so that everybody
cuts the rows at the same places.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from protocol.rows import FRAME_ROWS

MODULES_FILE = "modules.json"
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True)
class Encoder:
    """``dimensions`` of a vector; ``context``: the most tokens of a text; ``begin``: the token that each begins with; ``pooling``: mean or cls;
    ``normalise``: to length 1."""

    dimensions: int
    context: int
    begin: int
    pooling: str
    normalise: bool

    @classmethod
    def of(cls, folder: Path) -> "Encoder | None":
        """None for a folder whose model writes text. Raises ValueError for one that makes vectors in a way that is not known here."""
        if not (folder / MODULES_FILE).is_file():
            return None
        modules = json.loads((folder / MODULES_FILE).read_text())
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
            raise ValueError(f"{folder.name} makes vectors by {', '.join(kinds)}; known are a transformer, pooling and normalising")
        modes = json.loads((folder / modules[1]["path"] / "config.json").read_text())
        pooling = [name for key, name in POOLINGS.items() if modes.get(key)]
        if len(pooling) != 1 or sum(value is True for key, value in modes.items() if key.startswith("pooling_mode")) != 1:
            raise ValueError(f"{folder.name} pools by none of {', '.join(POOLINGS.values())}")
        most = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        begin = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("").ids[:1]
        if not begin:
            raise ValueError(f"the tokenizer of {folder.name} begins a text with no token of its own, so texts could not be told apart")
        return cls(int(modes["word_embedding_dimension"]), min(int(most), FRAME_ROWS), begin[0], pooling[0], "Normalize" in kinds)

    def starts(self, tokens: Sequence[int]) -> list[int]:
        """Where texts begin: at the first row, and wherever the token stands that begins one."""
        return [at for at, token in enumerate(tokens) if at == 0 or token == self.begin]

    def pool(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """A text's rows [n, hidden] as one vector [hidden]."""
        vector = rows[0].astype(np.float64) if self.pooling == "cls" else rows.mean(axis=0, dtype=np.float64)
        length = max(float(np.linalg.norm(vector)), 1e-12) if self.normalise else 1.0
        return np.asarray(vector / length, dtype=np.float32)


def frames(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Texts' tokens in frames of at most FRAME_ROWS, each of whole texts."""
    found: list[list[int]] = []
    for text in texts:
        if not found or len(found[-1]) + len(text) > FRAME_ROWS:
            found.append([])
        found[-1] += text
    return found
