"""``funcnet wallet``: keystore files."""

import secrets
from pathlib import Path
from typing import Annotated

import typer
from eth_utils.address import is_address, to_checksum_address

from funcnet import FuncnetError, actors
from funcnet.local import LocalNetwork, Root
from protocol import Reverted
from protocol.chain import Chain, Deployment
from protocol.keystore import create_keystore, read_account, write_secret
from protocol.units import FUNC, format_func

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


@app.command()
def pay(
    gateway: Annotated[str, typer.Argument(help="address of the gateway that may spend")],
    deposit: Annotated[int, typer.Option(min=1, help="FUNC to deposit")],
    per_day: Annotated[int, typer.Option(min=1, help="FUNC that the gateway may spend in a day")],
    keystore: Annotated[Path, typer.Option(envvar="FUNCNET_KEYSTORE", help="keystore of the account that pays")],
    keystore_password_file: Annotated[Path, typer.Option(envvar="FUNCNET_KEYSTORE_PASSWORD_FILE", help="file with its password")],
    rpc_url: Annotated[str, typer.Option(envvar="FUNCNET_RPC_URL", help="a node of the chain")],
    deployment: Annotated[Path, typer.Option(envvar="FUNCNET_DEPLOYMENT", help="the file that the deploy script wrote")],
    signed: Annotated[bool, typer.Option("--signed", help="only what this account signs for, request by request")] = False,
) -> None:
    """Deposit FUNC and let a gateway spend it, for a year: freely within the limit, or with --signed only as `funcnet.client` signs."""
    if not is_address(gateway):
        raise FuncnetError(f"{gateway} is no address; give 0x and 40 hex digits")
    chain, payer = Chain(rpc_url, Deployment.read(deployment)), read_account(keystore, keystore_password_file.read_text().strip())
    to = to_checksum_address(gateway)
    try:
        if signed:
            actors.require_signatures(chain, payer, to)
        actors.fund_payer(chain, payer, to, deposit * FUNC, per_day * FUNC)
    except Reverted as error:
        words = "a limit that holds can only be raised, and signatures be required only before one is set; revoke it, or use another account"
        raise FuncnetError(f"{error}; {words}" if error.error == "BadLimit" else str(error)) from error
    print(f"{to} may spend {format_func(per_day * FUNC)} a day of {payer.address}" + (", as it signs for" if signed else ""))
