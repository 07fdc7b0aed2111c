"""``funcnet model``: prepare a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from funcnet import FuncnetError
from funcnet import model as models

app = typer.Typer(no_args_is_help=True, help="Prepare models for the network.")
Root = Annotated[Path, typer.Option(help="folder of the network's files (FUNCNET_DATA_DIR)", envvar="FUNCNET_DATA_DIR")]


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
def show(folder: Annotated[Path, typer.Argument(help="a prepared model folder")]) -> None:
    """What a prepared folder would be registered as."""
    manifest = models.manifest(folder)
    print(f"model id        0x{manifest.model_id.hex()}")
    print(f"manifest root   0x{manifest.root.hex()}")
    print(f"tolerance root  0x{models.tolerance_root(folder).hex()}")
    print(f"layers          {manifest.layer_count}")
    print(f"tensors         {len(manifest.entries)}")
