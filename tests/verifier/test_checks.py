"""Checks as a worker carries them out: several together, hostile rows among them, on a machine that holds only some of a model's layers."""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from inference import LoadError
from inference.calibrate import read_tolerances
from inference.classes import rows_to_bytes, to_float32
from inference.compare import Replay, Verdict, findings, judge
from inference.executor import StageExecutor
from inference.honest import encode
from inference.linears import unblocked
from inference.loader import load_stage
from inference.prompts import Part, prompts
from protocol.manifest import Manifest, ModelShelf
from protocol.receipts import Checkpoint, SessionOffer, StageReceipt, execution_class_id
from protocol.sampling import SamplingParameters
from protocol.typed import ZERO32, Signed
from protocol.units import LayerRange
from protocol.vectors import counted
from tests.adversaries.compute import COMPUTE, cancelling_rows, random_rows
from verifier import EvidenceBad, EvidenceMissing
from verifier.checks import Ask, Checking, CheckResult, Replayer, Replayers
from verifier.evidence import ROWS_OUT, Evidence, EvidenceClient, Placing, nowhere
from verifier.store import CheckKey

PROVIDER = "0x" + "11" * 20


@pytest.fixture(scope="module")
def first_third(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model's manifest and table, and of its weights only the embedding and layers 0-10."""
    folder = tmp_path_factory.mktemp("shelf") / "part"
    shutil.copytree(model_dir, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    with safe_open(model_dir / "model.safetensors", framework="pt") as tensors:
        kept = [name for name in tensors.keys() if "layers." not in name or int(name.split("layers.")[1].split(".")[0]) < 10]  # noqa: SIM118
        save_file({name: tensors.get_tensor(name) for name in kept}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_replayer__part_of_a_model__loads_the_stages_that_are_there(first_third: Path) -> None:
    replayer = Replayers(ModelShelf(first_third.parent)).of(Manifest.read(first_third).model_id)
    assert replayer is not None
    rows = replayer.stage(LayerRange(0, 10), "float32").replay(torch.tensor([1, 2, 3]))
    assert rows.reference.shape[0] == 3
    with pytest.raises(LoadError, match="10-20"):
        replayer.stage(LayerRange(10, 20), "float32")


class Served(EvidenceClient):
    """Evidence as it comes from a provider, without one: what is looked at here is what becomes of it."""

    def __init__(self, parts: dict[int, tuple[Evidence, Evidence]]) -> None:
        self.parts = parts
        self.commitments: dict[int, bytes] = {}

    async def rows(
        self,
        provider: str,
        number: int,
        part: int,
        duty_signature: bytes,
        dispute_id: int,
        commitment: bytes = ZERO32,
        place: Placing = nowhere,
        order: Signed | None = None,
    ) -> Evidence:
        if number not in self.parts:
            raise EvidenceMissing("nobody there")
        if part == ROWS_OUT:
            assert commitment == self.commitments[number]
        return self.parts[number][part]

    def committed(self, key: CheckKey, commitment: bytes, opening: bytes) -> None:
        self.commitments[key.number] = commitment

    def check(self, shelf: Path, numbers: Sequence[int]) -> dict[int, CheckResult | EvidenceMissing]:
        async def run() -> dict[int, CheckResult | EvidenceMissing]:
            checking = Checking(self, Replayers(ModelShelf(shelf)), self.committed, lambda _: None)
            return {key.number: result async for key, result in checking.run([Ask(CheckKey(PROVIDER, number), b"") for number in numbers])}

        return asyncio.run(run())


def evidence_of(model_id: bytes, layers: LayerRange, payloads: list[bytes], precision: str = "float32") -> Evidence:
    receipt = replace(counted(StageReceipt, 1), model_id=model_id, first_layer=layers.first, end_layer=layers.end)
    offer = replace(counted(SessionOffer, 1), execution_class=execution_class_id(f"{precision}/sdpa"), first_position=0, prompt_tokens=len(payloads))
    return Evidence(receipt, counted(Checkpoint, 1), offer, SamplingParameters(), payloads, [])


def verdict_of(found: CheckResult | EvidenceMissing) -> tuple[Verdict, str]:
    assert isinstance(found, CheckResult)
    return found.verdict, str((found.detail or {}).get("reason", ""))


def test_check__of_layers_that_are_not_here__accuses_nobody(first_third: Path) -> None:
    evidence = evidence_of(Manifest.read(first_third).model_id, LayerRange(10, 20), [bytes(4 * 576)])
    served = Served({1: (evidence, evidence)})
    verdict, reason = verdict_of(served.check(first_third.parent, [1])[1])
    assert verdict is Verdict.INCONCLUSIVE
    assert "10-20" in reason
    assert not served.commitments


def test_check__several_together__hostile_rows_spoil_only_their_own(first_third: Path) -> None:
    model_id, layers = Manifest.read(first_third).model_id, LayerRange(0, 10)
    executor = StageExecutor(load_stage(first_third, layers, torch.float32))

    def job(ids: list[int]) -> tuple[list[bytes], list[bytes]]:
        rows = executor.forward(executor.open_session(), torch.tensor(ids)).rows
        return [i.to_bytes(8, "little") for i in ids], rows_to_bytes(rows)

    def parts(ins: list[bytes], outs: list[bytes]) -> tuple[Evidence, Evidence]:
        return evidence_of(model_id, layers, ins), evidence_of(model_id, layers, outs)

    (short_in, short_out), (long_in, long_out) = job([1, 2, 3, 4]), job(list(range(100, 140)))
    served = Served(
        {
            1: parts(short_in, short_out),
            2: parts(long_in, long_out),
            3: parts(short_in, [row[::-1] for row in short_out]),
            4: parts([(10**6).to_bytes(8, "little"), *short_in[1:]], short_out),
            5: parts([(-1).to_bytes(8, "little", signed=True), *short_in[1:]], short_out),
            6: parts([row[:4] for row in short_in], short_out),
            7: parts(short_in, [row[:-4] for row in short_out]),
            8: parts(short_in, short_out[:3]),
        }
    )
    found = served.check(first_third.parent, range(1, 10))
    assert isinstance(found.pop(9), EvidenceMissing)
    told = {number: verdict_of(result) for number, result in found.items()}
    assert {number: verdict for number, (verdict, _) in told.items()} == {
        **{1: Verdict.PASS, 2: Verdict.PASS, 3: Verdict.FAIL},
        **dict.fromkeys((4, 5, 6, 7, 8), Verdict.WITHHELD),
    }
    assert "not one of the model's 49152" in told[4][1]
    assert "not one of the model's 49152" in told[5][1]
    assert "8 bytes each" in told[6][1]
    assert "2304 bytes each" in told[7][1]
    assert "rows out from position 0" in told[8][1]
    # Nothing is committed to where there was nothing to replay.
    assert set(served.commitments) == {1, 2, 3, 7, 8}


@pytest.fixture(scope="module")
def middle(model_dir: Path) -> tuple[Replayer, torch.Tensor]:
    """A replayer of the whole model, and the rows of a prompt before layer 10."""
    ids = encode(model_dir, prompts(Part.HELD_OUT, 3, 5))[0][:24]
    first = StageExecutor(load_stage(model_dir, LayerRange(0, 10), torch.float32))
    return Replayer(model_dir, read_tolerances(model_dir)), first.forward(first.open_session(), torch.tensor(ids)).rows


def judged(replayer: Replayer, rows: torch.Tensor, claimed: torch.Tensor) -> tuple[Verdict, dict[str, float | str]]:
    model_id, layers = replayer.manifest.model_id, LayerRange(10, 20)
    precision = str(rows.dtype).removeprefix("torch.")
    rows_in, rows_out = (evidence_of(model_id, layers, rows_to_bytes(part), precision) for part in (rows, claimed))
    rows_out = replace(rows_out, offer=replace(rows_out.offer, prompt_tokens=len(rows) // 2 + 1))
    return replayer.compare(rows_in, rows_out, *replayer.replay([rows_in]))


def honest_elsewhere(model_dir: Path, rows: torch.Tensor) -> torch.Tensor:
    """Layers 10-20 on an honest machine with another kernel and another library, row after row as in decoding."""
    executor = StageExecutor(load_stage(model_dir, LayerRange(10, 20), rows.dtype, attention="eager"))
    session = executor.open_session()
    with unblocked(executor.stage.model):
        return torch.cat([executor.forward(session, row[None]).rows for row in rows])


def alone(replayer: Replayer, rows: torch.Tensor, claimed: torch.Tensor) -> Verdict:
    """The verdict by the table alone, whatever honest variants would give."""
    precision = str(rows.dtype).removeprefix("torch.")
    tolerance = replayer.tolerances[LayerRange(10, 20), precision]
    replay = replayer.stage(LayerRange(10, 20), precision).replay(rows)
    return judge(findings(tolerance.errors(to_float32(claimed), replay), len(rows) // 2), tolerance)


def test_compare__rows_in_found_by_gradient_that_the_layers_cancel__convict_nobody(middle: tuple[Replayer, torch.Tensor], model_dir: Path) -> None:
    replayer, rows = middle
    tolerance = replayer.tolerances[LayerRange(10, 20), "float32"]
    reference = replayer.stage(LayerRange(10, 20), "float32").reference
    chosen = cancelling_rows(reference, rows[:12], torch.tensor(np.array(tolerance.channel_spread)), 60)
    claimed = honest_elsewhere(model_dir, chosen)
    assert alone(replayer, chosen, claimed) is Verdict.FAIL
    assert judged(replayer, chosen, claimed)[0] is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("dtype", "change"),
    [
        (torch.float32, lambda rows: rows * 0.1),
        (torch.float32, lambda rows: rows * 0.001),
        (torch.float32, lambda rows: 0.5 * rows + 0.5 * random_rows(rows)),
        (torch.bfloat16, lambda rows: rows * 1000),
        (torch.bfloat16, lambda rows: rows * 0.001),
    ],
    ids=["a tenth", "a thousandth", "half random", "a thousandfold", "a thousandth in bfloat16"],
)
def test_compare__rows_in_as_no_prompt_gives_them__convict_nobody(
    middle: tuple[Replayer, torch.Tensor], model_dir: Path, dtype: Any, change: Any
) -> None:
    replayer, rows = middle
    sent = change(rows).to(dtype)
    claimed = honest_elsewhere(model_dir, sent)
    assert alone(replayer, sent, claimed) is Verdict.FAIL
    assert judged(replayer, sent, claimed)[0] is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("share", [0.1, 0.2, 1.0])
def test_compare__random_rows_in__convict_nobody(middle: tuple[Replayer, torch.Tensor], model_dir: Path, share: float) -> None:
    replayer, rows = middle
    sent = (1 - share) * rows + share * random_rows(rows)
    assert judged(replayer, sent, honest_elsewhere(model_dir, sent))[0] is not Verdict.FAIL


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compare__a_lie_over_rows_as_they_usually_are__stays_one(middle: tuple[Replayer, torch.Tensor], model_dir: Path, dtype: Any) -> None:
    replayer, rows = middle
    sent = rows.to(dtype)
    cheat = StageExecutor(load_stage(model_dir, LayerRange(10, 20), dtype))
    assert judged(replayer, sent, cheat.forward(cheat.open_session(), sent).rows)[0] is Verdict.PASS
    COMPUTE["int8-weights"](cheat)
    assert judged(replayer, sent, cheat.forward(cheat.open_session(), sent).rows)[0] is Verdict.FAIL


def test_compare__rows_that_are_not_finite__convict_who_committed_to_them_alone(middle: tuple[Replayer, torch.Tensor]) -> None:
    replayer, rows = middle
    broken = rows.clone()
    broken[3, 5] = torch.nan
    with pytest.raises(EvidenceBad, match="not finite"):
        judged(replayer, broken, broken)
    assert judged(replayer, rows, broken)[0] is Verdict.FAIL
    # Where the replay itself is not finite, an honest stage signs nothing; whoever signs all the same may have another overflow.
    evidence = evidence_of(replayer.manifest.model_id, LayerRange(10, 20), rows_to_bytes(rows))
    assert replayer.compare(evidence, evidence, Replay(np.full(rows.shape, np.inf, dtype=np.float32)))[0] is Verdict.INCONCLUSIVE


def test_check__more_rows_than_fit__are_replayed_in_turn(first_third: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifier.checks.BATCH_ROWS", 5)
    passes: list[int] = []
    honest = Replayer.replay

    def replay(self: Replayer, evidence: Sequence[Evidence]) -> list[Replay]:
        passes.append(len(evidence))
        return honest(self, evidence)

    monkeypatch.setattr(Replayer, "replay", replay)
    ids = [i.to_bytes(8, "little") for i in (1, 2, 3, 4, 5, 6)]
    model_id, layers = Manifest.read(first_third).model_id, LayerRange(0, 10)
    served = Served({n: (evidence_of(model_id, layers, ids[:n]),) * 2 for n in (2, 3, 6, 1)})
    assert all(verdict_of(found)[0] is Verdict.WITHHELD for found in served.check(first_third.parent, [2, 3, 6, 1]).values())
    assert passes == [2, 1, 1]
