"""Following a real chain: through a reorg, through missing logs, to tables that equal a clean replay."""

from typing import Any

import psycopg
import pytest
import requests
from eth_abi import encode as abi_encode
from eth_hash.auto import keccak

from funcnet.actors import Wallet, give_func, give_gas
from funcnet.network import Network
from indexer import MissingLogs
from indexer.decode import Decoder, Event
from indexer.follow import Follower, find_gap
from protocol.database import migrate, open_pool
from protocol.units import FUNC


@pytest.fixture
def follower(small: Network, request: pytest.FixtureRequest) -> Any:
    return make_follower(small, "follow")


def make_follower(small: Network, name: str, kind: type[Follower] = Follower) -> Any:
    with psycopg.connect(small.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = small.database_for(name)
    migrate(url, "indexer")
    return kind(small.chain, open_pool(url), Decoder(small.chain.deployment))


def catch_up(follower: Follower) -> None:
    while follower.step():
        pass


def tables(follower: Follower) -> list[tuple[Any, ...]]:
    with follower.pool.connection() as connection:
        rows = connection.execute("SELECT block_number, log_index, contract, name, sequence, args FROM indexer.event ORDER BY 1, 2").fetchall()
    return [tuple(row.values()) for row in rows]


def stake(small: Network, wallet: Wallet, whole: int) -> None:
    account = wallet.account()
    give_gas(small.chain, account.address)
    give_func(small.chain, small.wallet("treasury").account(), account.address, whole)
    small.chain.send(account, "FuncToken", "approve", small.chain.address("Staking"), whole * FUNC)
    small.chain.send(account, "Staking", "stake", account.address, whole * FUNC)


def rpc(small: Network, method: str, params: list[Any]) -> Any:
    answer = requests.post(small.rpc_url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, timeout=20).json()
    assert "error" not in answer, answer
    return answer["result"]


def test_follow__new_events__are_decoded_with_totals_as_text(small: Network, follower: Follower, wallet: Wallet) -> None:
    stake(small, wallet, 5)
    catch_up(follower)
    staked = [row for row in tables(follower) if row[3] == "Staked" and row[5]["account"] == wallet.account().address]
    assert staked[-1][5]["amount"] == str(5 * FUNC)
    assert follower.complete() == {}


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
    (found,) = [row[5] for row in tables(follower) if row[3] == "ProviderRegistered" and row[5]["provider"] == account.address]
    assert found["endpoint"] == endpoint.decode(errors="replace").replace("\0", "\ufffd")
    assert follower.complete() == {}


def test_follow__reorg__leaves_the_tables_of_a_clean_replay(small: Network, follower: Follower, wallet: Wallet) -> None:
    stake(small, wallet, 7)
    catch_up(follower)
    before = tables(follower)
    # The last blocks are replaced by empty ones: the stake in them never happened.
    rpc(small, "anvil_reorg", [6, []])
    catch_up(follower)
    replayed = make_follower(small, "replayed")
    catch_up(replayed)
    assert tables(follower) == tables(replayed)
    assert tables(follower) != before
    assert follower.complete() == {}


class Forgetful(Follower):
    """Stands for a node that leaves one log out, once: the first or the last of a range."""

    forgot = False
    which = 0

    def _fetch(self, start: int, end: int) -> list[Event]:
        events = super()._fetch(start, end)
        sequenced = [event for event in events if event.sequence is not None]
        if sequenced and not self.forgot:
            self.forgot = True
            events.remove(sequenced[self.which])
        return events


@pytest.mark.parametrize("which", [0, -1])
def test_follow__node_leaves_a_log_out__is_noticed_and_fetched_again(small: Network, wallet: Wallet, which: int) -> None:
    stake(small, wallet, 3)
    stake(small, wallet, 4)
    follower = make_follower(small, "forgetful", Forgetful)
    follower.which = which
    with pytest.raises(MissingLogs, match="asking again"):
        catch_up(follower)
    catch_up(follower)
    assert follower.complete() == {}
    replayed = make_follower(small, "replayed")
    catch_up(replayed)
    assert tables(follower) == tables(replayed)


def event(contract: str, sequence: int | None) -> Event:
    return Event(1, "0x", 0, "0x", contract, "E", sequence, {})


@pytest.mark.parametrize(
    ("sequences", "gap"),
    [([3, 4, 5], None), ([], None), ([4], "A goes from event 2 to 4"), ([3, 5], "A goes from event 3 to 5"), ([2], "A goes from event 2 to 2")],
)
def test_find_gap__sequences_after_two(sequences: list[int], gap: str | None) -> None:
    events = [event("A", n) for n in sequences] + [event("B", 9), event("A", None)]
    assert find_gap("A", 2, events) == gap
