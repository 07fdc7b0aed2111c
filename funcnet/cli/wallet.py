"""``funcnet wallet``: keystore files."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from funcnet import FuncnetError
from protocol.keystore import create_keystore, read_account, write_secret

app = typer.Typer(no_args_is_help=True, help="Make and read keystore files.")


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="keystore file to make")],
    password_file: Annotated[Path | None, typer.Option(help="file with the password; made with a random one where it is missing")] = None,
) -> None:
    """Make a keystore with mode 0600."""
    if path.exists():
        raise FuncnetError(f"{path} exists; choose another name, a keystore is never overwritten")
    file = password_file or path.with_suffix(".password")
    if not file.exists():
        write_secret(file, secrets.token_hex(32))
    create_keystore(path, file.read_text().strip())
    print(read_account(path, file.read_text().strip()).address)


@app.command()
def address(path: Annotated[Path, typer.Argument(help="keystore file")], password_file: Annotated[Path, typer.Option()]) -> None:
    """The address of a keystore."""
    print(read_account(path, password_file.read_text().strip()).address)
