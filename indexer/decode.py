"""Logs to named events, by the ABIs of our contracts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak
from web3 import Web3

from protocol.chain import CONTRACTS, Deployment, abi, canonical_type, text_codec

WIDE_BITS = 64


@dataclass(frozen=True)
class Event:
    """One decoded log. ``args``: JSON values; integers wider than 64 bits as decimal strings, bytes as 0x hex."""

    block_number: int
    block_hash: str
    log_index: int
    tx_hash: str
    contract: str
    name: str
    sequence: int | None
    args: dict[str, Any]


class Decoder:
    """Knows each of a deployment's contracts by address and each of their events by topic."""

    def __init__(self, deployment: Deployment) -> None:
        self.names = {Web3.to_checksum_address(address): name for name, address in deployment.addresses.items()}
        self._codec = text_codec()
        self._events: dict[tuple[str, bytes], dict[str, Any]] = {}
        for name in CONTRACTS:
            for entry in abi(name):
                if entry.get("type") == "event":
                    self._events[name, event_topic(entry)] = entry

    @property
    def addresses(self) -> list[str]:
        return list(self.names)

    def decode(self, log: Mapping[str, Any]) -> Event | None:
        """The event, or None for a topic that the contract's ABI does not know."""
        contract = self.names[log["address"]]
        entry = self._events.get((contract, bytes(log["topics"][0])))
        if entry is None:
            return None
        indexed = [i for i in entry["inputs"] if i["indexed"]]
        plain = [i for i in entry["inputs"] if not i["indexed"]]
        values = dict(zip([i["name"] for i in plain], self._codec.decode([canonical_type(i) for i in plain], bytes(log["data"])), strict=True))
        for item, topic in zip(indexed, log["topics"][1:], strict=True):
            values[item["name"]] = self._codec.decode([canonical_type(item)], bytes(topic))[0]
        args = {item["name"]: jsonable(item, values[item["name"]]) for item in entry["inputs"]}
        tx_hash, block_hash = "0x" + bytes(log["transactionHash"]).hex(), "0x" + bytes(log["blockHash"]).hex()
        sequence = args.pop("sequence", None)
        return Event(log["blockNumber"], block_hash, log["logIndex"], tx_hash, contract, entry["name"], sequence, args)


def event_topic(entry: Mapping[str, Any]) -> bytes:
    """keccak of the event's canonical signature."""
    return keccak(f"{entry['name']}({','.join(canonical_type(item) for item in entry['inputs'])})".encode())


def jsonable(item: Mapping[str, Any], value: Any) -> Any:
    """A decoded value as JSON, by its ABI type."""
    kind = str(item["type"])
    if kind.endswith("[]"):
        inner = {**item, "type": kind.removesuffix("[]")}
        return [jsonable(inner, part) for part in value]
    if kind == "tuple":
        return {part["name"]: jsonable(part, inner) for part, inner in zip(item["components"], value, strict=True)}
    if kind == "address":
        return Web3.to_checksum_address(value)
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")  # which PostgreSQL keeps in no text
    if kind.startswith("uint") and int(kind.removeprefix("uint") or 256) > WIDE_BITS:
        return str(value)
    return value
