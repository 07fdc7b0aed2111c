"""``funcnet wallet``: keystore files."""

import secrets
from pathlib import Path
from typing import Annotated

import typer
from eth_utils.address import is_address, to_checksum_address

from funcnet import FuncnetError
from funcnet.local import LocalNetwork, Root
from protocol.keystore import create_keystore, read_account, write_secret
from protocol.units import format_func

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


@app.command()
def fund(
    addresses: Annotated[list[str], typer.Argument(help="who gets it")],
    amount: Annotated[int, typer.Option(min=0, help="FUNC for each; 0 gives coin for gas alone")] = 25_000,
    root: Root = Path(".funcnet"),
) -> None:
    """Give FUNC and coin for gas from the treasury of the network that `funcnet up` runs."""
    if wrong := [address for address in addresses if not is_address(address)]:
        raise FuncnetError(f"{wrong[0]} is no address; give 0x and 40 hex digits")
    network = LocalNetwork.find(root)
    for address in addresses:
        network.fund(to_checksum_address(address), amount)
        print(f"{address} has {format_func(network.chain.call('FuncToken', 'balanceOf', to_checksum_address(address)))}")
