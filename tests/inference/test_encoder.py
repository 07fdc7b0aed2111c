"""An encoder as a stage: its rows are those of transformers' own run, whatever runs beside, and a replay tells honest work from a cheat's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from inference import CutError, LoadError, TensorMismatch
from inference.calibrate import calibrate, read_tolerances, write_tolerances
from inference.classes import ExecutionClass, to_float32
from inference.compare import Verdict, findings, judge
from inference.encoder import encoder_of, load_encoder, open_stage
from inference.linears import unblocked
from inference.loader import round_linears
from inference.prompts import Part, prompts
from inference.replay import StageReplayer
from protocol.manifest import Manifest
from protocol.units import LayerRange

WHOLE = LayerRange(0, 6)
TEXTS = ["A cat sits on the mat.", "Ein Hund schläft.", "Stock prices fell sharply on Monday after the central bank raised rates again.", "x"]


@pytest.fixture(scope="module")
def tokens(encoder_dir: Path) -> list[list[int]]:
    tokenizer: Any = AutoTokenizer.from_pretrained(encoder_dir, local_files_only=True)
    return [tokenizer(text)["input_ids"] for text in TEXTS]


def test_rows__of_texts_in_one_frame__are_transformers_own_of_each_alone(encoder_dir: Path, tokens: list[list[int]]) -> None:
    executor = open_stage(encoder_dir, WHOLE, torch.float32)
    session, other = executor.open_session(), executor.open_session()
    frame = torch.tensor([token for text in tokens for token in text])
    together, beside = executor.step([(session, frame), (other, torch.tensor(tokens[2]))])
    assert (session.position, other.position) == (len(frame), len(tokens[2]))
    model = AutoModel.from_pretrained(encoder_dir, local_files_only=True).eval()
    with torch.inference_mode():
        expected = [model(input_ids=torch.tensor([text])).last_hidden_state[0] for text in tokens]
    assert torch.allclose(together.rows, torch.cat(expected), atol=1e-5)
    assert torch.allclose(beside.rows, expected[2], atol=1e-5)
    assert together.logits is None
    # A second frame of a session knows nothing of the first.
    assert torch.allclose(executor.forward(session, torch.tensor(tokens[0])).rows, expected[0], atol=1e-5)


def test_load__part_of_an_encoder_or_other_weights__is_refused(encoder_dir: Path) -> None:
    with pytest.raises(CutError, match="it is not cut"):
        load_encoder(encoder_dir, LayerRange(0, 3), torch.float32)
    manifest = Manifest.read(encoder_dir)
    name, entry = next(iter(manifest.entries.items()))
    forged = Manifest({**manifest.entries, name: type(entry)(entry.name, entry.dtype, entry.shape, bytes(32))}, 6)
    with pytest.raises(TensorMismatch, match=name):
        load_encoder(encoder_dir, WHOLE, torch.float32, forged)
    with pytest.raises(LoadError, match="leave the cuts out"):
        write_tolerances(encoder_dir, [3])


def test_encoder__of_an_unknown_kind__is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text('[{"type": "a.Transformer", "path": ""}, {"type": "a.Dense", "path": ""}]')
    with pytest.raises(LoadError, match="cannot be served"):
        encoder_of(tmp_path)


@pytest.mark.parametrize("kernel", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
def test_replay__of_honest_work_on_other_texts__passes__and_of_rounded_weights_does_not(encoder_dir: Path, kernel: str) -> None:
    (tolerance,) = (entry for entry in read_tolerances(encoder_dir) if entry.precision == "float32")
    replayer = StageReplayer.load(encoder_dir, WHOLE, ExecutionClass.parse(f"float32/{kernel}"))
    honest, cheat = (open_stage(encoder_dir, WHOLE, torch.float32, attention=kernel) for _ in range(2))
    tokenizer: Any = AutoTokenizer.from_pretrained(encoder_dir, local_files_only=True)
    texts = [tokenizer(text, truncation=True, max_length=256)["input_ids"] for text in prompts(Part.HELD_OUT, 12)]
    with unblocked(cheat.stage.model):
        round_linears(cheat.stage.blocks)

    def verdicts(executor: Any) -> list[Verdict]:
        found = []
        for first, second in zip(texts[::2], texts[1::2], strict=True):
            job = torch.tensor([*first, *second])
            rows, replay = to_float32(executor.forward(executor.open_session(), job).rows), replayer.replay(job)
            assert np.allclose(replayer.variants(job), replay.reference, atol=1e-4)
            found.append(judge(findings(tolerance.errors(rows, replay), 0, []), tolerance))
        return found

    assert not replayer.samples
    assert verdicts(honest) == [Verdict.PASS] * 6
    assert verdicts(cheat) == [Verdict.FAIL] * 6


@pytest.mark.slow
def test_calibrate__in_bfloat16__tells_int8_weights_from_honest_rounding(encoder_dir: Path) -> None:
    (tolerance,) = calibrate(encoder_dir, [WHOLE], "bfloat16", 24)
    replayer = StageReplayer.load(encoder_dir, WHOLE, ExecutionClass.parse("bfloat16/sdpa"))
    executors = [open_stage(encoder_dir, WHOLE, torch.bfloat16, int8=int8) for int8 in (False, True)]
    tokenizer: Any = AutoTokenizer.from_pretrained(encoder_dir, local_files_only=True)
    texts = [torch.tensor(tokenizer(text, truncation=True, max_length=256)["input_ids"]) for text in prompts(Part.HELD_OUT, 6)]
    found = [
        [judge(findings(tolerance.errors(to_float32(e.forward(e.open_session(), t).rows), replayer.replay(t)), 0, []), tolerance) for t in texts]
        for e in executors
    ]
    assert found == [[Verdict.PASS] * 6, [Verdict.FAIL] * 6]
