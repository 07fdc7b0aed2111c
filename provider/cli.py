"""``provider-agent``: the operator's commands."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import asdict
from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from eth_account.signers.local import LocalAccount

from protocol import ProtocolError, SettingsError, logs
from protocol.chain import Chain, struct_list, struct_values
from protocol.disputes import DisputeReader
from protocol.keystore import LIGHT_SCRYPT_N, STANDARD_SCRYPT_N, create_keystore, read_account, write_secret
from protocol.manifest import TOLERANCE_FILE, Manifest
from protocol.receipts import execution_class_id, precision_of
from protocol.settings import AUTO, ProviderSettings, read_password
from protocol.typed import ZERO32
from protocol.units import FUNC, LayerRange, format_func

if TYPE_CHECKING:
    from provider.placement import Choice

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Serve a stage of an open model and earn FUNC.")

UNBONDINGS_SHOWN = 64
"""Buckets back from the newest that are looked through: eight make an unbonding period."""

AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object")]
DataDir = Annotated[Path | None, typer.Option(help="where the agent keeps its state (FUNCNET_DATA_DIR)")]
Model = Annotated[str | None, typer.Option(help="name of a model below FUNCNET_MODELS_DIR, in place of --model-dir")]
Layers = Annotated[str | None, typer.Option(help="layers to serve, FIRST-END, or auto: those offered already, or needed most (FUNCNET_LAYERS)")]
ColdKeystore = Annotated[Path | None, typer.Option(help="keystore of the owner's cold key; the one that init made where none is given")]
ColdPassword = Annotated[Path | None, typer.Option(help="file with that keystore's password")]


@app.command()
def init(
    data_dir: DataDir = None,
    light: Annotated[bool, typer.Option(help="weaker key stretching, for a devnet")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the owner's cold key, the operator's hot key and the TLS certificate."""
    from provider.tls import ensure_certificate

    settings = ProviderSettings.load(data_dir=data_dir)
    work = LIGHT_SCRYPT_N if light else STANDARD_SCRYPT_N
    made: dict[str, str] = {}
    for name in ("owner", "operator"):
        path, password_file = settings.data_dir / f"{name}.json", settings.data_dir / f"{name}.password"
        if not path.exists():
            write_secret(password_file, secrets.token_hex(32))
            create_keystore(path, password_file.read_text(), work=work)
        made[name] = read_account(path, password_file.read_text()).address
    _, _, digest = ensure_certificate(settings.data_dir)
    made["tls_cert_hash"] = "0x" + digest.hex()
    _print(made, as_json)
    if not as_json:
        print(f"Move {settings.data_dir}/owner.json and its password off this machine once you have registered: it holds the stake.")


@app.command()
def register(
    cold_keystore: ColdKeystore = None,
    cold_password_file: ColdPassword = None,
    operator: Annotated[str | None, typer.Option(help="address of the hot key; the one that init made where none is given")] = None,
    endpoint: Annotated[str | None, typer.Option(help="grpcs://HOST:PORT that others reach the stage at; loopback where none is given")] = None,
    port: Annotated[int | None, typer.Option(help="port of the loopback endpoint (FUNCNET_PORT)")] = None,
    data_dir: DataDir = None,
    model: Model = None,
    model_dir: Annotated[Path | None, typer.Option(help="folder of the model (FUNCNET_MODEL_DIR)")] = None,
    layers: Layers = None,
    stake: Annotated[int, typer.Option(min=1, help="FUNC to stake")] = 20_000,
    input_price: Annotated[int, typer.Option(min=0, help="wei per million input tokens")] = 100 * FUNC,
    cached_price: Annotated[
        int | None,
        typer.Option(min=0, help="wei per million input tokens whose rows are still here; by default a quarter of --input-price"),
    ] = None,
    output_price: Annotated[int, typer.Option(min=0, help="wei per million output tokens")] = 200 * FUNC,
    dry_run: Annotated[bool, typer.Option(help="say what would be done and stop")] = False,
    as_json: AsJson = False,
) -> None:
    """Stake, register, describe this machine and offer the layers. Steps that are done already are left out."""
    from inference.devices import parse_device
    from provider.hardware import measure
    from provider.tls import ensure_certificate

    settings = ProviderSettings.load(data_dir=data_dir, model_dir=model_dir, layers=layers, port=port).for_model(model)
    owner = _cold(settings, cold_keystore, cold_password_file)
    operator = operator or _operator(settings)
    if endpoint is None and not settings.port:
        raise SettingsError("no endpoint is given; give --endpoint grpcs://HOST:PORT, or --port where all run on this machine")
    endpoint = endpoint or f"grpcs://127.0.0.1:{settings.port}"
    chain = settings.chain()
    model_id = Manifest.read(settings.model_dir).model_id
    _take_offered(settings, chain, owner.address)
    if settings.layers == AUTO:
        settings.layers = str(_best(settings, chain, owner.address).layers)
    first, end = settings.layer_range.first, settings.layer_range.end
    device = measure(parse_device(settings.device))
    gpu = (device.model, device.vram, device.bandwidth, device.score, ZERO32)
    execution = execution_class_id(settings.execution_class)
    cached_price = input_price // 4 if cached_price is None else cached_price
    offer = (model_id, first, end, execution, input_price, cached_price, output_price, True)
    _, _, digest = ensure_certificate(settings.data_dir)
    steps: dict[str, str] = {}
    if dry_run:
        _print({"owner": owner.address, "stake": format_func(stake * FUNC), "gpu": device.model, "offer": f"layers {first}-{end}"}, as_json)
        return
    if chain.call("Staking", "stakeOf", owner.address) < stake * FUNC:
        chain.send(owner, "FuncToken", "approve", chain.address("Staking"), stake * FUNC)
        steps["staked"] = chain.send(owner, "Staking", "stake", owner.address, stake * FUNC)
    if chain.call("ProviderRegistry", "providerOf", operator) != owner.address:
        steps["registered"] = chain.send(owner, "ProviderRegistry", "register", operator, endpoint, digest)
        steps["described"] = chain.send(owner, "ProviderRegistry", "registerGpu", gpu)
    if not any(o[:4] == offer[:4] and o[7] for o in chain.call("ProviderRegistry", "offersOf", owner.address)):
        steps["offered"] = chain.send(owner, "ProviderRegistry", "makeOffer", offer)
    if (warning := _uncalibrated(settings)) and not as_json:
        print(warning, file=sys.stderr)
    _print({"provider": owner.address, "gpu": device.model, **steps}, as_json)


@app.command()
def start(
    data_dir: DataDir = None,
    owner: Annotated[str | None, typer.Option(help="the provider's owner address (FUNCNET_OWNER); that of init's keys where none is given")] = None,
    model: Model = None,
    model_dir: Annotated[Path | None, typer.Option(help="folder of the model (FUNCNET_MODEL_DIR)")] = None,
    layers: Layers = None,
    port: Annotated[int | None, typer.Option(help="port to listen on (FUNCNET_PORT)")] = None,
) -> None:
    """Serve until stopped; anchors receipts and claims payouts by itself."""
    from provider.app import serve

    settings = ProviderSettings.load(data_dir=data_dir, owner=owner, model_dir=model_dir, layers=layers, port=port)
    settings = settings.for_model(model)
    if settings.keystore is None and (settings.data_dir / "operator.json").is_file():
        settings.keystore, settings.keystore_password_file = settings.data_dir / "operator.json", settings.data_dir / "operator.password"
    if not settings.owner and settings.keystore is not None:
        operator = read_account(settings.keystore, settings.password()).address
        found = settings.chain().call("ProviderRegistry", "providerOf", operator)
        settings.owner = "" if int(found, 16) == 0 else found
    if not settings.owner:
        raise SettingsError("no owner is set, and no provider has registered this operator key; run `provider-agent register`, or give --owner")
    follows = settings.layers == AUTO
    _take_offered(settings, settings.chain(), settings.owner)
    logs.configure(settings.log_level)
    if asyncio.run(serve(settings, moved=_moved(settings) if follows else None)):
        os.execv(sys.executable, sys.orig_argv)  # a process of its own for other layers: nothing of the old ones stays in memory


@app.command()
def plan(
    data_dir: DataDir = None,
    owner: Annotated[str | None, typer.Option(help="the provider's owner address (FUNCNET_OWNER), whose own offers are left out")] = None,
    model: Model = None,
    model_dir: Annotated[Path | None, typer.Option(help="folder of the model (FUNCNET_MODEL_DIR)")] = None,
    as_json: AsJson = False,
) -> None:
    """Which layers this machine could serve, and what the network would gain: `--layers auto` takes the first."""
    from provider.placement import look

    settings = ProviderSettings.load(data_dir=data_dir, owner=owner, model_dir=model_dir).for_model(model)
    found = look(settings, settings.chain(), settings.owner)
    if as_json:
        told = [{**asdict(choice), "layers": str(choice.layers), "gain": None if isinf(choice.gain) else choice.gain} for choice in found]
        print(json.dumps({"choices": told}))
        return
    print(f"{'layers':10}{'weights':>10}  {'fits':6}{'others':>7}{'missing':>9}  the network then gets through")
    for choice in found:
        gain = "something, where now it is nothing" if isinf(choice.gain) else f"{choice.gain:.0%} more"
        fits = "yes" if choice.fits else "no"
        print(f"{choice.layers!s:10}{choice.weights / 1e6:>7,.0f} MB  {fits:6}{choice.beside:>7}{choice.missing:>9}  {gain}")


@app.command()
def rebalance(
    data_dir: DataDir = None,
    model: Model = None,
    model_dir: Annotated[Path | None, typer.Option(help="folder of the model (FUNCNET_MODEL_DIR)")] = None,
    cold_keystore: ColdKeystore = None,
    cold_password_file: ColdPassword = None,
    least: Annotated[float, typer.Option(min=0, help="move only where the network then gets through so much more: 0.1 for a tenth")] = 0.1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would do")] = False,
    as_json: AsJson = False,
) -> None:
    """Offer other layers at the same prices, where the network needs them more. An agent started with `--layers auto` goes there by itself."""
    from provider.placement import better, look

    settings = ProviderSettings.load(data_dir=data_dir, model_dir=model_dir).for_model(model)
    owner, chain = _cold(settings, cold_keystore, cold_password_file), settings.chain()
    offered = _offered(settings, chain, owner.address)
    if len(offered) != 1:
        ranges = ", ".join(f"{offer['firstLayer']}-{offer['endLayer']}" for _, offer in offered) or "none"
        raise SettingsError(f"one offer of this model can be moved, {len(offered)} are there ({ranges}); run `provider-agent register` with --layers")
    ((offer_id, offer),) = offered
    now = LayerRange(offer["firstLayer"], offer["endLayer"])
    choice = better(look(settings, chain, owner.address), now, least)
    told = {"provider": owner.address, "layers": str(now), "better": "" if choice is None else str(choice.layers)}
    if choice is not None and not dry_run:
        told["withdrawn"] = chain.send(owner, "ProviderRegistry", "withdrawOffer", offer_id)
        moved = {**offer, "firstLayer": choice.layers.first, "endLayer": choice.layers.end}
        told["offered"] = chain.send(owner, "ProviderRegistry", "makeOffer", tuple(moved.values()))
    _print(told, as_json)


@app.command()
def status(owner: Annotated[str | None, typer.Option(help="the provider's owner address (FUNCNET_OWNER)")] = None, as_json: AsJson = False) -> None:
    """What the chain says about a provider: stake, offers, batches, money held."""
    settings = ProviderSettings.load(owner=owner)
    chain = settings.chain()
    models = {offer[0] for offer in chain.call("ProviderRegistry", "offersOf", settings.owner)}
    held = sum(chain.call("Settlement", "heldOf", settings.owner, model_id) for model_id in models)
    body = {
        "provider": settings.owner,
        "serving": chain.call("ProviderRegistry", "isServing", settings.owner),
        "stake": str(chain.call("Staking", "stakeOf", settings.owner)),
        "batches": chain.call("CommitmentLog", "batchCount", settings.owner),
        "receipts": chain.call("CommitmentLog", "lastNumber", settings.owner),
        "delegated": str(chain.call("Staking", "poolOf", settings.owner)[1]),
        "disputes": chain.call("Staking", "openDisputes", settings.owner),
        "held": str(held),
        "balance": str(chain.call("FuncToken", "balanceOf", settings.owner)),
    }
    _print(body, as_json)


@app.command()
def why(
    owner: Annotated[str | None, typer.Option(help="the provider's owner address (FUNCNET_OWNER)")] = None,
    indexer: Annotated[str | None, typer.Option(help="the indexer's address (FUNCNET_INDEXER_URL)")] = None,
    hours: Annotated[int, typer.Option(min=1, max=744, help="how far to look back")] = 24,
    as_json: AsJson = False,
) -> None:
    """Why there is no work, or not more: which jobs gateways had, how many of them they gave this provider, and what ruled it out of the others."""
    import requests

    settings = ProviderSettings.load(owner=owner, indexer_url=indexer)
    try:
        answer = requests.get(f"{settings.indexer_url}/v1/work?provider={settings.owner}&hours={hours}", timeout=10)
        told = answer.json()
    except requests.RequestException as error:
        raise SettingsError(f"no indexer answers at {settings.indexer_url}: {error}; give --indexer or set FUNCNET_INDEXER_URL") from error
    if answer.status_code != 200:
        raise SettingsError(f"the indexer knows no work for {settings.owner!r}: {told['detail']}")
    if as_json:
        print(json.dumps(told))
        return
    for line in _why(told):
        print(line)


def _why(told: dict[str, Any]) -> list[str]:
    """The indexer's answer in words, what has to be mended first."""
    standing, lines = told["standing"], []
    if standing["jailed_until"]:
        lines.append("jailed after a conviction; `provider-agent unjail` once that is over")
    if not standing["offers"]:
        lines.append("no offer is active; `provider-agent register` makes one")
    if not standing["gateways_with_bond"]:
        lines.append("no gateway has put up bond for it yet; that takes some seconds after the registration, and a gateway that lists the model")
    lines += [] if told["data"] else ["no gateway has told of a job that it could have had; is the model asked for at all?"]
    for row in told["data"]:
        lines.append(f"model {row['model_id'][:18]}: {row['chosen']} of {row['jobs']} jobs by {row['gateways']} gateway(s)")
        ruled_out = sorted(row["ruled_out"].items(), key=lambda entry: -entry[1])
        lines += [f"  {count:6} {reason:16} {told['meaning'][reason]}" for reason, count in ruled_out]
    return lines


@app.command()
def claim(data_dir: DataDir = None, owner: Annotated[str | None, typer.Option(help="the provider's owner address")] = None) -> None:
    """Redeem vouchers and release what is past its window, now. `start` does this by itself."""
    from provider.anchoring import Anchoring
    from provider.ledger import Ledger

    settings = ProviderSettings.load(data_dir=data_dir, owner=owner)
    account = read_account(settings.require_keystore(), settings.password())
    anchoring = Anchoring(settings.chain(), Ledger(settings.data_dir / "provider.db"), account, settings.owner)
    released, reward = anchoring.claim(), anchoring.claim_rewards()
    print(f"released up to batch {released - 1}" if released else "nothing is past its window yet")
    if reward:
        print(f"claimed {format_func(reward)} of emission")


@app.command()
def withdraw(data_dir: DataDir = None, cold_keystore: ColdKeystore = None, cold_password_file: ColdPassword = None) -> None:
    """Pay out stake whose unbonding has ended to the owner."""
    settings = ProviderSettings.load(data_dir=data_dir)
    owner, chain = _cold(settings, cold_keystore, cold_password_file), settings.chain()
    waiting = chain.call("Staking", "unbondingsOf", owner.address, owner.address, UNBONDINGS_SHOWN)
    now = chain.now()
    if not (ended := [bucket for bucket, _, release_at in waiting if release_at <= now]):
        soonest = min((release_at for _, _, release_at in waiting), default=0)
        raise SettingsError(f"nothing has ended its unbonding; the next does in {soonest - now} s" if soonest else "nothing is unbonding")
    print(chain.send(owner, "Staking", "withdraw", ended))


@app.command()
def unbond(
    amount: Annotated[int, typer.Argument(help="whole FUNC of the provider's own stake")],
    data_dir: DataDir = None,
    cold_keystore: ColdKeystore = None,
    cold_password_file: ColdPassword = None,
) -> None:
    """Start to take stake out. It stays slashable until the unbonding period is over; `withdraw` pays it out then."""
    settings = ProviderSettings.load(data_dir=data_dir)
    print(settings.chain().send(_cold(settings, cold_keystore, cold_password_file), "Staking", "beginUnbonding", amount * FUNC))


@app.command()
def appeal(
    dispute: Annotated[int, typer.Argument(help="the dispute's number, as the explorer shows it")],
    data_dir: DataDir = None,
    cold_keystore: ColdKeystore = None,
    cold_password_file: ColdPassword = None,
) -> None:
    """Take a verdict against this provider to the full set of verifiers, for the appeal bond. It is lost with the appeal."""
    settings = ProviderSettings.load(data_dir=data_dir)
    owner, chain = _cold(settings, cold_keystore, cold_password_file), settings.chain()
    found = DisputeReader(chain).get(dispute)
    bond = chain.call("Disputes", "parametersAt", found.version)[1]
    chain.send(owner, "FuncToken", "approve", chain.address("Disputes"), bond)
    print(chain.send(owner, "Disputes", "appeal", found.evidence_id))


@app.command()
def unjail(data_dir: DataDir = None, cold_keystore: ColdKeystore = None, cold_password_file: ColdPassword = None) -> None:
    """Offer again after a conviction, once its jail is over. What a slash left of the stake has to suffice for the offers."""
    settings = ProviderSettings.load(data_dir=data_dir)
    owner, chain = _cold(settings, cold_keystore, cold_password_file), settings.chain()
    info = struct_values("ProviderRegistry", "providerInfo", chain.call("ProviderRegistry", "providerInfo", owner.address))
    if not info["jailedUntil"]:
        raise SettingsError(f"{owner.address} is not jailed")
    if (left := info["jailedUntil"] - chain.now()) > 0:
        raise SettingsError(f"{owner.address} is jailed for another {left} s; try again then")
    print(chain.send(owner, "ProviderRegistry", "unjail"))
    has, needs = chain.call("Staking", "stakeOf", owner.address), chain.call("ProviderRegistry", "requiredStake", owner.address)
    if has < needs:
        lacking = format_func(needs - has)
        print(f"stake is {lacking} short of what the offers ask for; until then nobody is sent here. `register --stake` adds it", file=sys.stderr)


def _take_offered(settings: ProviderSettings, chain: Chain, owner: str) -> None:
    """Turn ``auto`` into the layers that the provider offers of this model, if it does."""
    if settings.layers == AUTO and (offered := _offered(settings, chain, owner)):
        settings.layers = f"{offered[0][1]['firstLayer']}-{offered[0][1]['endLayer']}"


def _offered(settings: ProviderSettings, chain: Chain, owner: str) -> list[tuple[int, dict[str, Any]]]:
    """The provider's offers of this model in this class that stand, each with its id."""
    stage = Manifest.read(settings.model_dir).model_id, execution_class_id(settings.execution_class)
    offers = enumerate(struct_list("ProviderRegistry", "offersOf", chain.call("ProviderRegistry", "offersOf", owner)))
    return [(i, offer) for i, offer in offers if offer["active"] and (offer["modelId"], offer["executionClass"]) == stage]


def _moved(settings: ProviderSettings) -> Callable[[], bool]:
    """Whether the owner offers other layers now than those that are served. Raises Unavailable."""

    def moved() -> bool:
        offered = [f"{offer['firstLayer']}-{offer['endLayer']}" for _, offer in _offered(settings, settings.chain(), settings.owner)]
        return bool(offered) and settings.layers not in offered

    return moved


def _best(settings: ProviderSettings, chain: Chain, owner: str) -> "Choice":
    """The layers that the network needs most of those that fit. Raises SettingsError where none does."""
    from provider.placement import look

    found = look(settings, chain, owner)
    if not found or not found[0].fits:
        least = min((choice.weights for choice in found), default=0)
        raise SettingsError(
            f"no layers of this model fit beside a KV cache of {settings.kv_bytes:,} bytes: the least take {least:,}; lower FUNCNET_KV_BYTES"
            if found
            else "the model is not registered on this chain, or may be cut at no layer that is calibrated here; run `funcnet model add`"
        )
    return found[0]


def _cold(settings: ProviderSettings, keystore: Path | None, password_file: Path | None) -> LocalAccount:
    """The owner's account. Raises SettingsError where its keystore is not here."""
    keystore = keystore or settings.data_dir / "owner.json"
    if not keystore.is_file():
        raise SettingsError(f"there is no keystore {keystore}; run `provider-agent init`, or give --cold-keystore")
    return read_account(keystore, read_password(password_file or keystore.with_suffix(".password"), "--cold-password-file"))


def _uncalibrated(settings: ProviderSettings) -> str | None:
    """A warning where replays of these layers in this class can give no verdict."""
    table = settings.model_dir / TOLERANCE_FILE
    entries = json.loads(table.read_text()) if table.is_file() else []
    known = [f"{entry['layers']} in {entry['precision']}" for entry in entries]
    mine = f"{settings.layers} in {precision_of(settings.execution_class)}"
    if mine in known:
        return None
    return f"layers {mine} are not calibrated for this model ({', '.join(known) or 'nothing is'}): replays of them are inconclusive"


def _operator(settings: ProviderSettings) -> str:
    keystore = settings.data_dir / "operator.json"
    if not keystore.is_file():
        raise SettingsError(f"there is no keystore {keystore}; run `provider-agent init`, or give --operator")
    return read_account(keystore, (settings.data_dir / "operator.password").read_text()).address


def _print(body: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(body))
        return
    for name, value in body.items():
        print(f"{name:14} {value}")


def main() -> None:
    try:
        app()
    except ProtocolError as error:
        print(f"provider-agent: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # torch and transformers bring their own; the first line is what an operator can act on
        from inference import InferenceError
        from provider import ProviderError

        if not isinstance(error, InferenceError | ProviderError | ValueError):
            raise
        print(f"provider-agent: {error}", file=sys.stderr)
        sys.exit(1)
