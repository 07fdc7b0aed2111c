"""``funcnet key``: API keys of a gateway."""

import json
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from eth_account.messages import encode_defunct

from funcnet import FuncnetError
from protocol.keystore import read_account, write_secret

app = typer.Typer(no_args_is_help=True, help="Sign in to a gateway; make, give away, rotate and revoke its API keys.")
Gateway = Annotated[str, typer.Option(help="the gateway's address", envvar="FUNCNET_GATEWAY_URL")]
TokenFile = Annotated[
    Path, typer.Option("--token-file", "--admin-token-file", help="file with a management key, or the admin token", envvar="FUNCNET_ADMIN_TOKEN_FILE")
]


@app.command()
def login(
    keystore: Annotated[Path, typer.Option(help="keystore of the account whose deposit pays")],
    password_file: Annotated[Path | None, typer.Option(help="file with its password; asked for where none is given")] = None,
    out: Annotated[Path, typer.Option(help="where to write the management key, which is good for a day")] = Path("funcnet-manager.key"),
    gateway: Gateway = "http://127.0.0.1:8000",
) -> None:
    """Sign in with a wallet. The other commands take the management key that comes of it as --token-file."""
    password = password_file.read_text().strip() if password_file else typer.prompt("password", hide_input=True)
    account = read_account(keystore, password)
    challenge = _send("POST", gateway, "/v1/auth/challenge", {"address": account.address})
    signature = account.sign_message(encode_defunct(text=challenge["message"])).signature
    told = _send("POST", gateway, "/v1/auth/sign-in", {"nonce": challenge["nonce"], "signature": "0x" + bytes(signature).hex()})
    out.unlink(missing_ok=True)
    write_secret(out, told["key"])
    print(json.dumps({"payer": told["payer"], "expires_at": told["expires_at"], "token_file": str(out)}))


@app.command()
def sponsor(
    payer: Annotated[str, typer.Argument(help="address whose deposit pays")],
    admin_token_file: TokenFile,
    keys: Annotated[int, typer.Option(min=1, help="how many may be claimed")],
    budget: Annotated[int, typer.Option(min=0, help="wei that each may spend")],
    gateway: Gateway = "http://127.0.0.1:8000",
    name: Annotated[str, typer.Option(help="a name for people")] = "default",
    days: Annotated[int, typer.Option(min=1, help="how long each is good")] = 30,
    model: Annotated[list[str] | None, typer.Option(help="a model the keys may use; may be repeated; all where none is given")] = None,
    expires: Annotated[str | None, typer.Option(help="until when they can be claimed, as in 2027-01-31T00:00:00Z")] = None,
) -> None:
    """Give keys away: whoever has the code, shown once, can claim one and needs no wallet."""
    body = {"name": name, "payer": payer, "keys": keys, "budget": str(budget), "key_days": days, "models": model or None, "expires_at": expires}
    print(json.dumps(_ask("POST", gateway, "/v1/sponsorships", admin_token_file, body)))


@app.command()
def claim(code: Annotated[str, typer.Argument(help="a sponsor's code, as in fns-...")], gateway: Gateway = "http://127.0.0.1:8000") -> None:
    """Get a key from a sponsor; it is shown once."""
    print(json.dumps(_send("POST", gateway, "/v1/sponsorships/claim", {"code": code})))


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
        raise FuncnetError(f"no token at {token_file}; give --token-file, which `funcnet key login` writes")
    return _send(method, gateway, path, body, {"authorization": f"Bearer {token_file.read_text().strip()}"})


def _send(method: str, gateway: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
    try:
        answer = requests.request(method, gateway + path, json=body, headers=headers, timeout=30)
    except requests.RequestException as error:
        raise FuncnetError(f"no gateway answers at {gateway} ({error}); give --gateway") from error
    if answer.status_code >= 400:
        raise FuncnetError(f"the gateway refused: {answer.json()['error']['message']}")
    return dict(answer.json())
