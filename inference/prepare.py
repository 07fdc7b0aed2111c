"""Make a model folder that the network can serve: safetensors, tokenizer, manifest, tolerance table.

Run as ``python -m inference.prepare SOURCE TARGET [CUT...]``: SOURCE is a GGUF file or a folder of safetensors.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference import LoadError
from inference.calibrate import write_tolerances
from inference.encoder import encoder_of
from inference.loader import read_config
from inference.weights import open_tensors, tensor_entry
from protocol.manifest import MANIFEST_FILE, TOLERANCE_FILE, Manifest

FEW_JOBS = 12
"""Honest runs for a first table, in float32; ``funcnet model calibrate`` fits one of more runs and precisions."""
TABLES = Path(__file__).parent / "tables"
"""Tables of models that we ship, made by ``funcnet model calibrate``, by model id."""


def prepare(source: Path, target: Path, say: Callable[[str], None] = print, cuts: Sequence[int] = ()) -> None:
    """Idempotent: each part that is there already is kept. A part is written beside and moved, so that an interruption leaves none half done."""
    target.mkdir(parents=True, exist_ok=True)
    if not any(target.glob("*.safetensors")):
        if source.is_dir() and encoder_of(source) is not None:
            say(f"copying {source.name}")
            _copy(source, target)
        else:
            say(f"converting {source.name} to bfloat16 safetensors")
            _convert(source, target)
    if not (target / MANIFEST_FILE).is_file():
        say("hashing tensors into the manifest")
        entries = (tensor_entry(file, name) for name, file in open_tensors(target))
        layer_count = read_config(target).get_text_config(decoder=True).num_hidden_layers
        Manifest.of(entries, layer_count).write(target)
    if not (target / TOLERANCE_FILE).is_file():
        shipped = TABLES / f"{Manifest.read(target).model_id.hex()}.json"
        if shipped.is_file() and not cuts:
            shutil.copy(shipped, target / TOLERANCE_FILE)
        else:
            say("calibrating tolerances on honest runs")
            write_tolerances(target, cuts, jobs=FEW_JOBS, say=lambda _: None)


def _copy(source: Path, target: Path) -> None:
    """An encoder as it is: it is small, and whoever compares vectors with others' wants the same. The weights come last."""
    files = [file for pattern in ("*.json", "*/config.json", "vocab.*", "*.safetensors") for file in sorted(source.glob(pattern))]
    for file in files:
        into = target / file.relative_to(source)
        into.parent.mkdir(exist_ok=True)
        shutil.copy(file, into.with_name(f"{into.name}.part"))
        into.with_name(f"{into.name}.part").rename(into)


def _convert(source: Path, target: Path) -> None:
    scratch = target / "converting"
    shutil.rmtree(scratch, ignore_errors=True)
    if source.is_file():
        where, options = source.parent, {"gguf_file": source.name}
    else:
        read_config(source)
        where, options = source, {}
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.bfloat16, local_files_only=True, **options)
    # What is saved is no longer quantised; a config that still says so would not load.
    model.hf_quantizer = None  # type: ignore[assignment]
    for leftover in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, leftover):
            delattr(model.config, leftover)
    model.save_pretrained(scratch)
    AutoTokenizer.from_pretrained(where, local_files_only=True, **options).save_pretrained(scratch)
    for file in sorted(scratch.iterdir(), key=lambda f: f.suffix == ".safetensors"):
        file.rename(target / file.name)
    scratch.rmdir()


def main() -> int:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    source, target = map(Path, sys.argv[1:3])
    try:
        prepare(source, target, lambda line: print(line, flush=True), [int(cut) for cut in sys.argv[3:]])
    except LoadError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
