"""``funcnet verify``: check receipts offline, against the chain, or by replaying the work."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from funcnet import FuncnetError
from funcnet.receipts import check, check_bound, signer_of
from protocol.chain import Chain, Deployment
from protocol.receipts import receipt_entries
from protocol.typed import receipts_domain


def verify(
    file: Annotated[Path, typer.Argument(help="a receipt, an answer's list of receipts, or what GET /v1/receipts/{id} gives, as JSON")],
    deployment: Annotated[Path, typer.Option(help="deployment file", envvar="FUNCNET_DEPLOYMENT")] = Path("deployments/31337.json"),
    rpc: Annotated[str | None, typer.Option(help="also compare signers and batches with this node's chain")] = None,
    replay: Annotated[bool, typer.Option(help="also fetch the rows as their payer and run the stages again; needs --rpc and --keystore")] = False,
    keystore: Annotated[Path | None, typer.Option(help="the payer's keystore, for --replay")] = None,
    password_file: Annotated[Path | None, typer.Option(help="its password; beside the keystore where none is given")] = None,
    model_dir: Annotated[Path, typer.Option(help="folder of the model, for --replay", envvar="FUNCNET_MODEL_DIR")] = Path(
        ".funcnet/models/smollm2-135m-instruct"
    ),
) -> None:
    """Check receipts: signatures, amounts, checkpoints and Merkle paths; with --rpc the chain, with --replay the work itself."""
    try:
        body = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise FuncnetError(f"{file} holds no JSON: {error}") from error
    entries = receipt_entries(body)
    if not entries:
        raise FuncnetError(f"{file} holds no receipt")
    placed = Deployment.read(deployment)
    domain = receipts_domain(placed.chain_id, placed.addresses["CommitmentLog"])
    chain = None if rpc is None else Chain(rpc, placed)
    signers = {signer for entry in entries if (signer := signer_of(entry, domain))}
    for entry in entries:
        print(check(entry, domain, chain, signers if len(entries) > 1 else set()))
    if bound := check_bound(entries):
        print(bound)
    if not replay:
        return
    if rpc is None or keystore is None:
        raise FuncnetError("--replay asks the providers in the payer's name: give --rpc and --keystore")
    secret = password_file or keystore.with_suffix(".password")
    command = [sys.executable, "-m", "verifier.replay", str(file), "--rpc", rpc, "--deployment", str(deployment)]
    command += ["--keystore", str(keystore), "--password-file", str(secret), "--model-dir", str(model_dir)]
    if subprocess.run(command, check=False).returncode:
        raise FuncnetError("the replay did not confirm every receipt; the lines above say why")
