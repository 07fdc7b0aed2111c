"""``funcnet deployment``: what is on the chain."""

import json
from pathlib import Path
from typing import Annotated

import typer

from funcnet import FuncnetError
from funcnet.deployment import check as read_back
from protocol.chain import Chain, Deployment

app = typer.Typer(no_args_is_help=True, help="Read deployed contracts back.")


@app.callback()
def deployment() -> None:
    """Read deployed contracts back."""


@app.command()
def check(
    rpc_url: Annotated[str, typer.Option(envvar="FUNCNET_RPC_URL", help="a node of the chain")],
    file: Annotated[Path, typer.Option("--deployment", envvar="FUNCNET_DEPLOYMENT", help="the file that the deploy script wrote")],
    params: Annotated[Path | None, typer.Option(help="parameter file; that of the network the deployment file names where none is given")] = None,
    build: Annotated[Path, typer.Option(help="Foundry's output of these sources")] = Path("out"),
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
) -> None:
    """Compare code hashes, wiring, parameters and roles with this build; status 1 if anything differs."""
    chain = Chain(rpc_url, Deployment.read(file))
    placed = json.loads(file.read_text())
    source = params or Path("deploy/params") / f"{placed['network']}.json"
    try:
        wanted = json.loads(source.read_text())
    except FileNotFoundError as error:
        raise FuncnetError(f"no parameters at {source}; name the file with --params") from error
    findings = read_back(chain, placed, wanted, build)
    wrong = [finding for finding in findings if not finding.holds]
    for finding in wrong:
        print(f"DIFFERS  {finding.what}: {finding.found}, it should be {finding.expected}")
    print(f"{len(findings) - len(wrong)} of {len(findings)} hold")
    if as_json:
        print(json.dumps({"checked": len(findings), "differ": [finding.what for finding in wrong]}))
    if wrong:
        raise typer.Exit(1)
