"""``funcnet plant``: faults on purpose, by which the treasury checks the verifiers."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address, to_checksum_address

from funcnet import FuncnetError
from funcnet.plants import Settlement
from funcnet.plants import note as note_plant
from protocol.chain import Chain, Deployment, struct_values
from protocol.keystore import read_account
from protocol.members import active_members
from protocol.plants import Plant
from protocol.settings import read_password

app = typer.Typer(no_args_is_help=True, help="Check the verifiers by faults on purpose.")
RpcUrl = Annotated[str, typer.Option(envvar="FUNCNET_RPC_URL", help="a node of the chain")]
DeploymentFile = Annotated[Path, typer.Option("--deployment", envvar="FUNCNET_DEPLOYMENT", help="the file that the deploy script wrote")]
Keystore = Annotated[Path, typer.Option(envvar="FUNCNET_KEYSTORE", help="keystore of an account that may plant")]
PasswordFile = Annotated[Path, typer.Option(envvar="FUNCNET_KEYSTORE_PASSWORD_FILE", help="file with its password")]
POLL_SECONDS = 1.0


@app.command()
def note(
    provider: Annotated[str, typer.Argument(help="owner address of the provider that agreed to serve the fault")],
    file: Annotated[Path, typer.Argument(help="file to write; the provider puts it into the plants folder of its agent's data")],
    payer_keystore: Annotated[Path, typer.Option(help="keystore of the account that will pay the planted job: a fresh one, or verifiers learn it")],
    payer_password_file: Annotated[Path, typer.Option(help="file with its password")],
    rpc_url: RpcUrl,
    deployment: DeploymentFile,
    keystore: Keystore,
    keystore_password_file: PasswordFile,
) -> None:
    """Note a plant on chain and write it down for its provider, before the payer's job is sent."""
    if not is_address(provider):
        raise FuncnetError(f"{provider} is no address; give 0x and 40 hex digits")
    chain = Chain(rpc_url, Deployment.read(deployment))
    payer = _account(payer_keystore, payer_password_file)
    plant = note_plant(chain, _account(keystore, keystore_password_file), payer, to_checksum_address(provider), file)
    print(f"noted 0x{plant.digest.hex()}; give {file} to {plant.provider}, then send a job paid by {plant.payer} through it")


@app.command()
def settle(
    file: Annotated[Path, typer.Argument(help="what `funcnet plant note` wrote")],
    rpc_url: RpcUrl,
    deployment: DeploymentFile,
    keystore: Keystore,
    keystore_password_file: PasswordFile,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
) -> None:
    """Follow a plant to its end: challenge it where nobody did, open it, have each drawn verifier answer. May be stopped and run again."""
    chain = Chain(rpc_url, Deployment.read(deployment))
    settlement = Settlement(chain, _account(keystore, keystore_password_file), Plant.read(file), lambda text: print(text, flush=True))
    told = ""
    while waiting := settlement.step():
        if waiting != told:
            print(f"waiting for {waiting}", flush=True)
            told = waiting
        time.sleep(POLL_SECONDS)
    if as_json:
        print(json.dumps({verifier: answer.name.lower() for verifier, answer in settlement.answers.items()}))


@app.command()
def rates(rpc_url: RpcUrl, deployment: DeploymentFile) -> None:
    """How many of the plants that it was drawn for each verifier found, from the chain alone."""
    chain = Chain(rpc_url, Deployment.read(deployment))
    members = active_members(chain, int(chain.call("VerifierSet", "currentEpoch")))
    print(f"{'verifier':44}{'drawn':>7}{'found':>7}{'undecided':>11}{'missed':>8}")
    for verifier in members:
        record = struct_values("Plants", "recordOf", chain.call("Plants", "recordOf", verifier))
        print(f"{verifier:44}{record['drawn']:7}{record['found']:7}{record['undecided']:11}{record['missed']:8}")


def _account(keystore: Path, password_file: Path) -> LocalAccount:
    return read_account(keystore, read_password(password_file, "FUNCNET_KEYSTORE_PASSWORD_FILE"))
