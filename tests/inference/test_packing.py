"""Sessions of any length join and leave one pass at every step, and each gets what it would have got alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from inference.calibrate import read_tolerances
from inference.classes import DTYPES, ExecutionClass, to_float32
from inference.compare import Verdict, findings, judge
from inference.executor import SessionState, StageExecutor
from inference.honest import encode
from inference.loader import load_stage
from inference.packing import LEAST_TOGETHER, GrowingLayer, Room
from inference.prompts import Part, prompts
from inference.replay import StageReplayer
from protocol.units import LayerRange
from tests.inference.test_split import SMALL, split

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4}
FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, {}),
    "mistral-window": (transformers.MistralConfig, {"sliding_window": 4}),
    "qwen2": (transformers.Qwen2Config, {}),
    "qwen3-moe": (transformers.Qwen3MoeConfig, {"head_dim": 8, **EXPERTS}),
    "gemma3-windows": (
        transformers.Gemma3TextConfig,
        {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 3},
    ),
    "phi3": (transformers.Phi3Config, {"pad_token_id": 0}),
    "olmo2": (transformers.Olmo2Config, {}),
    "cohere": (transformers.CohereConfig, {}),
    "starcoder2": (transformers.Starcoder2Config, {}),
    "stablelm": (transformers.StableLmConfig, {}),
    "smollm3": (transformers.SmolLM3Config, {"pad_token_id": 0}),
    "nemotron": (transformers.NemotronConfig, {}),
    "deepseek-v3": (
        transformers.DeepseekV3Config,
        {**LATENT, **EXPERTS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 2},
    ),
}
PROMPTS, NEW_TOKENS = (11, 5, 8), 8


@pytest.fixture(params=FAMILIES, scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, extra = FAMILIES[request.param]
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    AutoModelForCausalLM.from_config(kind(**{**SMALL, **extra}), dtype=torch.float32).eval().save_pretrained(folder)
    return folder


def tokens_of(rows: int) -> torch.Tensor:
    return torch.randint(1, 97, (rows,), generator=torch.Generator().manual_seed(rows))


def test_packed__sessions_join_and_leave__each_gets_the_tokens_of_generate(folder: Path) -> None:
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = [tokens_of(rows) for rows in PROMPTS]
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = [whole.generate(p[None], attention_mask=torch.ones_like(p)[None], **options)[0, len(p) :].tolist() for p in prompts]
    stages = split(folder, [(0, 2), (2, 4), (4, 6)])
    assert [stage.pack() for stage in stages] == [True] * 3
    sessions = [[stage.open_session() for stage in stages] for _ in prompts]
    feeds, found = list(prompts), [list[int]() for _ in prompts]
    for step in range(NEW_TOKENS + 2 * (len(prompts) - 1)):
        active = [i for i in range(len(prompts)) if step >= 2 * i and len(found[i]) < NEW_TOKENS]
        rows = [feeds[i] for i in active]
        for number, stage in enumerate(stages):
            outs = stage.step([(sessions[i][number], part) for i, part in zip(active, rows, strict=True)])
            rows = [out.rows for out in outs]
        for i, out in zip(active, outs, strict=True):
            assert out.logits is not None
            found[i].append(int(out.logits[-1].argmax()))
            feeds[i] = torch.tensor(found[i][-1:])
    assert found == expected


def test_fork__goes_on_from_a_copy__as_the_session_itself_would_and_a_window_is_not_cut(folder: Path) -> None:
    (stage,) = split(folder, [(0, 6)])
    assert stage.pack()
    assert stage.forks == ("window" not in folder.name)
    if not stage.forks:
        return
    tokens, ended, whole = tokens_of(11), stage.open_session(), stage.open_session()
    stage.forward(ended, torch.cat([tokens[:7], tokens_of(4)]))  # went on with something else
    forks = [stage.fork(ended, 7, 16) for _ in range(2)]
    stage.forward(whole, tokens[:7])
    rows, expected = [stage.forward(fork, tokens[7:]).rows for fork in forks], stage.forward(whole, tokens[7:]).rows
    assert [fork.position for fork in forks] == [11, 11]
    for found in rows:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_slots__left_with_what_is_no_number__are_clean_for_the_next(llama: Path) -> None:
    """A kernel looks at slots beyond what their sessions wrote; what somebody left there may reach nobody."""
    stage = stage_of(llama)
    assert stage.pack()
    stay, leaves = [stage.open_session() for _ in range(LEAST_TOGETHER)], stage.open_session()
    stage.step([*((session, tokens_of(3)) for session in stay), (leaves, tokens_of(9))])
    held: list[Any] = list(leaves.cache.layers)
    with torch.inference_mode():
        for layer in held:
            layer.keys.fill_(torch.nan)
            layer.values.fill_(torch.inf)
    slot = held[0].room.slot
    del leaves, held, layer
    new, alone = stage.open_session(), stage.open_session()
    stage.step([(new, tokens_of(2))])
    assert {layer.room.slot for layer in new.cache.layers if isinstance(layer, GrowingLayer)} == {slot}
    together = stage.step([(session, tokens_of(1)) for session in (*stay, new)])[-1]
    stage.forward(alone, tokens_of(2))
    torch.testing.assert_close(together.rows, stage.forward(alone, tokens_of(1)).rows, rtol=1e-4, atol=1e-5)


def test_slabs__more_sessions_and_rows_than_there_was_room_for__each_goes_on_as_alone(llama: Path) -> None:
    stage = stage_of(llama)
    assert stage.pack()
    counts = range(2, 13)
    sessions, alone = [stage.open_session(4) for _ in counts], [stage.open_session(64) for _ in counts]
    prompts = [tokens_of(count) for count in counts]
    for session, prompt in zip(sessions, prompts, strict=True):  # one after another, so that slabs grow between
        stage.forward(session, prompt)
    del sessions[3], alone[3], prompts[3]
    for own, prompt in zip(alone, prompts, strict=True):
        stage.forward(own, prompt)
    for step in range(12):
        token = tokens_of(step + 1)[-1:]
        found = stage.step([(session, token) for session in sessions])
        for out, own in zip(found, alone, strict=True):
            torch.testing.assert_close(out.rows, stage.forward(own, token).rows, rtol=1e-4, atol=1e-5)
    slabs = list(stage._slabs.values())
    assert any(slab.states for slab in slabs)
    del sessions, alone, session, own, found, out
    assert not any(slab.states for slab in slabs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_packed__honest_rows_of_the_real_model__pass_the_limits_that_were_fitted_to_sessions_alone(model_dir: Path, precision: str) -> None:
    layers, dtype = LayerRange(10, 20), DTYPES[precision]
    first, second = (StageExecutor(load_stage(model_dir, cut, dtype)) for cut in (LayerRange(0, 10), layers))
    assert first.pack()
    assert second.pack()
    jobs = encode(model_dir, prompts(Part.HELD_OUT, 8))
    sessions = [(first.open_session(), second.open_session()) for _ in jobs]
    rows_in, rows_out = [list[torch.Tensor]() for _ in jobs], [list[torch.Tensor]() for _ in jobs]
    feeds = [torch.tensor(ids) for ids in jobs]
    for step in range(17):
        given = [out.rows for out in first.step([(own[0], feed) for own, feed in zip(sessions, feeds, strict=True)])]
        for i, out in enumerate(second.step([(own[1], rows) for own, rows in zip(sessions, given, strict=True)])):
            rows_in[i].append(given[i])
            rows_out[i].append(out.rows)
        feeds = [torch.tensor([(1000 * i + step) % 40_000]) for i in range(len(jobs))]
    replayer = StageReplayer.load(model_dir, layers, ExecutionClass.parse(f"{precision}/sdpa"))
    tolerance = next(entry for entry in read_tolerances(model_dir) if (entry.layers, entry.precision) == (layers, precision))
    for ids, given_rows, claimed in zip(jobs, rows_in, rows_out, strict=True):
        errors = tolerance.errors(to_float32(torch.cat(claimed)), replayer.replay(torch.cat(given_rows)))
        assert judge(findings(errors, len(ids) - 1), tolerance) is Verdict.PASS


def test_packed__one_session_in_bfloat16__has_the_rows_of_a_stage_that_is_not_packed(model_dir: Path) -> None:
    usual, packed = (StageExecutor(load_stage(model_dir, LayerRange(10, 20), torch.bfloat16)) for _ in range(2))
    assert packed.pack()
    source = torch.Generator().manual_seed(1)
    steps = [torch.randn(count, usual.hidden_size, generator=source).bfloat16() for count in (9, 1, 1, 3, 1, 1)]
    sessions = usual.open_session(), packed.open_session()
    for rows in steps:
        expected, found = (stage.forward(own, rows).rows.float() for stage, own in zip((usual, packed), sessions, strict=True))
        assert float(((expected - found).norm(dim=-1) / expected.norm(dim=-1)).max()) <= torch.finfo(torch.bfloat16).eps


def stage_of(folder: Path, attention: str = "sdpa") -> StageExecutor:
    return StageExecutor(load_stage(folder, LayerRange(0, 6), torch.float32, attention=attention))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llama")
    AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SMALL), dtype=torch.float32).eval().save_pretrained(folder)
    return folder


def test_pack__kernel_that_is_not_ours_to_call__is_refused_and_sessions_run_one_by_one(llama: Path) -> None:
    stage, packed = stage_of(llama, "eager"), stage_of(llama)
    assert not stage.pack()
    assert packed.pack()
    work = [tokens_of(7), tokens_of(3)]
    alone, together = (s.step([(s.open_session(), rows) for rows in work]) for s in (stage, packed))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.rows, other.rows, rtol=1e-4, atol=1e-5)


def test_pack__model_with_state_of_another_kind__is_refused_and_goes_on_as_before(llama: Path) -> None:
    stage = stage_of(llama)
    expected = stage.forward(stage.open_session(), tokens_of(9)).rows
    honest = stage.open_session

    class Fading(GrowingLayer):
        """Forgets a little of its past with each row, so that it matters what else runs in between."""

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
            keys, values = super().update(key_states, value_states)
            values[..., : values.shape[-2] - key_states.shape[-2], :] *= 1 - 0.2 * float(stage.packed)
            return keys, values

    def open_session(rows: int = 64) -> SessionState:
        session = honest(rows)
        session.cache.layers = [Fading(i, Room(rows)) for i in range(len(session.cache.layers))]
        return session

    stage.open_session = open_session  # type: ignore[method-assign]
    assert not stage.pack()
    stage.open_session = honest  # type: ignore[method-assign]
    assert torch.equal(stage.forward(stage.open_session(), tokens_of(9)).rows, expected)


def test_pack__positions_encoded_by_the_longest_sequence__is_refused(tmp_path: Path) -> None:
    """A long session would change what a short one beside it gets: it would take a stranger to have an honest stage fail its check."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    config = transformers.LlamaConfig(**{**SMALL, "max_position_embeddings": 16}, rope_parameters=rope)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().save_pretrained(tmp_path)
    stage = stage_of(tmp_path)
    short, long = stage.open_session(), stage.open_session()
    stage.forward(long, tokens_of(40))
    alone = stage.forward(short, tokens_of(9)).rows
    assert not stage.pack()
    # What would happen if it were packed all the same.
    stage.stage.model.set_attn_implementation("packed")
    stage.packed = True
    short, long = stage.open_session(), stage.open_session()
    stage.forward(long, tokens_of(40))
    beside = stage.step([(short, tokens_of(9)), (long, tokens_of(1))])[0].rows
    assert not torch.allclose(beside, alone, rtol=1e-3)


def test_session__past_its_room__grows_and_keeps_what_it_has(llama: Path) -> None:
    stage = stage_of(llama)
    assert stage.pack()
    tight, wide = stage.open_session(2), stage.open_session(64)
    for rows in (1, 1, 1, 5, 9):
        assert torch.equal(stage.forward(tight, tokens_of(rows)).rows, stage.forward(wide, tokens_of(rows)).rows)


def test_kv_row_bytes__is_what_a_row_takes(llama: Path) -> None:
    stage = stage_of(llama)
    # Keys and values of two heads of eight float32 numbers, in six layers.
    assert stage.kv_row_bytes() == 2 * 2 * 8 * 4 * 6
    assert stage.pack()
    assert stage.kv_row_bytes() == 2 * 2 * 8 * 4 * 6
