"""Make a model folder that the network can serve: safetensors, tokenizer, manifest, tolerance table.

Run as ``python -m inference.prepare SOURCE TARGET [CUT...]``: SOURCE is a GGUF file or a folder of safetensors.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference import LoadError
from inference.calibrate import calibrate, cut_ranges
from inference.compare import StageTolerance
from inference.loader import read_config
from inference.weights import open_tensors, tensor_entry
from protocol.manifest import MANIFEST_FILE, TOLERANCE_FILE, Manifest

DEFAULT_CLASS = "float32/sdpa"


def prepare(source: Path, target: Path, say: Callable[[str], None] = print, cuts: Sequence[int] = ()) -> None:
    """Idempotent: each part that is there already is kept. A part is written beside and moved, so that an interruption leaves none half done."""
    target.mkdir(parents=True, exist_ok=True)
    if not any(target.glob("*.safetensors")):
        say(f"converting {source.name} to bfloat16 safetensors")
        _convert(source, target)
    if not (target / MANIFEST_FILE).is_file():
        say("hashing tensors into the manifest")
        entries = (tensor_entry(file, name) for name, file in open_tensors(target))
        layer_count = read_config(target).get_text_config(decoder=True).num_hidden_layers
        Manifest.of(entries, layer_count).write(target)
    if not (target / TOLERANCE_FILE).is_file():
        say("calibrating tolerances on honest runs")
        write_tolerances(target, cuts)


def write_tolerances(folder: Path, cuts: Sequence[int] = ()) -> None:
    """Calibrate the model cut at the given layers (in thirds where none are given) and whole, and write the table. Raises LoadError."""
    count = Manifest.read(folder).layer_count
    cuts = cuts or sorted({count // 3, 2 * count // 3} - {0})
    if list(cuts) != sorted(set(cuts)) or not 0 < cuts[0] <= cuts[-1] < count:
        raise LoadError(f"cuts {', '.join(map(str, cuts))} do not rise between 1 and {count - 1}, the last of the model's layers")
    table = calibrate(folder, list(cut_ranges(count, cuts)), DEFAULT_CLASS)
    table += calibrate(folder, list(cut_ranges(count, [])), DEFAULT_CLASS)
    partial = folder / f"{TOLERANCE_FILE}.part"
    partial.write_text(json.dumps([json.loads(entry.encode()) for entry in table]))
    partial.rename(folder / TOLERANCE_FILE)


def read_tolerances(folder: Path) -> list[StageTolerance]:
    """Raises LoadError where the model was not calibrated."""
    path = folder / TOLERANCE_FILE
    if not path.is_file():
        raise LoadError(f"{folder} holds no {TOLERANCE_FILE}; run `funcnet model prepare`")
    return [StageTolerance.decode(json.dumps(entry)) for entry in json.loads(path.read_text())]


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
