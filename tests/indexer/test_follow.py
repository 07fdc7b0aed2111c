"""Following a real chain into a real database: through reorgs, crashes and missing logs, to tables that equal a clean replay."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
import requests
from eth_abi import encode as abi_encode
from eth_hash.auto import keccak

from funcnet.actors import Wallet
from funcnet.network import Network
from funcnet.processes import free_ports
from indexer import FinalityBroken, MissingLogs
from indexer.app import make_follower
from indexer.decode import Event
from indexer.follow import Case, Follower, classify, require_complete
from indexer.node import Call, Header, Log, Nodes
from indexer.store import Cursor
from protocol.units import FUNC
from tests.indexer.following import catch_up, differences, follower_of, fresh_database, indexer_settings, rpc, stake


@pytest.fixture
def follower(small: Network) -> Iterator[Follower]:
    follower = follower_of(small, "follow")
    yield follower
    follower.store.close()


def events(follower: Follower, name: str) -> list[dict[str, Any]]:
    rows = follower.store.connection.execute("SELECT args FROM indexer.event WHERE name = %s ORDER BY block_number, log_index", (name,))
    return [row["args"] for row in rows]


def test_follow__new_events__are_decoded_with_totals_as_text(small: Network, follower: Follower, wallet: Wallet) -> None:
    stake(small, wallet, 5)
    catch_up(follower)
    assert [e["amount"] for e in events(follower, "Staked") if e["account"] == wallet.account().address] == [str(5 * FUNC)]
    assert differences(small, follower) == []


@pytest.mark.parametrize("endpoint", [b"\xff\xfe\x80", b"a\0b", b""])
def test_follow__text_that_is_none__keeps_nobody_from_reading_on(small: Network, follower: Follower, wallet: Wallet, endpoint: bytes) -> None:
    stake(small, wallet, 10_000)
    account, chain = wallet.account(), small.chain
    call = keccak(b"register(address,string,bytes32)")[:4] + abi_encode(["address", "bytes", "bytes32"], [account.address, endpoint, bytes(32)])
    nonce, registry = chain.web3.eth.get_transaction_count(account.address), chain.address("ProviderRegistry")
    raw = {"to": registry, "data": call, "nonce": nonce, "gas": 10**6, "gasPrice": 10**10, "chainId": chain.deployment.chain_id}
    digest = chain.web3.eth.send_raw_transaction(account.sign_transaction(raw).raw_transaction)
    assert chain.web3.eth.wait_for_transaction_receipt(digest)["status"] == 1
    assert chain.call("ProviderRegistry", "providerInfo", account.address)[0] == account.address
    catch_up(follower)
    (found,) = [e for e in events(follower, "ProviderRegistered") if e["provider"] == account.address]
    assert found["endpoint"] == endpoint.decode(errors="replace").replace("\0", "\ufffd")
    assert differences(small, follower) == []


@pytest.mark.parametrize("depth", [1, 6, 40])
def test_follow__reorg__leaves_the_tables_of_a_clean_replay(small: Network, follower: Follower, wallet: Wallet, depth: int) -> None:
    rpc(small, "anvil_mine", [hex(90)])
    stake(small, wallet, 7)
    catch_up(follower)
    mine = [e for e in events(follower, "Staked") if e["account"] == wallet.account().address]
    assert len(mine) == 1
    # The last blocks are replaced by empty ones: what happened in them never did.
    rpc(small, "anvil_reorg", [depth, []])
    catch_up(follower)
    assert follower.counts.reorgs == 1
    assert 1 <= follower.counts.deepest_reorg <= depth  # empty blocks are mined again as they were
    if depth > 4:
        assert [e for e in events(follower, "Staked") if e["account"] == wallet.account().address] == []
    assert differences(small, follower) == []


def test_follow__final_block_replaced__stops_until_somebody_rewinds(small: Network, follower: Follower, wallet: Wallet) -> None:
    stake(small, wallet, 8)
    rpc(small, "anvil_mine", [hex(70)])
    catch_up(follower)
    before = follower.cursor
    rpc(small, "anvil_reorg", [74, []])
    rpc(small, "anvil_mine", [hex(3)])
    with pytest.raises(FinalityBroken, match="rewind"):
        catch_up(follower)
    assert before is not None
    (halted,) = follower.store.connection.execute("SELECT halted FROM indexer.cursor").fetchall()
    assert "was final" in halted["halted"]
    follower.store.rewind(before.number - 80)
    catch_up(follower)
    assert differences(small, follower) == []


class Forgetful(Nodes):
    """Stands for a node that leaves one log out, once: the first or the last of a range."""

    forgot = False
    which = 0

    def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        return self._forget(super().logs(addresses, first, last))

    def blocks(self, addresses: Sequence[str], hashes: Sequence[str], numbered: Sequence[str]) -> tuple[list[Log], list[int]]:
        logs, counters = super().blocks(addresses, hashes, numbered)
        return self._forget(logs), counters

    def _forget(self, logs: list[Log]) -> list[Log]:
        staked = "0x" + keccak(b"Staked(uint64,address,address,uint256,uint256)").hex()
        found = [log for log in logs if log.topics[0] == staked]
        if found and not self.forgot:
            self.forgot = True
            logs.remove(found[self.which])
        return logs


@pytest.mark.parametrize("which", [0, -1])
def test_follow__node_leaves_a_log_out__is_noticed_and_fetched_again(small: Network, follower: Follower, wallet: Wallet, which: int) -> None:
    stake(small, wallet, 3)
    stake(small, wallet, 4)
    follower.source = node = Forgetful([small.rpc_url])
    node.which = which
    with pytest.raises(MissingLogs, match="asking again"):
        catch_up(follower)
    catch_up(follower)
    assert (follower.counts.missing, follower.counts.healed) == (1, 1)
    assert differences(small, follower) == []


class Ahead(Nodes):
    """Stands for anvil while it makes a block: questions about the newest one are answered from the next one's state, in so many batches."""

    batches = 0

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        if calls and calls[0][0] == "eth_call" and self.batches > 0:
            self.batches -= 1
            calls = [(method, [params[0], "latest"], kind) for method, params, kind in calls]
        return super().ask(calls)


@pytest.mark.parametrize(("batches", "found"), [(1, False), (1_000, True)])
def test_audit__node_tells_of_the_next_block__is_asked_again(small: Network, follower: Follower, wallet: Wallet, batches: int, found: bool) -> None:
    catch_up(follower)
    stake(small, wallet, 3)
    node = Ahead([small.rpc_url])
    node.batches = batches
    assert bool(differences(small, follower, node)) == found


def test_follow__first_node_is_away__the_next_is_asked(small: Network, follower: Follower) -> None:
    follower.source = Nodes([f"http://127.0.0.1:{free_ports(1)[0]}", small.rpc_url])
    catch_up(follower)
    assert differences(small, follower) == []


def test_follow__database_killed__goes_on_where_it_was(small: Network, follower: Follower, wallet: Wallet) -> None:
    catch_up(follower)
    stake(small, wallet, 6)
    small.kill_database()
    with pytest.raises(psycopg.Error):
        follower.step()
    assert "database" in small.heal()
    stake(small, wallet, 7)
    catch_up(follower)
    assert differences(small, follower) == []


class Indexer:
    """An indexer as a process of its own."""

    def __init__(self, small: Network, url: str) -> None:
        self.port = free_ports(1)[0]
        websocket = small.rpc_url.replace("http", "ws", 1)
        environment = os.environ | small._environment(database_url=url, port=self.port, websocket_url=websocket, poll_seconds=0.1)
        self.process = subprocess.Popen([sys.executable, "-m", "indexer.app"], env=environment)

    def status(self) -> dict[str, Any]:
        try:
            return dict(requests.get(f"http://127.0.0.1:{self.port}/v1/status", timeout=5).json())
        except requests.RequestException:
            return {"leading": None, "block": None, "fault": "away"}


def until(what: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_indexers__two_at_once__one_writes_and_the_other_takes_over(small: Network, wallet: Wallet) -> None:
    url = fresh_database(small, "two_indexers")
    pair = [Indexer(small, url), Indexer(small, url)]
    try:
        until(lambda: all(one.status()["fault"] is None for one in pair))
        assert sorted(bool(one.status()["leading"]) for one in pair) == [False, True]
        leader, standby = sorted(pair, key=lambda one: not one.status()["leading"])
        leader.process.kill()
        leader.process.wait()
        stake(small, wallet, 9)
        head = small.chain.head()
        until(lambda: standby.status()["leading"] and standby.status()["block"]["number"] >= head)
    finally:
        for one in pair:
            one.process.kill()
            one.process.wait()
    follower = make_follower(indexer_settings(small, url))
    catch_up(follower)
    assert differences(small, follower) == []
    follower.store.close()


def header(number: int, hash_: str = "0x01") -> Header:
    return Header(number, hash_, "0x00", 0)


@pytest.mark.parametrize(
    ("head", "case"),
    [
        (header(7, "0xaa"), Case.DUPLICATE),
        (header(7), Case.BEHIND),
        (header(3), Case.BEHIND),
        (header(8), Case.NEXT),
        (header(9), Case.GAP),
        (header(900), Case.GAP),
    ],
)
def test_classify__head_at_block_seven(head: Header, case: Case) -> None:
    assert classify(Cursor(7, "0xaa", 3, 2, 7), head) is case


def event(contract: str, sequence: int | None) -> Event:
    return Event(1, "0x", 0, 0, "0x", contract, "E", sequence, {})


@pytest.mark.parametrize(
    ("sequences", "counter", "gap"),
    [
        ([3, 4, 5], 5, None),
        ([3, 4, 5], None, None),
        ([], 2, None),
        ([4], 4, "A goes from event 2 to 4"),
        ([3, 5], 5, "A goes from event 3 to 5"),
        ([2], 2, "A goes from event 2 to 2"),
        ([3], 4, "A has 4 events, 3 were given"),
        ([], 3, "A has 3 events, 2 were given"),
        ([3], 2, "A has 2 events, 3 were given"),
    ],
)
def test_require_complete__numbers_after_two(sequences: list[int], counter: int | None, gap: str | None) -> None:
    given = [event("A", n) for n in sequences] + [event("B", 9), event("A", None)]
    with pytest.raises(MissingLogs, match=gap) if gap else contextlib.nullcontext():
        require_complete({"A": 2, "B": 8}, given, None if counter is None else {"A": counter})
