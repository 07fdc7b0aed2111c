"""Any decoder, cut anywhere: split equals unsplit bit for bit, and only owned tensors are read."""

from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from inference import CutError, LoadError, TensorMismatch
from inference.executor import StageExecutor
from inference.loader import load_stage
from inference.weights import open_tensors, tensor_entry
from protocol.manifest import Manifest
from protocol.units import LayerRange

LAYERS = 6
SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
ARCHITECTURES = {
    "llama": (transformers.LlamaConfig, {}),
    "llama-tied": (transformers.LlamaConfig, {"tie_word_embeddings": True}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 8}),
    "gemma3": (
        transformers.Gemma3TextConfig,
        {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 3},
    ),
    "mixtral": (transformers.MixtralConfig, {"num_local_experts": 4}),
}
CUTS = ([(0, 2), (2, 4), (4, 6)], [(0, 6)], [(0, 1), (1, 6)])


@pytest.fixture(params=ARCHITECTURES, scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, extra = ARCHITECTURES[request.param]
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    AutoModelForCausalLM.from_config(kind(**SMALL, **extra), dtype=torch.float32).eval().save_pretrained(folder)
    return folder


def split(folder: Path, cuts: list[tuple[int, int]], manifest: Manifest | None = None) -> list[StageExecutor]:
    return [StageExecutor(load_stage(folder, LayerRange(*cut), torch.float32, manifest)) for cut in cuts]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("chunk", [11, 4])
def test_split__greedy__equals_generate_and_rows_equal_the_whole_models(folder: Path, cuts: list[tuple[int, int]], chunk: int) -> None:
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = torch.randint(0, 97, (11,), generator=torch.Generator().manual_seed(1))
    options = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = whole.generate(prompt[None], attention_mask=torch.ones_like(prompt)[None], **options)[0, 11:].tolist()
    stages = split(folder, cuts)
    sessions = [stage.open_session() for stage in stages]
    # The unsplit model in the same steps, so that equality can be asked bit for bit.
    single, unsplit = StageExecutor(load_stage(folder, LayerRange(0, LAYERS), torch.float32)), None
    unsplit = single.open_session()
    tokens: list[int] = []
    feeds = [prompt[i : i + chunk] for i in range(0, 11, chunk)]
    while len(tokens) < 10:
        for feed in feeds:
            rows = feed
            for stage, session in zip(stages, sessions, strict=True):
                out = stage.forward(session, rows)
                rows = out.rows
            assert out.logits is not None
            reference = single.forward(unsplit, feed)
            assert reference.logits is not None
            assert torch.equal(out.logits, reference.logits)
            assert torch.equal(out.rows, reference.rows)
        tokens.append(int(out.logits[-1].argmax()))
        feeds = [torch.tensor(tokens[-1:])]
    assert tokens == expected


def test_load__three_stages__read_each_tensor_once(folder: Path) -> None:
    keys = [stage.stage.loaded_keys for stage in split(folder, CUTS[0])]
    everything = {name for name, _ in open_tensors(folder)}
    assert set().union(*keys) == everything
    shared = [key for key in everything if sum(key in part for part in keys) > 1]
    # Only a tied embedding serves at both ends.
    assert all("embed_tokens" in key for key in shared)
    middle = split(folder, CUTS[0])[1].stage.model
    assert not any("embed_tokens" in name or "lm_head" in name for name, _ in middle.named_parameters())


def manifest_of(folder: Path) -> Manifest:
    return Manifest.of((tensor_entry(file, name) for name, file in open_tensors(folder)), LAYERS)


def test_load__manifest__is_checked_for_owned_tensors_alone(folder: Path) -> None:
    manifest = manifest_of(folder)
    foreign = next(name for name in manifest.entries if ".layers.5." in name)
    entry = manifest.entries[foreign]
    changed = Manifest.of([*(e for e in manifest.entries.values() if e != entry), type(entry)(foreign, entry.dtype, entry.shape, bytes(32))], LAYERS)
    split(folder, [(0, 2)], changed)
    with pytest.raises(TensorMismatch, match=foreign):
        split(folder, [(4, 6)], changed)


@pytest.mark.parametrize("cut", [(0, 7), (3, 3), (5, 2)])
def test_load__range_outside_the_model__is_refused_with_the_numbers(folder: Path, cut: tuple[int, int]) -> None:
    with pytest.raises(CutError, match=r"within 0-6"):
        load_stage(folder, LayerRange(*cut), torch.float32)


def test_load__no_model__says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"config\.json"):
        load_stage(tmp_path, LayerRange(0, 1), torch.float32)


def test_manifest__written__reads_back_and_tampering_shows(folder: Path, tmp_path: Path) -> None:
    manifest = manifest_of(folder)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    text = (tmp_path / "manifest.json").read_text()
    name = next(iter(manifest.entries))
    (tmp_path / "manifest.json").write_text(text.replace(name, name + "x", 1))
    with pytest.raises(ValueError, match="does not hash to its root"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("cut", [(0, 2), (2, 4), (4, 6), (0, 6)], ids=str)
def test_unload__and_reload__hold_no_weights_in_between_and_give_the_same_rows(folder: Path, cut: tuple[int, int]) -> None:
    (stage,) = split(folder, [cut])
    packs, first = stage.pack(), cut[0] == 0
    source = torch.Generator().manual_seed(2)
    rows = torch.randint(0, 97, (5,), generator=source) if first else torch.randn(5, 32, generator=source)
    before = stage.step([(stage.open_session(), rows)])[0]
    stage.unload()
    held = [*stage.stage.model.parameters(), *stage.stage.model.buffers()]
    assert all(tensor.is_meta for tensor in held)
    assert (stage.vocab_size, stage.hidden_size, stage.packed) == (97, 32, packs)
    stage.reload(load_stage(folder, LayerRange(*cut), torch.float32))
    after = stage.step([(stage.open_session(), rows)])[0]
    assert torch.equal(before.rows, after.rows)
    assert before.logits is None or torch.equal(before.logits, after.logits)
