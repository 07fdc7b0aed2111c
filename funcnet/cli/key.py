"""``funcnet key``: API keys of a gateway."""

import json
from pathlib import Path
from typing import Annotated, Any

import requests
import typer

from funcnet import FuncnetError

app = typer.Typer(no_args_is_help=True, help="Make, rotate and revoke API keys of a gateway.")
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
    period: Annotated[str | None, typer.Option(help="hour, day, week or month: the budget is for each of these, not for all time")] = None,
    expires: Annotated[str | None, typer.Option(help="when the key ends, as in 2027-01-31T00:00:00Z")] = None,
    max_input: Annotated[str | None, typer.Option(help="FUNC that a million prompt tokens may cost, all stages together")] = None,
    max_output: Annotated[str | None, typer.Option(help="the same of completion tokens")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="completions a minute; the gateway's own limit where none is given")] = None,
) -> None:
    """Make a key; it is shown once."""
    body: dict[str, Any] = {"name": name, "payer": payer, "budget": None if budget is None else str(budget), "models": model or None}
    body |= {"budget_period": period, "expires_at": expires, "requests_per_minute": requests}
    body["max_price"] = {"prompt": max_input, "completion": max_output}
    print(json.dumps(_ask("POST", gateway, "/v1/keys", admin_token_file, body)))


@app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(help="the key's id, which it keeps")],
    admin_token_file: TokenFile,
    gateway: Gateway = "http://127.0.0.1:8000",
    grace: Annotated[int, typer.Option(min=0, help="seconds for which the former secret is still good")] = 3600,
) -> None:
    """Give a key another secret; it is shown once."""
    print(json.dumps(_ask("POST", gateway, f"/v1/keys/{key_id}/rotate", admin_token_file, {"grace_seconds": grace})))


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
