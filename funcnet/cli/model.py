"""``funcnet model``: prepare a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from funcnet import FuncnetError, actors
from funcnet import model as models
from funcnet.local import LocalNetwork, Root

app = typer.Typer(no_args_is_help=True, help="Prepare models for the network.")


@app.command()
def prepare(
    source: Annotated[Path | None, typer.Argument(help="GGUF file or folder of safetensors; the bundled SmolLM2 where none is given")] = None,
    root: Root = Path(".funcnet"),
) -> None:
    """Convert to safetensors, hash into a manifest, calibrate tolerances. What is done already is kept."""
    if source is None:
        print(models.prepare_bundled(root, print))
        return
    if not source.exists():
        raise FuncnetError(f"{source} does not exist; give a GGUF file or a folder of safetensors")
    target = root / "models" / source.stem.lower()
    models.run_prepare(source, target)
    print(target)


@app.command()
def add(
    source: Annotated[str, typer.Argument(help="GGUF file, folder of safetensors, hub id, or all-minilm-l6-v2, which makes vectors")],
    name: Annotated[str | None, typer.Option(help="what the gateway calls it; the source's name where none is given")] = None,
    cuts: Annotated[str, typer.Option(help="layers to calibrate cuts at, as in 4,8; in thirds where none are given")] = "",
    root: Root = Path(".funcnet"),
) -> None:
    """Prepare a model, register it with its creator's royalty, and list it in the network that `funcnet up` runs."""
    network = LocalNetwork.find(root)
    found = models.fetch(source, root)
    name = name or (source if source in models.ENCODERS else found.resolve().stem.lower())
    if not models.NAME_PATTERN.fullmatch(name):
        raise FuncnetError(f"{name!r} is no name for a model; give --name with letters, digits, dots and dashes")
    try:
        wanted = [int(cut) for cut in cuts.split(",") if cut]
    except ValueError:
        raise FuncnetError(f"--cuts {cuts!r} is no list of layers; give it as in 4,8") from None
    folder = (root / "models" / name).resolve()
    models.run_prepare(found, folder, wanted)
    manifest = models.manifest(folder)
    creator = network.wallet("creator").account()
    root_of_table, cuttable = models.tolerance_root(folder), models.is_cuttable(folder)
    actors.register_model(network.chain, creator, manifest.root, manifest.layer_count, root_of_table, name, cuttable)
    network.list_model(name, folder)
    print(f"{name} is registered as 0x{manifest.model_id.hex()}, {manifest.layer_count} layers. Calibrated for layers:")
    print("  " + ", ".join(models.calibrated(folder)))
    print(f"serve it with `provider-agent register --model {name}` and `start`; docs/using.md shows each step")


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(help="a prepared model folder")],
    cuts: Annotated[str, typer.Option(help="layers to calibrate cuts at, as in 4,8; in thirds where none are given")] = "",
    precisions: Annotated[str, typer.Option(help="which precisions to fit limits for")] = "float32,bfloat16,bfloat16+int8",
    jobs: Annotated[int, typer.Option(min=2, help="honest jobs to run in each precision; more give narrower limits")] = 64,
) -> None:
    """Run honest jobs in each precision and write the table of how far an honest stage may be from its replay."""
    models.run_calibrate(folder, cuts, precisions, jobs)
    print(f"tolerance root  0x{models.tolerance_root(folder).hex()}")
    print(f"calibrated      {', '.join(models.calibrated(folder))}")
    print("A registered model takes the new table by `ModelRegistry.publishTolerance`; slashing waits until verifiers have reproduced it.")


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="a prepared model folder")]) -> None:
    """What a prepared folder would be registered as."""
    manifest = models.manifest(folder)
    print(f"model id        0x{manifest.model_id.hex()}")
    print(f"manifest root   0x{manifest.root.hex()}")
    print(f"tolerance root  0x{models.tolerance_root(folder).hex()}")
    print(f"layers          {manifest.layer_count}")
    print(f"tensors         {len(manifest.entries)}")
