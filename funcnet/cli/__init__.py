"""``funcnet``: one file a verb."""

import sys

import typer

from funcnet import FuncnetError
from funcnet.cli import bench, demo, deployment, economics, indexer, key, model, plant, up, verify, wallet
from protocol import ProtocolError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Decentralised inference that people can trust without trusting the provider.",
)
app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("down")(up.down)
app.command("status")(up.status)
app.command("logs")(up.logs)
app.command("verify")(verify.verify)
app.command("bench")(bench.bench)
app.command("economics")(economics.economics_)
app.add_typer(model.app, name="model")
app.add_typer(key.app, name="key")
app.add_typer(wallet.app, name="wallet")
app.add_typer(deployment.app, name="deployment")
app.add_typer(plant.app, name="plant")
app.add_typer(indexer.app, name="indexer")


def main() -> None:
    """Run a verb; what a user can act on is one line on standard error and status 1."""
    try:
        app()
    except (FuncnetError, ProtocolError) as error:
        print(f"funcnet: {error}", file=sys.stderr)
        sys.exit(1)
