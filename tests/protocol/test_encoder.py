"""How texts lie in a job's rows, and what becomes of those."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, processors

from protocol.encoder import Encoder, frames
from protocol.rows import FRAME_ROWS


def folder_of(path: Path, *kinds: str, begins: bool = True, **modes: Any) -> Path:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])  # type: ignore[assignment]
    tokenizer.save(str(path / "tokenizer.json"))
    modules = [{"idx": i, "path": "" if i != 1 else "1_Pooling", "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds)]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 4, **modes}))
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 512}')
    return path


def test_folder__of_sentence_transformers__is_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "Transformer", "Pooling", "Normalize", pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    assert Encoder.of(folder) == Encoder(4, FRAME_ROWS, 1, "mean", True)


def test_folder__of_a_model_that_writes_text__is_none(tmp_path: Path) -> None:
    assert Encoder.of(tmp_path) is None


@pytest.mark.parametrize(
    ("kinds", "modes", "words"),
    [
        (("Transformer", "Pooling", "Dense"), {"pooling_mode_mean_tokens": True}, "by Transformer, Pooling, Dense"),
        (("Transformer", "Pooling"), {"pooling_mode_max_tokens": True}, "by none of mean, cls"),
        (("Transformer", "Pooling"), {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "by none of mean, cls"),
    ],
)
def test_folder__that_makes_vectors_otherwise__is_refused(tmp_path: Path, kinds: tuple[str, ...], modes: dict[str, bool], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Encoder.of(folder_of(tmp_path, *kinds, **modes))


def test_folder__whose_texts_begin_with_nothing__is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="could not be told apart"):
        Encoder.of(folder_of(tmp_path, "Transformer", "Pooling", begins=False, pooling_mode_mean_tokens=True))


def test_starts__texts_one_after_another__are_where_each_begins() -> None:
    encoder = Encoder(4, FRAME_ROWS, 1, "mean", True)
    assert encoder.starts([1, 7, 2, 1, 2, 1, 8, 8, 2]) == [0, 3, 5]
    assert encoder.starts([7, 2, 1, 2]) == [0, 2]


def test_frames__texts__are_never_cut() -> None:
    texts = [[1] + [5] * 99, [1] + [6] * 99, [1] + [7] * 99, [1] + [8] * (FRAME_ROWS - 1), [1, 2]]
    found = frames(texts)
    assert [len(frame) for frame in found] == [200, 100, FRAME_ROWS, 2]
    assert [token for frame in found for token in frame] == [token for text in texts for token in text]


def test_pool__by_each_way__is_its_definition() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    mean = rows.mean(axis=0)
    assert Encoder(4, 9, 1, "mean", False).pool(rows) == pytest.approx(mean, abs=1e-6)
    assert Encoder(4, 9, 1, "mean", True).pool(rows) == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert Encoder(4, 9, 1, "cls", False).pool(rows) == pytest.approx(rows[0])
    assert Encoder(4, 9, 1, "cls", True).pool(np.zeros((2, 4), dtype=np.float32)) == pytest.approx(np.zeros(4))
