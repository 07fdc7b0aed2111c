"""Statistics and verdicts by table; on the real model, that calibrated limits tell cheats from honest stages on prompts they were not fitted to."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference import LoadError
from inference.calibrate import batches, calibrate, read_tolerances, tolerance_factor
from inference.classes import ExecutionClass, rows_from_bytes, rows_to_bytes, to_float32
from inference.compare import (
    ROW_CAP,
    TOKEN_CAP,
    WIDE_CAP,
    Findings,
    PairSpread,
    RowErrors,
    Rows,
    Spread,
    StageTolerance,
    TokenSpread,
    Verdict,
    alignments,
    findings,
    judge,
    row_errors,
    stands,
    tolerance_root,
)
from inference.executor import StageExecutor
from inference.honest import Job, JobRows, decode, encode
from inference.linears import unblocked
from inference.loader import load_stage
from inference.prompts import Part, prompts
from inference.replay import PASS_ROWS, VARIANTS, StageReplayer, passes
from protocol.sampling import SamplingParameters, sample
from protocol.units import LayerRange
from tests.adversaries.compute import COMPUTE, cancelling_rows, random_rows

SPREAD = Spread(0.0, 0.1, 0.2)
TOLERANCE = StageTolerance(
    layers=LayerRange(0, 2),
    precision="bfloat16",
    channel_spread=np.ones(4, dtype=np.float32),
    noise=0.01,
    size=PairSpread(SPREAD, SPREAD, 1.0),
    probe=PairSpread(Spread(0.0, 0.01, 0.05), Spread(0.0, 0.01, 0.05), 1.0),
    tokens=TokenSpread(0.05, 0.2),
    fail=5.0,
    look=3.0,
    runs=64,
)
QUIET = Findings(prompt=0.0, prompt_rows=40, served=0.0, served_rows=8, window=0.0, margin=0.05, tokens=8)
CUTS = [LayerRange(0, 10), LayerRange(10, 20), LayerRange(20, 30)]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"served": 0.45}, Verdict.INCONCLUSIVE),
        ({"served": 0.7}, Verdict.FAIL),
        ({"prompt": 0.4}, Verdict.INCONCLUSIVE),
        ({"prompt": 0.6}, Verdict.FAIL),
        ({"served": 0.4, "prompt": 0.35}, Verdict.INCONCLUSIVE),
        ({"served": 0.5, "prompt": 0.5}, Verdict.FAIL),
        ({"window": 0.9}, Verdict.FAIL),
        ({"margin": 9.0}, Verdict.FAIL),
        ({"served": 0.7, "served_rows": 1}, Verdict.INCONCLUSIVE),
        ({"margin": 9.0, "tokens": 1}, Verdict.PASS),
        ({"aligned": (0.03, 0.03)}, Verdict.PASS),
        ({"aligned": (0.05, 0.05)}, Verdict.INCONCLUSIVE),
        ({"aligned": (0.07, 0.07)}, Verdict.FAIL),
        ({"aligned": (-0.9, -0.9)}, Verdict.PASS),
    ],
)
def test_judge__limits__decide(change: dict[str, float], verdict: Verdict) -> None:
    assert judge(replace(QUIET, **change), TOLERANCE) is verdict


def test_row_errors__one_wild_row__counts_for_fourfold_and_no_more() -> None:
    source = np.random.default_rng(1)
    exact = source.standard_normal((16, 4)).astype(np.float32)
    twin = exact + 0.01 * source.standard_normal((16, 4)).astype(np.float32)
    claimed = twin.copy()
    claimed[5] = 1e9
    errors = row_errors(claimed, exact, twin, TOLERANCE.channel_spread, 0.0)
    assert errors[5] == ROW_CAP
    assert (np.delete(errors, 5) == 0).all()


def test_alignments__a_share_of_the_probes_error__is_that_share_among_other_errors() -> None:
    source = np.random.default_rng(2)
    exact, error, noise = (source.standard_normal((400, 64)).astype(np.float32) for _ in range(3))
    spread = (1 + source.random(64)).astype(np.float32)
    found = alignments(exact + 0.1 * error + 0.5 * noise, exact, exact + error, spread)
    assert found.mean() == pytest.approx(0.1, abs=0.01)
    assert alignments(exact + error, exact, exact + error, spread).mean() == pytest.approx(1, abs=0.2)
    assert (alignments(exact - 99 * error, exact, exact + error, spread) == -1).all()
    assert alignments(exact, exact, exact, spread) == pytest.approx(0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_row_errors__not_finite__is_as_wrong_as_can_be(bad: float) -> None:
    rows = np.ones((2, 4), dtype=np.float32)
    claimed = rows.copy()
    claimed[1, 2] = bad
    assert row_errors(claimed, rows, None, TOLERANCE.channel_spread, 0.01)[1] == WIDE_CAP


def test_findings__margins__are_capped_and_nothing_is_refused() -> None:
    found = findings(RowErrors(np.zeros(40)), 30, [0.0, float("inf")])
    assert found.margin == TOKEN_CAP / 2
    assert (found.prompt_rows, found.served_rows, found.tokens) == (30, 10, 2)
    with pytest.raises(ValueError, match="no rows"):
        findings(RowErrors(np.array([])), 0)


def test_tolerance_factor__published_table__agrees() -> None:
    # Tables of one-sided normal tolerance factors (Natrella, NBS Handbook 91, table A-7): 99 % of the population, 95 % confidence.
    assert tolerance_factor(0.01, 10) == pytest.approx(3.981, abs=0.002)
    assert tolerance_factor(0.01, 50) == pytest.approx(2.863, abs=0.005)
    with pytest.raises(LoadError, match="1 honest runs"):
        tolerance_factor(0.01, 1)


def test_tolerance__encoded__round_trips_and_its_root_ignores_order() -> None:
    back = StageTolerance.decode(TOLERANCE.encode())
    assert back.encode() == TOLERANCE.encode()
    other = replace(TOLERANCE, layers=LayerRange(2, 4), tokens=None)
    assert tolerance_root([TOLERANCE, other]) == tolerance_root([other, TOLERANCE])


def test_tolerances__of_another_release__are_refused_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "tolerance.json").write_text('[{"layers": "0-2", "claimed_class": "float32/sdpa"}]')
    with pytest.raises(LoadError, match="funcnet model calibrate"):
        read_tolerances(tmp_path)


def test_classes__unknown__names_the_known_ones() -> None:
    assert ExecutionClass.parse("bfloat16+int8/eager").int8
    with pytest.raises(LoadError, match="bfloat16/sdpa"):
        ExecutionClass.parse("float16/sdpa")


def test_rows__bytes__round_trip_in_each_dtype() -> None:
    for name in ("float32/sdpa", "bfloat16/eager"):
        execution = ExecutionClass.parse(name)
        rows = torch.randn(3, 5).to(execution.dtype)
        assert torch.equal(rows_from_bytes(b"".join(rows_to_bytes(rows)), 3, execution.dtype), rows)
    with pytest.raises(ValueError, match="not 3 rows"):
        rows_from_bytes(b"12345", 3, torch.float32)


def test_prompts__parts__share_nothing_and_are_many() -> None:
    calibration, held_out = (set(prompts(part, 1000)) for part in Part)
    assert not calibration & held_out
    assert len(held_out) > 900
    assert len(calibration) > 500


def test_passes__many_jobs__none_is_left_out_and_none_exceeds_the_bound() -> None:
    lengths = [5, 900, 40, 40, 300, 2000, 7]
    found = list(passes(lengths))
    assert sorted(i for chosen in found for i in chosen) == list(range(len(lengths)))
    assert all(len(chosen) == 1 or len(chosen) * max(lengths[i] for i in chosen) <= PASS_ROWS for chosen in found)


def test_batches__sizes__cover_every_job_once() -> None:
    assert sorted(i for batch, _ in batches(list(range(50))) for i in batch) == list(range(50))


@pytest.fixture(scope="module")
def stages(model_dir: Path) -> list[StageExecutor]:
    return [StageExecutor(load_stage(model_dir, layers, torch.bfloat16)) for layers in CUTS]


@pytest.fixture(scope="module")
def replayers(model_dir: Path) -> list[StageReplayer]:
    return [StageReplayer.load(model_dir, layers, ExecutionClass.parse("bfloat16/sdpa")) for layers in CUTS]


@pytest.fixture(scope="module")
def honest(model_dir: Path, stages: list[StageExecutor]) -> list[JobRows]:
    return decode(stages, held_out(model_dir, 6), 12)


def held_out(model_dir: Path, count: int, temperature: float = 0.0) -> list[Job]:
    ids = encode(model_dir, prompts(Part.HELD_OUT, count, seed=77))
    return [Job(found, SamplingParameters(temperature=temperature, seed=i)) for i, found in enumerate(ids)]


def verdicts(model_dir: Path, replayers: Sequence[StageReplayer], job: JobRows) -> list[Verdict]:
    table = {(entry.layers, entry.precision): entry for entry in read_tolerances(model_dir)}
    found = []
    for index, replayer in enumerate(replayers):
        tolerance, replay = table[(CUTS[index], "bfloat16")], replayer.replay(job.rows_in[index])
        claimed = to_float32(job.rows_out[index])
        errors = tolerance.errors(claimed, replay)
        margins = replayer.margins([job.claim])[0] if replayer.is_last else []
        found.append(judge(findings(errors, job.first, margins), tolerance))
    return found


def test_decode__ragged_batch__is_each_job_by_itself(model_dir: Path) -> None:
    stages = [StageExecutor(load_stage(model_dir, layers, torch.float32)) for layers in CUTS]
    jobs = held_out(model_dir, 3)
    for together, job in zip(decode(stages, jobs, 6), jobs, strict=True):
        (alone,) = decode(stages, [job], 6)
        assert together.tokens == alone.tokens
        for one, other in zip(together.rows_out, alone.rows_out, strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-3)


def test_replay__several_jobs_in_a_pass__are_each_job_by_itself(replayers: list[StageReplayer], honest: list[JobRows]) -> None:
    rows = [job.rows_in[1] for job in honest]
    for together, alone in zip(replayers[1].replay_batch(rows), map(replayers[1].replay, rows), strict=True):
        assert np.allclose(together.reference, alone.reference, rtol=1e-3, atol=1e-3)


def test_margins__final_rows__are_what_sampling_saw(replayers: list[StageReplayer], honest: list[JobRows], monkeypatch: pytest.MonkeyPatch) -> None:
    claims = [job.claim for job in honest]
    found = replayers[-1].margins(claims)
    assert [len(margins) for margins in found] == [len(claim.tokens) for claim in claims]
    assert max(map(max, found)) < TOKEN_CAP
    monkeypatch.setattr("inference.replay.HEAD_ROWS", 5)
    assert replayers[-1].margins(claims[:1])[0] == pytest.approx(found[0], abs=0.5)
    wrong = replace(claims[0], tokens=[token + 1 for token in claims[0].tokens])
    assert min(replayers[-1].margins([wrong])[0]) > TOKEN_CAP


def test_honest__held_out_prompts__pass_at_every_stage(model_dir: Path, replayers: list[StageReplayer], honest: list[JobRows]) -> None:
    for job in honest:
        assert verdicts(model_dir, replayers, job) == [Verdict.PASS] * 3


CHEATS = ("int4-weights", "int8-weights", "int4-one-layer", "kv-fp8", "fewer-layers", "swapped-layers", "smaller-model")


@pytest.mark.parametrize(("name", "guilty"), [(name, index % 3) for index, name in enumerate(CHEATS)])
def test_cheat__in_one_stage__fails_there_and_nowhere_else(
    model_dir: Path, stages: list[StageExecutor], replayers: list[StageReplayer], name: str, guilty: int
) -> None:
    cheat = StageExecutor(load_stage(model_dir, CUTS[guilty], torch.bfloat16))
    COMPUTE[name](cheat)
    (job,) = decode([*stages[:guilty], cheat, *stages[guilty + 1 :]], held_out(model_dir, 1), 8)
    found = verdicts(model_dir, replayers, job)
    assert found[guilty] is Verdict.FAIL
    assert Verdict.FAIL not in found[:guilty] + found[guilty + 1 :]


def test_wrong_seed__sampled_text__fails_by_its_tokens(model_dir: Path, stages: list[StageExecutor], replayers: list[StageReplayer]) -> None:
    def other_seed(rows: JobRows, logits: torch.Tensor, position: int) -> int:
        return sample(logits.numpy(), SamplingParameters(temperature=1.0, seed=rows.job.sampling.seed + 9), position)

    (job,) = decode(stages, held_out(model_dir, 1, temperature=1.0), 64, other_seed)
    assert verdicts(model_dir, replayers, job) == [Verdict.PASS, Verdict.PASS, Verdict.FAIL]


@pytest.mark.slow
def test_calibrate__few_runs__gives_wide_limits_of_the_right_size(model_dir: Path) -> None:
    """Fitted from other prompts in a few runs, the table lies near the one that is shipped."""
    table = {(entry.layers, entry.precision): entry for entry in read_tolerances(model_dir)}
    found = calibrate(model_dir, CUTS, "float32", 4, Part.HELD_OUT)
    assert [entry.layers for entry in found] == [*CUTS, LayerRange(0, 30)]
    for entry in found:
        assert entry.fail > table[(entry.layers, "float32")].fail
        assert 0.1 < entry.noise / table[(entry.layers, "float32")].noise < 10


def standing(served: float, *honest: float, aligned: float = 0.0, others: float = 0.0, margins: Sequence[float] = (), exact: bool = False) -> bool:
    """Whether 8 rows, each off by ``served``, stand against honest machines off by ``honest``; ``aligned`` and ``others`` are their alignments."""

    def off(size: float, along: float) -> RowErrors:
        return RowErrors(np.full(8, size), None if exact else np.full(8, along))

    tolerance = replace(TOLERANCE, precision="float32", probe=None) if exact else TOLERANCE
    errors = off(served, aligned)
    found = findings(errors, 0, margins)
    assert judge(found, tolerance) is Verdict.FAIL
    return stands(found, errors, [off(size, others) for size in honest], tolerance)


def test_stands__where_honest_machines_lie_high_or_as_high__does_not() -> None:
    fail, look = (TOLERANCE.size.served.limit(8, factor) for factor in (TOLERANCE.fail, TOLERANCE.look))
    half = (fail + look) / 2
    assert standing(1.3, half - 0.01, half - 0.01)
    assert not standing(1.3, half + 0.01, half + 0.01)
    # Just over the limit, and hardly above what honest machines give.
    assert standing(fail + 0.01, 0.0, 0.0)
    assert not standing(fail + 0.01, look + 0.02, look + 0.02)
    # Where they are spread, it has to stand out.
    assert standing(0.8, 0.0, 0.1)
    assert not standing(0.8, -0.3, 0.0, 0.3)
    # Tokens are judged by the stage's own rows; alignments may be off to either side, and stand whatever the size of the errors is.
    assert standing(0.0, 5.0, margins=[9.0] * 8)
    assert standing(0.0, 0.0, 0.0, aligned=0.9)
    assert standing(0.0, 1.3, 1.3, aligned=0.9)
    assert not standing(0.0, 0.0, 0.0, aligned=0.9, others=-0.9)


def test_stands__without_a_twin__row_by_row_beyond_any_honest_machine() -> None:
    fail = TOLERANCE.size.served.limit(8, TOLERANCE.fail)
    assert standing(6.9, 0.0, 0.1, exact=True)
    assert standing(6.9, 0.0, 3.0, exact=True)
    assert not standing(3.0 + np.log(4.0) + fail - 0.01, 0.0, 3.0, exact=True)
    assert standing(3.0 + np.log(4.0) + fail + 0.01, 0.0, 3.0, exact=True)
    # Honest rows far closer than usual are no measure.
    assert standing(fail + 0.01, -4.0, exact=True)


def test_judge__four_rows_far_off_among_many__fail_without_a_twin_alone_and_stand_where_honest_machines_are_near() -> None:
    tolerance = replace(TOLERANCE, precision="float32", probe=None)
    for wrong, size, verdict in ((2, 6.9, Verdict.PASS), (3, 5.0, Verdict.PASS), (4, 6.9, Verdict.FAIL)):
        sizes = np.full(400, -1.3)
        sizes[300 : 300 + 20 * wrong : 20] = size
        errors = RowErrors(sizes)
        found = findings(errors, 200)
        assert judge(found, tolerance) is verdict
        assert judge(found, replace(tolerance, precision="bfloat16")) is Verdict.PASS
    near, far = np.full(400, -1.3), np.full(400, -1.3)
    far[300:361] = 2.0
    assert stands(found, errors, [RowErrors(near)], tolerance)
    assert not stands(found, errors, [RowErrors(near), RowErrors(far)], tolerance)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_variants__of_prompts_nobody_has_chosen_for_it__lie_low(model_dir: Path, precision: str) -> None:
    table = {(entry.layers, entry.precision): entry for entry in read_tolerances(model_dir)}
    rows = torch.tensor(encode(model_dir, prompts(Part.HELD_OUT, 1, 9))[0][:48])
    for layers in CUTS:
        replayer, tolerance = StageReplayer.load(model_dir, layers, ExecutionClass.parse(f"{precision}/sdpa")), table[layers, precision]
        honest, replay = replayer.twin or replayer.reference, replayer.replay(rows)
        found = [tolerance.errors(variant, replay) for variant in replayer.variants(rows)]
        assert len({one.size.tobytes() for one in found}) == VARIANTS
        # A lie that is seen at once stands against all of them.
        lie = tolerance.errors(replay.reference * 1.2, replay)
        assert stands(findings(lie, 40), lie, found, tolerance)
        # The kernel is put back where it was.
        assert honest.stage.model.config._attn_implementation == "sdpa"
        rows = honest.forward(honest.open_session(), rows).rows


def one_by_one(executor: StageExecutor, rows: torch.Tensor) -> Rows:
    """As a stage serves them while it decodes."""
    session = executor.open_session()
    return np.concatenate([to_float32(executor.forward(session, row[None]).rows) for row in rows])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("layers", "precision"), [(CUTS[1], "float32"), (CUTS[1], "bfloat16"), (CUTS[2], "float32")], ids=str)
def test_honest_machines__on_rows_chosen_at_every_strength__are_never_convicted(model_dir: Path, layers: LayerRange, precision: str) -> None:
    tolerance = next(entry for entry in read_tolerances(model_dir) if (entry.layers, entry.precision) == (layers, precision))
    execution = ExecutionClass.parse(f"{precision}/sdpa")
    replayer = StageReplayer.load(model_dir, layers, execution)
    own, eager, torchs = (StageExecutor(load_stage(model_dir, layers, execution.dtype, attention=name)) for name in ("sdpa", "eager", "sdpa"))
    before = StageExecutor(load_stage(model_dir, LayerRange(0, layers.first), torch.float32))
    ids = torch.tensor(encode(model_dir, prompts(Part.HELD_OUT, 1, 21))[0][:24])
    rows, half = before.forward(before.open_session(), ids).rows, 12
    spread, target = torch.tensor(np.array(tolerance.channel_spread)), StageExecutor(load_stage(model_dir, layers, torch.float32))
    chosen = [cancelling_rows(target, rows, spread, steps) for steps in (4, 8, 12, 25, 60)]
    chosen += [rows * factor for factor in (0.001, 0.03, 0.1, 0.3, 0.7, 1.5, 10, 1000)]
    chosen += [(1 - share) * rows + share * random_rows(rows) for share in (0.05, 0.1, 0.2, 1.0)]
    failed = 0
    for changed in chosen:
        for part in (changed, torch.cat([changed[:half], rows[half:]]), torch.cat([rows[:half], changed[half:]])):
            sent = part.to(execution.dtype)
            replay = replayer.replay(sent)
            claims = [tolerance.errors(one_by_one(machine, sent), replay) for machine in (own, eager)]
            with unblocked(torchs.stage.model):
                claims.append(tolerance.errors(one_by_one(torchs, sent), replay))
            found = [(findings(errors, half), errors) for errors in claims]
            wrong = [(one, errors) for one, errors in found if judge(one, tolerance) is Verdict.FAIL]
            failed += len(wrong)
            if wrong:
                honest = [tolerance.errors(variant, replay) for variant in replayer.variants(sent)]
                assert not any(stands(one, errors, honest, tolerance) for one, errors in wrong)
    # By the table alone they would be.
    assert failed
