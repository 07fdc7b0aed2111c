"""``funcnet indexer``: look after an indexer. What touches its database runs in a process of its own, by the indexer's own code."""

import json
import subprocess
import sys
from typing import Annotated, Any

import requests
import typer

from funcnet import FuncnetError

app = typer.Typer(no_args_is_help=True, help="Look after an indexer: its state, an audit of its figures, a rewind, a comparison with another one.")

Json = Annotated[bool, typer.Option("--json", help="print one line of JSON")]


@app.command()
def status(url: Annotated[str, typer.Argument(help="the indexer's address")] = "http://127.0.0.1:8600", as_json: Json = False) -> None:
    """How far an indexer is, what of that is final, and what it noticed lately. Status 1 where its figures are not to be relied on."""
    try:
        answer = requests.get(f"{url}/v1/status", timeout=10)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise FuncnetError(f"no indexer answers at {url}: {error}; start it with `python -m indexer.app`, or give its address") from error
    told = answer.json()
    if as_json:
        print(json.dumps(told))
    else:
        block = told["block"]["number"] if told["block"] else "none"
        print(f"block {block} of {told['head']}, safe {told['safe']}, final {told['finalized']}, {'writes' if told['leading'] else 'stands by'}")
        for incident in told["incidents"]:
            print(f"{incident['at'][:19]}  {incident['kind']:14} block {incident['block_number']}: {incident['detail']}")
        print(told["fault"] or "well")
    raise typer.Exit(1 if told["fault"] else 0)


@app.command()
def audit(
    blocks: Annotated[int, typer.Option(min=0, help="blocks before the newest at which the facts are compared with the contracts' views, too")] = 0,
    as_json: Json = False,
) -> None:
    """Read all from the chain again and compare it with the tables, and the facts with the contracts' own view functions. Status 1 where something
    differs. Settings as of the indexer: FUNCNET_RPC_URL, FUNCNET_DEPLOYMENT, FUNCNET_DATABASE_URL."""
    told = _run("audit", "--blocks", str(blocks))
    if as_json:
        print(json.dumps(told))
    else:
        print(f"{told['events']} events and {told['facts']} facts up to block {told['block']}, views at {told['blocks_viewed']} blocks")
        for difference in told["differences"]:
            print(f"{difference['what']}: the tables have {difference['tables']}, the chain {difference['chain']}")
        print("all is the same" if not told["count"] else f"{told['count']} differences; `funcnet indexer rewind --to BLOCK` has them read again")
    raise typer.Exit(1 if told["count"] else 0)


@app.command()
def rewind(to: Annotated[int, typer.Option(min=0, help="the last block to keep")], as_json: Json = False) -> None:
    """Undo all above a block; a running indexer reads it again. This also ends the halt after a final block was replaced: look first whether your
    node is on the right chain. What gateways handed in stays."""
    told = _run("rewind", "--to", str(to))
    print(json.dumps(told) if as_json else f"went back from block {told['from']} to {told['to']}")


@app.command()
def compare(urls: Annotated[list[str], typer.Argument(help="addresses of indexers, two or more")], as_json: Json = False) -> None:
    """Whether several indexers have the same figures, by the word of the newest epoch that is final with all. Status 1 where they differ."""
    if len(urls) < 2:
        raise FuncnetError("one indexer has nothing to be compared with; give two addresses or more")
    told = _run("compare", *urls)
    if as_json:
        print(json.dumps(told))
    else:
        print(f"epoch {told['epoch']}: {'all have the same figures' if told['same'] else 'the figures differ'}")
        for url, word in told["words"].items():
            print(f"{word}  {url}")
    raise typer.Exit(0 if told["same"] else 1)


def _run(*arguments: str) -> dict[str, Any]:
    """The indexer's own verb. Raises FuncnetError with its words."""
    done = subprocess.run([sys.executable, "-m", "indexer.admin", *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        raise FuncnetError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"the indexer's verb ended with {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
