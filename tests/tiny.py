"""A second architecture for the tests: a random qwen3 with the bundled model's tokenizer. Its words make no sense; its work is real."""

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

HEAD = 16


def make(model_dir: Path, target: Path, width: int = 64, layers: int = 12) -> None:
    """From a fixed seed, as a folder of safetensors; heads are 16 wide."""
    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD // 2,
        head_dim=HEAD,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
