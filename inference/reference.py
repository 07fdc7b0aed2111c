"""What transformers' ``generate`` says on the unsplit model: the yardstick of the demo and the tests.

Run as ``python -m inference.reference FOLDER``: reads ``{"messages": [...], "max_tokens": n}`` from standard input and prints
``{"prompt": [ids], "tokens": [ids], "text": "..."}``. Greedy, float32.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def generate(folder: Path, messages: list[dict[str, Any]], max_tokens: int) -> dict[str, Any]:
    """Greedy completion of a chat by the whole model in float32; the end token is part of ``tokens``."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
    with torch.inference_mode():
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=max_tokens, do_sample=False)
    tokens = out[0, prompt.shape[1] :].tolist()
    return {"prompt": prompt[0].tolist(), "tokens": tokens, "text": tokenizer.decode(tokens, skip_special_tokens=True)}


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    request = json.load(sys.stdin)
    print(json.dumps(generate(Path(sys.argv[1]), request["messages"], request["max_tokens"])))


if __name__ == "__main__":
    main()
