"""Where a stage computes. What needs a GPU is left out where there is none; the rest is what everybody runs."""

from pathlib import Path

import pytest
import torch

from inference import LoadError
from inference.calibrate import read_tolerances
from inference.classes import ExecutionClass, to_float32
from inference.compare import Verdict, findings, judge
from inference.devices import CPU, devices, parse_device, to_device, to_host
from inference.encoder import open_stage
from inference.honest import Job, decode
from inference.replay import StageReplayer
from protocol.sampling import SamplingParameters
from protocol.units import LayerRange

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CUTS = [LayerRange(0, 10), LayerRange(10, 20), LayerRange(20, 30)]
PROMPT = [1, 198, 2683, 359, 260, 5575, 282, 4649, 47]


def test_device__auto__is_the_last_of_those_that_are_here() -> None:
    assert parse_device("auto") == devices()[-1]
    assert devices()[0] == CPU == parse_device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:7", "meta", ""])
def test_device__that_is_not_here__is_refused_by_name(name: str) -> None:
    with pytest.raises(LoadError, match=f"device '{name}' is not .* choose auto"):
        parse_device(name)


def test_rows__on_the_cpu__are_not_copied() -> None:
    rows = torch.ones(2, 3)
    assert to_device(rows, CPU) is rows
    assert to_host([rows])[0] is rows


@pytest.mark.slow
def test_compile__sessions_in_one_pass__are_what_they_are_without(model_dir: Path) -> None:
    plain, compiled = (open_stage(model_dir, CUTS[1], torch.float32) for _ in range(2))
    compiled.compile()
    outs = []
    for stage in (plain, compiled):
        assert stage.pack()
        sessions = [stage.open_session() for _ in range(2)]
        rows = [torch.randn(count, stage.hidden_size, generator=torch.Generator().manual_seed(count)) for count in (5, 9)]
        stage.step(list(zip(sessions, rows, strict=True)))
        outs.append(torch.cat([out.rows for out in stage.step([(session, part[:1]) for session, part in zip(sessions, rows, strict=True)])]))
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-4, atol=1e-4)


def test_compile__without_a_compiler__says_what_to_do(model_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch._dynamo.reset()
    stage = open_stage(model_dir, CUTS[1], torch.float32)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nonexistent/g++",))
    with pytest.raises(LoadError, match=r"torch cannot compile this stage .* unset FUNCNET_COMPILE"):
        stage.compile()


@gpu
def test_gpu__float32__writes_the_text_of_the_cpu(model_dir: Path) -> None:
    texts = []
    for device in devices():
        stages = [open_stage(model_dir, layers, torch.float32, device=device) for layers in CUTS]
        texts.append(decode(stages, [Job(PROMPT, SamplingParameters())], 32)[0].tokens)
    assert texts[0] == texts[1]


@gpu
@pytest.mark.parametrize("packed", [False, True])
def test_gpu__sessions_in_one_pass__are_each_by_itself(model_dir: Path, packed: bool) -> None:
    stage = open_stage(model_dir, CUTS[1], torch.float32, device=devices()[-1])
    assert not packed or stage.pack()
    rows = [torch.randn(count, stage.hidden_size, generator=torch.Generator().manual_seed(count)) for count in (5, 9)]
    alone = [stage.forward(stage.open_session(), part).rows for part in rows]
    together = [out.rows for out in stage.step([(stage.open_session(), part) for part in rows])]
    assert all(out.device == CPU for out in together)
    for own, beside in zip(alone, together, strict=True):
        torch.testing.assert_close(own, beside, rtol=1e-3, atol=1e-3)


@gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gpu__honest_work__passes_by_the_table_on_either_device(model_dir: Path, precision: str) -> None:
    execution = ExecutionClass.parse(f"{precision}/sdpa")
    table = {(entry.layers, entry.precision): entry for entry in read_tolerances(model_dir)}
    stages = [open_stage(model_dir, layers, execution.dtype, device=devices()[-1]) for layers in CUTS]
    (job,) = decode(stages, [Job(PROMPT, SamplingParameters())], 16)
    for device in devices():
        for i, layers in enumerate(CUTS):
            tolerance, replayer = table[layers, precision], StageReplayer.load(model_dir, layers, execution, device=device)
            errors = tolerance.errors(to_float32(job.rows_out[i]), replayer.replay(job.rows_in[i]))
            assert judge(findings(errors, job.first), tolerance) is not Verdict.FAIL
