"""A signer apart from the gateway: ``python -m api.signer``. It holds the gateway's key where no client reaches, and signs nothing past its ceilings.

Whoever takes over a gateway can then spend what the ceilings leave until somebody notices, at prices that they allow, and nothing else: no withdrawal
of the bond, no transfer, no vouchers for more than an hour's limit. What was promised is on disk before it is signed.
"""

import hmac
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from eth_account.signers.local import LocalAccount
from eth_utils import to_checksum_address
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from api.keys import bearer
from protocol import SettingsError, logs
from protocol.chain import Chain
from protocol.keystore import read_account
from protocol.receipts import CheckOrder, RouteUpdate, SessionOffer, Voucher
from protocol.routing import RoutingSummary
from protocol.settings import SignerSettings
from protocol.typed import TypedStruct
from protocol.units import FUNC, format_func

log = structlog.get_logger()

STRUCTURES: dict[str, type[TypedStruct]] = {kind.TYPE_NAME: kind for kind in (SessionOffer, Voucher, RouteUpdate, RoutingSummary, CheckOrder)}
FUNCTIONS = {("PaymentEscrow", "allocate"), ("Contradictions", "note"), ("Contradictions", "prove"), ("Contradictions", "proveCheckpoints")}
HOUR = 3600


class Refused(Exception):
    """What is asked for passes a ceiling, or is none of this signer's business."""


class Structure(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: str
    message: dict[str, Any]


class Transaction(BaseModel):
    """Only what a transaction of the gateway's consists of; anything else is refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    to: str
    data: str
    nonce: int
    gas: int
    value: int = 0
    chain_id: int = Field(alias="chainId")
    max_fee: int | None = Field(None, alias="maxFeePerGas")
    max_priority_fee: int | None = Field(None, alias="maxPriorityFeePerGas")
    gas_price: int | None = Field(None, alias="gasPrice")
    sender: str | None = Field(None, alias="from")


@dataclass
class Ceilings:
    """In wei: prices of a stage per million tokens and of a check per million rows, what vouchers may add up to within an hour, and the bond for
    one provider."""

    input_price: int
    output_price: int
    check_price: int
    per_hour: int
    allocation: int


class Promises:
    """The greatest voucher of each stream, and when it grew by how much; on disk."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._lock = threading.Lock()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS stream (name TEXT PRIMARY KEY, cumulative TEXT NOT NULL)")
        self._db.execute("CREATE TABLE IF NOT EXISTS growth (at REAL NOT NULL, amount TEXT NOT NULL)")

    def grow(self, voucher: Voucher, per_hour: int, known: int) -> None:
        """Note a voucher before it is signed. ``known``: what the chain has redeemed of a stream that is new here. Raises Refused."""
        name, now = f"{voucher.payer} {voucher.provider} {voucher.model_id.hex()}", time.time()
        with self._lock:
            row = self._db.execute("SELECT cumulative FROM stream WHERE name = ?", (name,)).fetchone()
            before = int(row[0]) if row else known
            more = voucher.cumulative - before
            if more <= 0:
                return
            grown = sum(int(amount) for (amount,) in self._db.execute("SELECT amount FROM growth WHERE at > ?", (now - HOUR,)))
            if grown + more > per_hour:
                words = f"vouchers of the last hour come to {format_func(grown)}, with this one to {format_func(grown + more)}"
                raise Refused(f"{words}; {format_func(per_hour)} are the most")
            self._db.execute("BEGIN")
            upsert = "INSERT INTO stream VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET cumulative = excluded.cumulative"
            self._db.execute(upsert, (name, str(voucher.cumulative)))
            self._db.execute("INSERT INTO growth VALUES (?, ?)", (now, str(more)))
            self._db.execute("DELETE FROM growth WHERE at < ?", (now - HOUR,))
            self._db.execute("COMMIT")


@dataclass
class SignerService:
    """Checks, then signs."""

    chain: Chain
    account: LocalAccount
    ceilings: Ceilings
    promises: Promises

    def structure(self, kind: str, message: dict[str, Any]) -> str:
        """The signature as 0x hex. Raises Refused, or ValueError for what is no such structure."""
        if kind not in STRUCTURES:
            raise Refused(f"{kind!r} is not signed here; {', '.join(STRUCTURES)} are")
        struct = STRUCTURES[kind].from_json(message)
        if isinstance(struct, SessionOffer | Voucher | RoutingSummary | CheckOrder) and struct.gateway != self.account.address:
            raise Refused(f"the gateway is {struct.gateway}, this signer is {self.account.address}'s")
        if isinstance(struct, SessionOffer):
            for name in ("input_price", "cached_price", "output_price"):
                price, most = getattr(struct, name), self.ceilings.output_price if name == "output_price" else self.ceilings.input_price
                if price > most:
                    raise Refused(f"{name} is {format_func(price)} a million tokens, {format_func(most)} are the most")
        if isinstance(struct, CheckOrder) and struct.price > self.ceilings.check_price:
            raise Refused(f"a check costs {format_func(struct.price)} a million rows, {format_func(self.ceilings.check_price)} are the most")
        if isinstance(struct, Voucher):
            redeemed = int(self.chain.call("Settlement", "redeemedOf", struct.payer, struct.gateway, struct.provider, struct.model_id))
            self.promises.grow(struct, self.ceilings.per_hour, redeemed)
        domain = self.chain.settlement_domain if isinstance(struct, Voucher) else self.chain.receipts_domain
        return "0x" + struct.sign(domain, bytes(self.account.key)).hex()

    def transaction(self, asked: Transaction) -> str:
        """The signed transaction as 0x hex. Raises Refused."""
        if asked.value or asked.chain_id != self.chain.deployment.chain_id:
            raise Refused(f"a transaction on chain {asked.chain_id} with value {asked.value}; none with a value or on another chain is signed")
        to = to_checksum_address(asked.to)
        name = next((name for name, contract in self.chain.contracts.items() if contract.address == to), "no contract of ours")
        try:
            function, arguments = self.chain.contracts[name].decode_function_input(asked.data)
        except (KeyError, ValueError) as error:
            raise Refused(f"a call of {asked.to}, {name}, that is not known here") from error
        if (name, function.fn_name) not in FUNCTIONS:
            raise Refused(f"{name}.{function.fn_name} is not signed here; {', '.join(sorted('.'.join(one) for one in FUNCTIONS))} are")
        if function.fn_name == "allocate" and arguments["amount"] > self.ceilings.allocation:
            raise Refused(f"bond of {format_func(arguments['amount'])} for a provider, {format_func(self.ceilings.allocation)} are the most")
        given = asked.model_dump(by_alias=True, exclude_none=True, exclude={"sender"})
        return str(self.account.sign_transaction({**given, "to": to}).raw_transaction.to_0x_hex())


def create_app(settings: SignerSettings) -> FastAPI:
    """The service. Every route needs the token."""
    token = settings.signer_token.get_secret_value()
    if len(token) < 32:
        raise SettingsError("FUNCNET_SIGNER_TOKEN must be at least 32 characters of randomness")
    account = read_account(settings.require_keystore(), settings.password())
    prices = settings.most_input_price, settings.most_output_price, settings.most_check_price
    amounts = *prices, settings.most_per_hour, settings.most_bond
    most = Ceilings(*(int(amount * FUNC) for amount in amounts))
    service = SignerService(settings.chain(), account, most, Promises(settings.data_dir / "signer.db"))

    def require_token(request: Request) -> None:
        given = bearer(request.headers.get("authorization"))
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "this needs the signer's token")

    app = FastAPI(title="Function Network signer", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(require_token)])

    @app.get("/address")
    def address() -> dict[str, str]:
        return {"address": account.address}

    @app.post("/structures")
    def structure(asked: Structure) -> dict[str, str]:
        return {"signature": _checked(lambda: service.structure(asked.type, asked.message))}

    @app.post("/transactions")
    def transaction(asked: Transaction) -> dict[str, str]:
        return {"raw": _checked(lambda: service.transaction(asked))}

    return app


def _checked(work: Callable[[], str]) -> str:
    try:
        return work()
    except Refused as error:
        log.warning("refused", reason=str(error))
        raise HTTPException(403, str(error)) from error
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


def main() -> None:
    settings = SignerSettings.load()
    logs.configure(settings.log_level)
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port or 8700, log_level="warning")


if __name__ == "__main__":
    main()
