"""A second architecture for the tests: a random qwen3 with the bundled model's tokenizer. Its words make no sense; its work is real."""

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM


def make(model_dir: Path, target: Path) -> None:
    """Twelve layers of width 64, from a fixed seed, as a folder of safetensors."""
    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
