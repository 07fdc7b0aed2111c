"""The chain client: contracts by name, calls, transactions, custom errors by name."""

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import requests
from eth_abi import decode as abi_decode
from eth_abi.codec import ABICodec
from eth_abi.decoding import StringDecoder
from eth_abi.registry import BaseEquals
from eth_hash.auto import keccak
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.exceptions import BlockNotFound, ContractLogicError, TimeExhausted
from web3.types import RPCEndpoint

from protocol import Reverted, SettingsError, Unavailable
from protocol.typed import Domain, escrow_domain, receipts_domain, settlement_domain

sys.setrecursionlimit(1_000)
"""Python's own. py_ecc, which web3 brings, raises it so far that JSON nested by a stranger overflows the C stack and ends the process."""

CONTRACTS = (
    "AccessManager",
    "TimelockController",
    "FuncToken",
    "Staking",
    "RewardPool",
    "ProviderRegistry",
    "ModelRegistry",
    "PaymentEscrow",
    "VerifierSet",
    "CommitmentLog",
    "Pins",
    "Plants",
    "Settlement",
    "Disputes",
    "Contradictions",
    "Attendance",
)
CLOCK_SECONDS = 3.0
RECEIPT_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Deployment:
    """Where the contracts are: ``deployments/<chainid>.json``."""

    chain_id: int
    from_block: int
    addresses: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> "Deployment":
        """Raises SettingsError where the file is missing or names a contract no address."""
        try:
            data = json.loads(path.read_text())
            return cls(data["chainId"], data["fromBlock"], {name: data[name] for name in CONTRACTS})
        except FileNotFoundError as error:
            raise SettingsError(f"no deployment file at {path}; run the deploy script, or set FUNCNET_DEPLOYMENT") from error
        except KeyError as error:
            raise SettingsError(f"{path} names no address for {error}; deploy again with this version's script") from error


@cache
def abi(name: str) -> list[dict[str, Any]]:
    """A contract's ABI, as exported from the Foundry build."""
    text = (resources.files("protocol") / "abi" / f"{name}.json").read_text()
    return list(json.loads(text))


class _TextDecoder(StringDecoder):
    def __init__(self) -> None:
        super().__init__("replace")  # type: ignore[no-untyped-call]


def text_codec() -> ABICodec:
    """web3's own, but for text that is no UTF-8, which is read with replacement characters: anybody can put some on chain, and it must keep nobody
    from reading what stands beside it."""
    codec = Web3().codec
    codec._registry.unregister_decoder("string")
    codec._registry.register_decoder(BaseEquals("string"), _TextDecoder, label="string")  # type: ignore[no-untyped-call]
    return codec


class Sender(Protocol):
    """Whose transactions are sent: an account with its key here, or what asks a signer elsewhere."""

    @property
    def address(self) -> Any: ...

    def sign_transaction(self, transaction: Any, /) -> Any: ...


class Chain:
    """One node and one deployment. Safe to use from several threads."""

    def __init__(self, rpc_url: str, deployment: Deployment) -> None:
        self.rpc_url = rpc_url
        self.deployment = deployment
        # web3 asks for the chain's id before each call, and needs to once.
        once = {RPCEndpoint("eth_chainId")}
        self.web3 = Web3(HTTPProvider(rpc_url, request_kwargs={"timeout": 20}, cache_allowed_requests=True, cacheable_requests=once))
        self.web3.codec = text_codec()
        self.contracts: dict[str, Contract] = {
            name: self.web3.eth.contract(address=Web3.to_checksum_address(address), abi=abi(name)) for name, address in deployment.addresses.items()
        }
        self._sending = threading.Lock()
        self._looked = (-CLOCK_SECONDS, 0)

    def __getitem__(self, name: str) -> Contract:
        return self.contracts[name]

    def address(self, name: str) -> str:
        return str(self.contracts[name].address)

    @property
    def receipts_domain(self) -> Domain:
        return receipts_domain(self.deployment.chain_id, self.address("CommitmentLog"))

    @property
    def escrow_domain(self) -> Domain:
        return escrow_domain(self.deployment.chain_id, self.address("PaymentEscrow"))

    @property
    def settlement_domain(self) -> Domain:
        return settlement_domain(self.deployment.chain_id, self.address("Settlement"))

    def now(self) -> int:
        """The newest block's timestamp: the only clock that parties share. Raises Unavailable."""
        with _Translated("the newest block"):
            return int(self.web3.eth.get_block("latest")["timestamp"])

    def head(self) -> int:
        """The newest block's number. Raises Unavailable."""
        with _Translated("the newest block"):
            return int(self.web3.eth.block_number)

    def block_hash(self, number: int) -> bytes | None:
        """The hash of the block of that number, None where the chain does not reach it. Raises Unavailable."""
        with _Translated(f"block {number}"):
            try:
                return bytes(self.web3.eth.get_block(number)["hash"])
            except BlockNotFound:
                return None

    def clock(self) -> int:
        """Chain seconds, carried forward from the last look by this machine's clock, also while the node is away.

        Raises Unavailable where there was no look yet.
        """
        looked, then = self._looked
        if time.monotonic() - looked > CLOCK_SECONDS:
            try:
                looked, then = time.monotonic(), self.now()
                self._looked = (looked, then)
            except Unavailable:
                if not then:
                    raise
        return then + int(time.monotonic() - looked)

    def call(self, contract: str, function: str, *args: Any) -> Any:
        """A view call. Raises Reverted or Unavailable."""
        bound = getattr(self.contracts[contract].functions, function)(*args)
        with _Translated(f"{contract}.{function}"):
            return bound.call()

    def send(self, account: Sender, contract: str, function: str, *args: Any) -> str:
        """Send a transaction and wait until it is mined; its hash as 0x hex. Raises Reverted or Unavailable."""
        bound = getattr(self.contracts[contract].functions, function)(*args)
        return self.send_bound(account, f"{contract}.{function}", bound)

    def send_bound(self, account: Sender, label: str, bound: ContractFunction) -> str:
        with _Translated(label):
            with self._sending:
                gas = int(bound.estimate_gas({"from": account.address}) * 1.4) + 20_000
                nonce = self.web3.eth.get_transaction_count(account.address, "pending")
                transaction: Any = bound.build_transaction({"from": account.address, "nonce": nonce, "gas": gas})
                raw = account.sign_transaction(transaction).raw_transaction
                digest = self.web3.eth.send_raw_transaction(raw)
            receipt = self.web3.eth.wait_for_transaction_receipt(digest, timeout=RECEIPT_TIMEOUT_SECONDS, poll_latency=0.1)
            if receipt["status"] != 1:
                bound.call({"from": account.address})  # raises with the reason, if it still holds
                raise Reverted(label, "OutOfGasOrRaced")
        return "0x" + bytes(digest).hex()


def struct_values(contract: str, function: str, values: Any) -> dict[str, Any]:
    """A call's tuple answer as a dict under the struct's member names."""
    return named(_components(contract, function), values)


def struct_list(contract: str, function: str, values: Any) -> list[dict[str, Any]]:
    """The same of a call that answers with a list of structs."""
    components = _components(contract, function)
    return [named(components, value) for value in values]


def _components(contract: str, function: str) -> list[dict[str, Any]]:
    entry = next(e for e in abi(contract) if e.get("type") == "function" and e["name"] == function)
    return list(entry["outputs"][0]["components"])


def named(components: list[dict[str, Any]], values: Any) -> dict[str, Any]:
    """Tuple values under their component names, nested structs and lists of structs included."""
    out: dict[str, Any] = {}
    for component, value in zip(components, values, strict=True):
        if component["type"] == "tuple":
            value = named(component["components"], value)
        elif component["type"] == "tuple[]":
            value = [named(component["components"], item) for item in value]
        out[component["name"]] = value
    return out


class _Translated:
    """Turns web3's and requests' errors into ours."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ContractLogicError):
            name, values = decode_error(error.data)
            raise Reverted(self.label, name or str(error), values) from error
        if isinstance(error, requests.RequestException | TimeExhausted):
            raise Unavailable(f"{self.label}: the node did not answer ({error}); check FUNCNET_RPC_URL and try again") from error


def decode_error(data: object) -> tuple[str, tuple[object, ...]]:
    """A custom error's name and values, from revert data as 0x hex; an empty name where it is not ours."""
    if not isinstance(data, str) or len(data) < 10:
        return "", ()
    raw = bytes.fromhex(data.removeprefix("0x"))
    name, types = _errors().get(raw[:4], ("", []))
    return name, tuple(abi_decode(types, raw[4:])) if name else ()


@cache
def _errors() -> dict[bytes, tuple[str, list[str]]]:
    found = {}
    for entry in _entries():
        if entry.get("type") == "error":
            types = [canonical_type(item) for item in entry["inputs"]]
            found[keccak(f"{entry['name']}({','.join(types)})".encode())[:4]] = (entry["name"], types)
    return found


def _entries() -> Iterator[dict[str, Any]]:
    for name in CONTRACTS:
        yield from abi(name)


def canonical_type(item: Mapping[str, Any]) -> str:
    """An ABI entry's type as signatures and codecs spell it, structs as tuples."""
    kind = str(item["type"])
    if kind.startswith("tuple"):
        return f"({','.join(canonical_type(part) for part in item['components'])}){kind.removeprefix('tuple')}"
    return kind


def wait_for_rpc(rpc_url: str, seconds: float = 20) -> int:
    """Wait until the node answers; its chain id. Raises Unavailable."""
    web3 = Web3(HTTPProvider(rpc_url, request_kwargs={"timeout": 2}))
    deadline = time.monotonic() + seconds
    while True:
        try:
            return int(web3.eth.chain_id)
        except requests.RequestException as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"no node answers at {rpc_url} after {seconds:.0f} s; start it, or set FUNCNET_RPC_URL") from error
            time.sleep(0.1)
