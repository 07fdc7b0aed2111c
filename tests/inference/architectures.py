"""Every causal model that transformers knows, built tiny and cut in three. ``python -m tests.inference.architectures``
prints what becomes of each."""

import json
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from inference import CutError
from inference.executor import StageExecutor
from inference.loader import load_stage
from protocol.units import LayerRange

LAYERS, VOCABULARY, MOST_PARAMETERS = 6, 97, 20_000_000
TINY = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "ffn_dim": 64, "word_embed_proj_dim": 32, "decoder_layers": LAYERS, "decoder_attention_heads": 4, "d_model": 32, "decoder_ffn_dim": 64,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1,
    "topk_group": 1, "shared_expert_intermediate_size": 32, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "state_size": 8, "n_groups": 1, "num_heads": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8,
    "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "sliding_window": 4, "is_decoder": True, "rotary_dim": 8, "n_positions": 128,
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY, "attention_hidden_size": 32, "conv_L_cache": 3, "lru_width": 32,
    "index_head_dim": 8, "index_n_heads": 2, "index_topk": 64, "first_k_dense_replace": 2, "n_embd": 32, "n_layer": LAYERS, "n_head": 4,
    "n_inner": 64,
}  # fmt: skip
CUTS = ((0, 2), (2, 4), (4, 6))


def outcome(name: str, folder: Path) -> str:
    """What becomes of an architecture: ``packed`` or ``alone`` where three stages equal the whole bit for bit, else why not."""
    try:
        model = _tiny(name)
    except Exception as error:
        return f"not built: {type(error).__name__}"
    if model is None:
        return "not built: too large"
    model.save_pretrained(folder)
    kernel = "sdpa" if model._supports_sdpa else "eager"
    try:
        stages = [StageExecutor(load_stage(folder, LayerRange(*cut), torch.float32, attention=kernel)) for cut in CUTS]
    except CutError:
        return "refused"
    except Exception as error:
        return f"not loaded: {_told(error, folder)}"
    try:
        whole = StageExecutor(load_stage(folder, LayerRange(0, LAYERS), torch.float32, attention=kernel))
        if not _equal(stages, whole):
            return "differs"
    except Exception as error:
        return f"not run: {_told(error, folder)}"
    return "packed" if all(stage.pack() for stage in stages) else "alone"


def _told(error: Exception, folder: Path) -> str:
    """The beginning of an error, which says the same wherever the model lies."""
    return f"{type(error).__name__}: {str(error).replace(str(folder), 'the folder')[:80]}"


def _tiny(name: str) -> transformers.PreTrainedModel | None:
    config_class = transformers.CONFIG_MAPPING[name]
    config = config_class()
    text = config.get_text_config(decoder=True)
    known = {**text.to_dict(), **{old: None for old in getattr(text, "attribute_map", {})}}
    latent = {"num_key_value_heads": 4} if "kv_lora_rank" in known else {}
    config = type(text)(**{key: value for key, value in (TINY | latent).items() if key in known})
    torch.manual_seed(0)
    with torch.device("meta"):
        if sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters()) > MOST_PARAMETERS:
            return None
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def _equal(stages: list[StageExecutor], whole: StageExecutor) -> bool:
    """A prompt in three chunks, then single tokens, through the stages and through all layers in one."""
    feeds = list(torch.randint(3, VOCABULARY, (11,), generator=torch.Generator().manual_seed(1)).split(4))
    sessions, single = [stage.open_session() for stage in stages], whole.open_session()
    for _ in range(9):
        rows = feeds[0]
        for stage, session in zip(stages, sessions, strict=True):
            out = stage.forward(session, rows)
            rows = out.rows
        expected = whole.forward(single, feeds[0])
        assert out.logits is not None
        assert expected.logits is not None
        if not torch.equal(out.logits, expected.logits) or not torch.equal(out.rows, expected.rows):
            return False
        feeds = feeds[1:] or [out.logits[-1].argmax()[None]]
    return True


def sweep(names: list[str]) -> dict[str, str]:
    """The outcome of each, by name."""
    found = {}
    for name in names or list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = outcome(name, Path(folder))
            print(f"{name:32} {found[name]}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(json.dumps(sweep(sys.argv[1:]), indent=1, sort_keys=True))
