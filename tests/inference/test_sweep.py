"""What becomes of each architecture where it is cut: as ``architectures.json`` says, which ``python -m tests.inference.architectures`` makes.

``packed`` and ``alone``: three stages equal the whole bit for bit, many sessions in one pass or one after another. ``make test-long`` tries all.
"""

import json
import os
from pathlib import Path

import pytest

from tests.inference.architectures import outcome

EXPECTED: dict[str, str] = json.loads((Path(__file__).parent / "architectures.json").read_text())
SOME = ["deepseek_v3", "falcon", "gpt2", "gpt_neox", "gpt_oss", "jamba", "mamba2", "opt", "phi3", "qwen3_next", "gemma4_text", "nanochat", "bart"]
"""Layers in other places, that give tuples, that are recurrent, of both kinds; and those that must not be cut."""


@pytest.mark.parametrize("name", sorted(EXPECTED) if os.environ.get("FUNCNET_LONG") else SOME)
def test_architecture__cut_in_three__equals_the_whole_or_is_refused(name: str, tmp_path: Path) -> None:
    assert outcome(name, tmp_path) == EXPECTED[name]


def test_architectures__none_is_cut_that_gives_other_rows() -> None:
    assert [name for name, found in EXPECTED.items() if found == "differs"] == []
    assert sum(found in ("packed", "alone") for found in EXPECTED.values()) >= 107
