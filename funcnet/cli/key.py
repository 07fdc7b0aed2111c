"""``funcnet key``: API keys of a gateway."""

import json
from pathlib import Path
from typing import Annotated, Any

import requests
import typer

from funcnet import FuncnetError

app = typer.Typer(no_args_is_help=True, help="Make and revoke API keys of a gateway.")
Gateway = Annotated[str, typer.Option(help="the gateway's address", envvar="FUNCNET_GATEWAY_URL")]
TokenFile = Annotated[Path, typer.Option(help="file with the gateway's admin token", envvar="FUNCNET_ADMIN_TOKEN_FILE")]


@app.command()
def create(
    payer: Annotated[str, typer.Argument(help="address whose deposit pays")],
    admin_token_file: TokenFile,
    gateway: Gateway = "http://127.0.0.1:8000",
    name: Annotated[str, typer.Option(help="a name for people")] = "default",
    budget: Annotated[int | None, typer.Option(min=0, help="wei that this key may spend in all")] = None,
    model: Annotated[list[str] | None, typer.Option(help="a model the key may use; may be repeated; all where none is given")] = None,
) -> None:
    """Make a key; it is shown once."""
    body = {"name": name, "payer": payer, "budget": None if budget is None else str(budget), "models": model or None}
    print(json.dumps(_ask("POST", gateway, "/v1/keys", admin_token_file, body)))


@app.command("list")
def list_keys(admin_token_file: TokenFile, gateway: Gateway = "http://127.0.0.1:8000") -> None:
    """List keys with what they have spent."""
    for entry in _ask("GET", gateway, "/v1/keys", admin_token_file)["data"]:
        print(json.dumps(entry))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="the key's id")], admin_token_file: TokenFile, gateway: Gateway = "http://127.0.0.1:8000"
) -> None:
    """Revoke a key at once."""
    print(json.dumps(_ask("DELETE", gateway, f"/v1/keys/{key_id}", admin_token_file)))


def _ask(method: str, gateway: str, path: str, token_file: Path, body: dict[str, Any] | None = None) -> dict[str, Any]:
    if not token_file.is_file():
        raise FuncnetError(f"no admin token at {token_file}; give --admin-token-file")
    headers = {"authorization": f"Bearer {token_file.read_text().strip()}"}
    try:
        answer = requests.request(method, gateway + path, json=body, headers=headers, timeout=30)
    except requests.RequestException as error:
        raise FuncnetError(f"no gateway answers at {gateway} ({error}); give --gateway") from error
    if answer.status_code >= 400:
        raise FuncnetError(f"the gateway refused: {answer.json()['error']['message']}")
    return dict(answer.json())
