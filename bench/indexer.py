"""The indexer against a local anvil with real events of our contracts: backfill, live latency, a reorg of 64 blocks, memory."""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import requests
from psycopg.types.json import Jsonb

from funcnet import model
from funcnet.network import Network
from funcnet.processes import free_ports
from indexer.app import make_follower
from indexer.follow import Follower
from indexer.following import Following
from indexer.heads import Heads
from indexer.node import Nodes
from protocol.chain import CONTRACTS, Chain
from protocol.database import migrate
from protocol.settings import IndexerSettings

EVENTS, QUICK_EVENTS = 100_000, 20_000
IN_A_BLOCK = 125
"""Transactions in a block, two events each."""
SKIPPED = 250
"""Vouchers of one transaction that are skipped, an event each."""
ACCOUNTS = 500
REORG = 64
PLAIN_EVENTS = 5_000


class Load:
    """Makes events: stakes and deposits for some hundred accounts, and vouchers that are skipped."""

    def __init__(self, network: Network) -> None:
        self.network, self.chain = network, network.chain
        self.sender = network.address("treasury")
        self.http = requests.Session()
        self.rpc("evm_setAutomine", [False])
        self.rpc("evm_setIntervalMining", [0])
        self.rpc("anvil_impersonateAccount", [self.sender])
        self.rpc("anvil_setBalance", [self.sender, hex(10**24)])
        for spender in ("Staking", "PaymentEscrow"):
            self.send([self.call("FuncToken", "approve", self.chain.address(spender), 2**255)])
        self.mine()
        self.made = 0

    def rpc(self, method: str, params: list[Any]) -> Any:
        return self.batch([(method, params)])[0]

    def batch(self, calls: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        body = [{"jsonrpc": "2.0", "id": i, "method": method, "params": params} for i, (method, params) in enumerate(calls)]
        answers = self.http.post(self.network.rpc_url, json=body, timeout=120).json()
        assert all("error" not in answer for answer in answers), answers[:2]
        return [answer["result"] for answer in sorted(answers, key=lambda answer: answer["id"])]

    def call(self, contract: str, function: str, *args: Any, gas: int = 300_000) -> dict[str, Any]:
        data = self.chain[contract].encode_abi(function, args=list(args))
        return {"from": self.sender, "to": self.chain.address(contract), "data": data, "gas": hex(gas)}

    def send(self, transactions: Sequence[dict[str, Any]]) -> None:
        self.batch([("eth_sendTransaction", [transaction]) for transaction in transactions])

    def mine(self) -> None:
        self.rpc("evm_mine", [])

    def pair(self, n: int) -> dict[str, Any]:
        """A transaction with two events."""
        account = "0x" + (n % ACCOUNTS + 1).to_bytes(20).hex()
        account = self.chain.web3.to_checksum_address(account)
        contract, function = (("Staking", "stake"), ("PaymentEscrow", "deposit"))[n % 2]
        return self.call(contract, function, account, 10**15)

    def skips(self) -> dict[str, Any]:
        """A transaction with an event for each of many vouchers that are signed by nobody."""
        voucher = (self.sender, self.sender, self.sender, b"\x01" * 32, 10**18)
        return self.call("Settlement", "redeem", [voucher] * SKIPPED, [b"\0" * 65] * SKIPPED, gas=40_000_000)

    def make(self, events: int) -> None:
        """So many events at least: half stakes and deposits, half skipped vouchers; then so many empty blocks that they are final."""
        pairs = [self.pair(n) for n in range(ACCOUNTS * 2)]
        while self.made < events:
            self.send([pairs[(self.made + i) % len(pairs)] for i in range(IN_A_BLOCK)])
            self.send([self.skips()])
            self.mine()
            self.made += 2 * IN_A_BLOCK + SKIPPED
        self.rpc("anvil_mine", [hex(REORG + 1)])


class Cached(Nodes):
    """Keeps each answer, so that a second run costs the node nothing."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(urls)
        self.kept: dict[Any, Any] = {}

    def _keep(self, key: Any, ask: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = ask()
        return self.kept[key]

    def tips(self) -> Any:
        return self._keep("tips", super().tips)

    def headers(self, numbers: Sequence[int]) -> Any:
        ask = super().headers
        return self._keep(("headers", tuple(numbers)), lambda: ask(numbers))

    def logs(self, addresses: Sequence[str], first: int, last: int) -> Any:
        ask = super().logs
        return self._keep(("logs", first, last), lambda: ask(addresses, first, last))

    def blocks(self, addresses: Sequence[str], hashes: Sequence[str], numbered: Sequence[str]) -> Any:
        ask = super().blocks
        return self._keep(("blocks", tuple(hashes)), lambda: ask(addresses, hashes, numbered))

    def counters(self, numbered: Sequence[str], block: str) -> Any:
        ask = super().counters
        return self._keep(("counters", block), lambda: ask(numbered, block))


def run(quick: bool = False) -> dict[str, Any]:
    """The rows that ``funcnet bench indexer`` prints."""
    model_dir = model.prepare_bundled(Path(".funcnet"), print).resolve()
    with tempfile.TemporaryDirectory(prefix="funcnet-bench-") as root:
        network = Network(Path(root), model_dir, print, (), verifiers=0)
        try:
            network.start_core()
            return {"rows": measure(network, quick)}
        finally:
            network.stop()


def measure(network: Network, quick: bool) -> list[dict[str, Any]]:
    load = Load(network)
    began = time.monotonic()
    load.make(QUICK_EVENTS if quick else EVENTS)
    print(f"{load.made} events made in {time.monotonic() - began:.0f} s")
    plain = plain_script(network)
    follower = new_follower(network, "backfill")
    whole = backfill(follower)
    memory = process_memory(network)
    cached = Cached([network.rpc_url])
    for name in ("warm", "cached"):
        follower.store.close()
        follower = new_follower(network, name)
        follower.source, follower.span = cached, follower.span
        without_node = backfill(follower)
    follower.source = Nodes([network.rpc_url])
    latencies = live(network, load, follower, 30 if quick else 100)
    healed = [reorg(load, follower) for _ in range(3 if quick else 9)]
    follower.store.close()
    return [
        row("backfill, end to end", whole, 10_000, "events/s"),
        row("backfill, logs cached", without_node, 20_000, "events/s"),
        row("backfill / a script with web3.py and an insert a row", whole / plain, None, "ratio"),
        row("live, from the node's notice to the row, p50", 1000 * statistics.median(latencies), 20, "ms", most=True),
        row("live, from the node's notice to the row, p99", 1000 * sorted(latencies)[int(0.99 * (len(latencies) - 1))], None, "ms"),
        row(f"reorg of {REORG} blocks, healed, p50", 1000 * statistics.median(healed), 100, "ms", most=True),
        row("memory of the process after backfill, highest", memory, None, "MiB"),
    ]


def row(name: str, value: float, bar: float | None, unit: str, most: bool = False) -> dict[str, Any]:
    holds = bar is None or (value <= bar if most else value >= bar)
    return {"name": name, "value": round(value, 2), "reference": None, "bar": bar, "unit": unit, "holds": holds}


def settings(network: Network, name: str) -> IndexerSettings:
    """With an empty database of that name."""
    with psycopg.connect(network.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = network.database_for(name)
    migrate(url, "indexer")
    return IndexerSettings.load(rpc_url=network.rpc_url, deployment=network.deployment_file, database_url=url)


def new_follower(network: Network, name: str) -> Follower:
    return make_follower(settings(network, name))


def backfill(follower: Follower) -> float:
    """Events a second, from an empty database to the head."""
    began = time.monotonic()
    while follower.step():
        pass
    return follower.counts.events / (time.monotonic() - began)


def plain_script(network: Network) -> float:
    """Events a second of what one writes first: web3.py's logs and decoding, an insert a row, all in one transaction."""
    chain: Chain = network.chain
    topics = {entry["topic"]: entry for entry in _topics(chain)}
    began, done = time.monotonic(), 0
    with psycopg.connect(network.database_url) as connection:
        connection.execute("CREATE TABLE plain (block BIGINT, log INT, tx TEXT, name TEXT, args JSONB, PRIMARY KEY (block, log))")
        block = chain.deployment.from_block
        while done < PLAIN_EVENTS:
            for log in chain.web3.eth.get_logs({"address": [chain.address(name) for name in CONTRACTS], "fromBlock": block, "toBlock": block + 9}):  # type: ignore[typeddict-item]
                if (entry := topics.get(bytes(log["topics"][0]))) is None:
                    continue
                event = entry["event"].process_log(log)
                args = {name: value if isinstance(value, int | bool) else str(value) for name, value in event["args"].items()}
                values = (log["blockNumber"], log["logIndex"], "0x" + bytes(log["transactionHash"]).hex(), event["event"], Jsonb(args))
                connection.execute("INSERT INTO plain VALUES (%s, %s, %s, %s, %s)", values)
                done += 1
            block += 10
    return done / (time.monotonic() - began)


def _topics(chain: Chain) -> list[dict[str, Any]]:
    found = []
    for name in ("FuncToken", "Staking", "PaymentEscrow", "Settlement"):
        for event in chain[name].events:
            found.append({"topic": bytes.fromhex(event.topic[2:]), "event": event()})
    return found


class Stamped(threading.Event):
    """Knows when it was last set."""

    at = 0.0

    def set(self) -> None:
        self.at = time.monotonic()
        super().set()


def live(network: Network, load: Load, follower: Follower, blocks: int) -> list[float]:
    """Seconds from the node's notice of a block to its rows, for blocks of ten transactions."""
    following = Following(follower, 5)
    following.woken = woken = Stamped()
    heads = Heads(network.rpc_url.replace("http", "ws", 1), woken)
    latencies: list[float] = []
    write = follower.store.write

    def timed(*args: Any) -> None:
        write(*args)
        latencies.append(time.monotonic() - woken.at)

    follower.store.write = timed  # type: ignore[method-assign]
    heads.start()
    while not heads.connected:
        time.sleep(0.05)
    following.start()
    for n in range(blocks):
        load.send([load.pair(n * 10 + i) for i in range(10)])
        before = len(latencies)
        load.mine()
        while len(latencies) == before:
            time.sleep(0.001)
        time.sleep(0.02)
    heads.stopping.set()
    following.stop()
    follower.store.write = write  # type: ignore[method-assign]
    return latencies


def reorg(load: Load, follower: Follower) -> float:
    """Seconds in which the follower heals 64 blocks, each with a transaction before and another one after."""
    for n in range(REORG):
        load.send([load.pair(n)])
        load.mine()
    while follower.step():
        pass
    load.rpc("anvil_reorg", [REORG, [[load.pair(n + 1), n] for n in range(REORG)]])
    head, began = load.rpc("eth_getBlockByNumber", ["latest", False])["hash"], time.monotonic()
    while follower.cursor is None or follower.cursor.hash != head:
        follower.step()
    return time.monotonic() - began


def process_memory(network: Network) -> float:
    """Highest resident memory of an indexer process that backfills all, in MiB."""
    chosen = settings(network, "process")
    (port,) = free_ports(1)
    more = {"FUNCNET_RPC_URL": network.rpc_url, "FUNCNET_DEPLOYMENT": network.deployment_file, "FUNCNET_PORT": port}
    more["FUNCNET_DATABASE_URL"] = chosen.database_url.get_secret_value()
    environment = os.environ | {name: str(value) for name, value in more.items()}
    process = subprocess.Popen([sys.executable, "-m", "indexer.app"], env=environment, stderr=subprocess.DEVNULL)
    try:
        head = network.chain.head()
        while _reached(port) < head:
            time.sleep(0.2)
        told = Path(f"/proc/{process.pid}/status").read_text().split()
        return int(told[told.index("VmHWM:") + 1]) / 1024
    finally:
        process.terminate()
        process.wait()


def _reached(port: int) -> int:
    try:
        block = requests.get(f"http://127.0.0.1:{port}/v1/status", timeout=5).json()["block"]
    except requests.RequestException:
        return -1
    return int(block["number"]) if block else -1
