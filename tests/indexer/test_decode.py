"""Compiled layouts against eth_abi, for every event of every contract; and bytes that hold none."""

from typing import Any

import pytest
from eth_abi import decode as abi_decode
from eth_abi import encode as abi_encode
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3

from indexer import NodeFault
from indexer.decode import Decoder, Layout, event_topic
from indexer.node import Log
from protocol.chain import CONTRACTS, abi, canonical_type
from tests.indexer.simulated import ADDRESSES, DEPLOYMENT

EVENTS = [(name, entry) for name in CONTRACTS for entry in abi(name) if entry.get("type") == "event"]
NAMES = [f"{name}.{entry['name']}" for name, entry in EVENTS]


def values(item: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Any value of an ABI type."""
    kind = item["type"]
    if kind.endswith("[]"):
        return st.lists(values({**item, "type": kind.removesuffix("[]")}), max_size=4)
    if kind == "tuple":
        return st.tuples(*(values(part) for part in item["components"]))
    if kind == "string":
        return st.text(max_size=70)
    if kind == "bytes":
        return st.binary(max_size=70)
    if kind == "bool":
        return st.booleans()
    if kind == "address":
        return st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
    if kind.startswith("uint"):
        return st.integers(0, 2 ** int(kind.removeprefix("uint")) - 1)
    return st.binary(min_size=(size := int(kind.removeprefix("bytes"))), max_size=size)


def plain(item: dict[str, Any], value: Any) -> Any:
    """A value of eth_abi's as an event shows it."""
    kind = item["type"]
    if kind.endswith("[]"):
        return [plain({**item, "type": kind.removesuffix("[]")}, part) for part in value]
    if kind == "tuple":
        return {part["name"]: plain(part, inner) for part, inner in zip(item["components"], value, strict=True)}
    if kind == "address":
        return Web3.to_checksum_address(value)
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    return str(value) if kind.startswith("uint") and int(kind.removeprefix("uint")) > 64 else value


@pytest.mark.parametrize(("contract", "entry"), EVENTS, ids=NAMES)
@given(data=st.data())
def test_layout__any_event__reads_what_eth_abi_reads(contract: str, entry: dict[str, Any], data: st.DataObject) -> None:
    indexed = [item for item in entry["inputs"] if item["indexed"]]
    others = [item for item in entry["inputs"] if not item["indexed"]]
    drawn = {item["name"]: data.draw(values(item)) for item in entry["inputs"]}
    topics = [event_topic(entry), *(abi_encode([canonical_type(i)], [drawn[i["name"]]]) for i in indexed)]
    types = [canonical_type(i) for i in others]
    body = abi_encode(types, [drawn[i["name"]] for i in others])
    told = dict(zip((i["name"] for i in others), abi_decode(types, body), strict=True))
    told |= {i["name"]: abi_decode([canonical_type(i)], topic)[0] for i, topic in zip(indexed, topics[1:], strict=True)}
    found = Layout(contract, entry).read(["0x" + topic.hex() for topic in topics], body)
    assert found == {item["name"]: plain(item, told[item["name"]]) for item in entry["inputs"]}


def staked(data: str, topics: int = 3) -> Log:
    entry = next(entry for name, entry in EVENTS if name == "Staking" and entry["name"] == "Staked")
    words = ["0x" + event_topic(entry).hex(), "0x" + "00" * 31 + "01", "0x" + "00" * 31 + "02"]
    return Log(ADDRESSES["Staking"], words[:topics], data, "0x1", "0x01", "0x02", "0x0")


@pytest.mark.parametrize(("data", "topics"), [("0x", 3), ("0x" + "00" * 95, 3), ("0x" + "zz" * 96, 3), ("0x" + "00" * 96, 2), ("0x0", 3)])
def test_decoder__bytes_that_hold_no_event__are_a_fault_of_the_node(data: str, topics: int) -> None:
    with pytest.raises(NodeFault, match="is no Staked"):
        Decoder(DEPLOYMENT).decode(staked(data, topics))


@pytest.mark.parametrize("length", [2**256 - 1, 2**64, 10**6])
def test_decoder__length_beyond_the_data__is_a_fault_of_the_node(length: int) -> None:
    entry = next(entry for name, entry in EVENTS if entry["name"] == "SetBuilt")
    data = "0x" + b"".join(n.to_bytes(32) for n in (1, 2, 128, 160, length, length)).hex()
    log = Log(ADDRESSES["VerifierSet"], ["0x" + event_topic(entry).hex(), "0x" + "00" * 32], data, "0x1", "0x01", "0x02", "0x0")
    with pytest.raises(NodeFault, match="is no SetBuilt"):
        Decoder(DEPLOYMENT).decode(log)


def test_decoder__unknown_topic__is_left_out() -> None:
    log = Log(ADDRESSES["Staking"], ["0x" + "12" * 32], "0x", "0x1", "0x01", "0x02", "0x0")
    assert Decoder(DEPLOYMENT).decode(log) is None
    assert Decoder(DEPLOYMENT).decode(Log(ADDRESSES["Staking"], [], "0x", "0x1", "0x01", "0x02", "0x0")) is None
