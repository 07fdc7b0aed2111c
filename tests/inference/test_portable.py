"""Keys and values that leave a stage as a file and go on at another one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from inference.encoder import open_stage
from inference.executor import StageExecutor
from inference.portable import BLOCK_ROWS, ROWS_OUT, BlockHashes, KvBlocks, NotPortable
from protocol.units import LayerRange
from tests.inference.test_split import LAYERS, SMALL

LAYERS_2_4, MODEL_ID, ROWS = LayerRange(2, 4), bytes(range(32)), 3 * BLOCK_ROWS
SHAPES = {"layers.2.keys": (2, 8), "layers.2.values": (2, 8), "layers.3.keys": (2, 8), "layers.3.values": (2, 8), ROWS_OUT: (32,)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llama")
    AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SMALL), dtype=torch.float32).eval().save_pretrained(folder)
    return folder


@pytest.fixture
def stage(folder: Path) -> StageExecutor:
    stage = open_stage(folder, LAYERS_2_4, torch.float32)
    assert stage.pack()
    return stage


def rows_in(count: int) -> torch.Tensor:
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(3))


def hashes_of(rows: torch.Tensor) -> list[bytes]:
    hashes = BlockHashes(MODEL_ID, LAYERS_2_4, "float32")
    hashes.add([row.numpy().tobytes() for row in rows])
    return hashes.found


def exported(stage: StageExecutor, first: int = 0) -> KvBlocks:
    session, rows = stage.open_session(), rows_in(ROWS)
    out = stage.forward(session, rows).rows
    states = {**stage.export(session, first, ROWS), ROWS_OUT: out[first:]}
    return KvBlocks(MODEL_ID, LAYERS_2_4, "float32", first, tuple(hashes_of(rows)[first // BLOCK_ROWS :]), states)


def test_blocks__moved_to_another_stage__go_on_as_if_nothing_had_happened(folder: Path, stage: StageExecutor) -> None:
    undisturbed, more = stage.open_session(), rows_in(ROWS + 5)
    whole = [*stage.forward(undisturbed, more[:ROWS]).rows, *(stage.forward(undisturbed, row[None]).rows[0] for row in more[ROWS:])]

    other = open_stage(folder, LAYERS_2_4, torch.float32)
    assert other.pack()
    moved, session = KvBlocks.decode(exported(stage).encode()), other.open_session()
    moved.require(MODEL_ID, LAYERS_2_4, "float32", SHAPES)
    other.extend(session, moved.tensors, ROWS)
    assert session.position == ROWS
    went_on = [other.forward(session, row[None]).rows[0] for row in more[ROWS:]]
    assert torch.equal(torch.stack([*moved.tensors[ROWS_OUT], *went_on]), torch.stack(whole))


def test_hashes__of_other_rows__differ_from_there_on() -> None:
    rows = rows_in(ROWS)
    other = rows.clone()
    other[BLOCK_ROWS + 2, 7] += 1
    same = [a == b for a, b in zip(hashes_of(rows), hashes_of(other), strict=True)]
    assert same == [True, False, False]
    apart = BlockHashes(MODEL_ID, LayerRange(2, 5), "float32")
    apart.add([row.numpy().tobytes() for row in rows])
    assert not set(apart.found) & set(hashes_of(rows))


def test_file__is_plain_safetensors(stage: StageExecutor, tmp_path: Path) -> None:
    from safetensors import safe_open

    (tmp_path / "kv.safetensors").write_bytes(exported(stage, BLOCK_ROWS).encode())
    with safe_open(tmp_path / "kv.safetensors", framework="pt") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(SHAPES)
        assert file.get_tensor("layers.3.values").shape == (2, ROWS - BLOCK_ROWS, 8)
    assert metadata["format"] == "funcnet-kv/1"
    assert (metadata["layers"], metadata["first"], metadata["dtype"]) == ("2-4", str(BLOCK_ROWS), "float32")
    assert metadata["hashes"].split(",") == [block.hex() for block in hashes_of(rows_in(ROWS))[1:]]


def test_file__that_is_none__is_refused_with_what_is_wrong(stage: StageExecutor) -> None:
    good = exported(stage)
    for raw in (b"", b"no file at all", good.encode()[:-9], b"\xff" * 64):
        with pytest.raises(NotPortable, match="are no file of keys and values"):
            KvBlocks.decode(raw)
    import safetensors.torch

    with pytest.raises(NotPortable, match="format None came"):
        KvBlocks.decode(safetensors.torch.save({"a": torch.ones(1)}))
    with pytest.raises(NotPortable, match="position 5 is not the first of a block"):
        KvBlocks.decode(replace(good, first=5).encode())


def test_file__of_another_stage__is_refused_by_name(stage: StageExecutor) -> None:
    good = exported(stage)
    cut = {**good.tensors, "layers.3.keys": good.tensors["layers.3.keys"][:, :-1]}
    less = {name: tensor for name, tensor in good.tensors.items() if name != "layers.2.values"}
    half = {name: tensor.bfloat16() for name, tensor in good.tensors.items()}
    for wrong, words in (
        (replace(good, model_id=bytes(32)), "do not fit layers 2-4"),
        (replace(good, layers=LayerRange(0, 2)), "layers 0-2 .* do not fit layers 2-4"),
        (replace(good, dtype="bfloat16"), "in bfloat16 do not fit"),
        (replace(good, tensors=cut), r"layers.3.keys has to be \[2, 48, 8\]"),
        (replace(good, tensors=less), "layers.2.values has to be .* nothing came"),
        (replace(good, tensors=half), "of torch.bfloat16 came"),
        (replace(good, hashes=good.hashes[:2]), r"has to be \[2, 32, 8\]"),
    ):
        with pytest.raises(NotPortable, match=words):
            wrong.require(MODEL_ID, LAYERS_2_4, "float32", SHAPES)


def test_layers__all__are_named_in_what_a_stage_tells_of_a_row(folder: Path) -> None:
    whole = open_stage(folder, LayerRange(0, LAYERS), torch.float32)
    assert len(whole.kv_of_a_row()) == 2 * LAYERS
    assert whole.kv_row_bytes() == 2 * LAYERS * 2 * 8 * 4
