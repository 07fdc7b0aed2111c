"""``funcnet demo``: the whole job, shown."""

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from funcnet import FuncnetError
from funcnet import model as models
from funcnet.local import Root
from funcnet.network import Network
from funcnet.scenario import Scenario
from protocol import ProtocolError
from protocol.units import format_func

LOG_WIDTH = 180
"""Where nobody's terminal sets a width, so that a transaction's hash stays on one line."""


def demo(
    prompt: Annotated[str, typer.Option(help="what to ask the model")] = "What is the capital of France?",
    max_tokens: Annotated[int, typer.Option(min=1, max=512, help="most tokens to generate")] = 48,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
    root: Root = Path(".funcnet"),
) -> None:
    """Start a network, serve a job, pay for it, catch a cheat, and show who got what."""
    started = time.monotonic()
    # With --json, standard output is for the one line; people read along on standard error.
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    signal.signal(signal.SIGTERM, _interrupt)

    def step(words: str) -> None:
        console.print(f"[bold cyan]{time.monotonic() - started:6.1f} s[/]  {words}")

    def piece(text: str) -> None:
        console.print(f"[green]{text}[/]" if text.strip() else text, end="", markup=bool(text.strip()), soft_wrap=True)

    if not prompt.strip():
        raise FuncnetError("the prompt is empty; give --prompt some words")
    folder = models.prepare_bundled(root, step).resolve()
    network_root = root.resolve() / "demo"
    shutil.rmtree(network_root, ignore_errors=True)
    network = Network(network_root, folder, step)
    scenario = Scenario(network, prompt, max_tokens, step, piece)
    try:
        step("starting chain and database")
        network.start()
        scenario.run()
    except KeyboardInterrupt:
        console.print("interrupted; stopping every process")
        raise typer.Exit(130) from None
    except (FuncnetError, ProtocolError) as error:
        print(f"funcnet demo: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        network.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)
    scenario.report["seconds"] = round(time.monotonic() - started, 1)
    _closing_table(console, scenario)
    if as_json:
        print(json.dumps(scenario.report))


def _closing_table(console: Console, scenario: Scenario) -> None:
    report, table = scenario.report, Table(title="What happened (figures from the indexer)")
    for heading in ("who", "role", "did", "FUNC", "transaction"):
        table.add_column(heading, overflow="fold")
    for row in scenario.summary:
        table.add_row(*row)
    console.print(table)
    verdict = "token-identical to generate()" if report["identical_to_generate"] else "DIFFERENT from generate()"
    console.print(
        f"{report['jobs']} jobs, {report['batches']} batches, {report['checks']} checks; first text {verdict}; "
        f"books {'balance' if report['conserved'] else 'DO NOT balance'}; royalty {format_func(int(report['royalty']))}; {report['seconds']} s"
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
