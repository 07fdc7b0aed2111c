"""Followers of the small chain, each with a database of its own, and what makes events there."""

from typing import Any

import psycopg
import requests

from funcnet.actors import Wallet, give_func, give_gas
from funcnet.network import Network
from indexer.app import make_follower, read_constants
from indexer.audit import Audit, Difference, compare, tables_of
from indexer.decode import Decoder
from indexer.follow import Follower
from indexer.node import Nodes
from protocol.database import migrate, open_pool
from protocol.settings import IndexerSettings
from protocol.units import FUNC


def fresh_database(small: Network, name: str) -> str:
    """A database of that name with the indexer's tables, empty."""
    with psycopg.connect(small.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = small.database_for(name)
    migrate(url, "indexer")
    return url


def indexer_settings(small: Network, url: str, **more: Any) -> IndexerSettings:
    return IndexerSettings.load(rpc_url=small.rpc_url, deployment=small.deployment_file, database_url=url, **more)


def follower_of(small: Network, name: str) -> Follower:
    """One that has read nothing yet."""
    return make_follower(indexer_settings(small, fresh_database(small, name)))


def catch_up(follower: Follower) -> None:
    while follower.step():
        pass


def stake(small: Network, wallet: Wallet, whole: int) -> None:
    """Four transactions, with events of FuncToken and Staking."""
    account = wallet.account()
    give_gas(small.chain, account.address)
    give_func(small.chain, small.wallet("treasury").account(), account.address, whole)
    small.chain.send(account, "FuncToken", "approve", small.chain.address("Staking"), whole * FUNC)
    small.chain.send(account, "Staking", "stake", account.address, whole * FUNC)


def rpc(small: Network, method: str, params: list[Any]) -> Any:
    answer = requests.post(small.rpc_url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, timeout=20).json()
    assert "error" not in answer, answer
    return answer["result"]


def differences(small: Network, follower: Follower, node: Nodes | None = None) -> list[Difference]:
    """Between the tables and a clean replay, and between the facts and the contracts' views, where the tables stand. ``node``: to be asked."""
    chain, cursor = small.chain, follower.store.cursor()
    assert cursor is not None
    audit = Audit(node or Nodes([small.rpc_url]), Decoder(chain.deployment), read_constants(chain), chain.deployment.from_block)
    pool = open_pool(follower.store.url)
    try:
        tables = tables_of(pool)
    finally:
        pool.close()
    return [*compare(tables, audit.replay(cursor.number)), *audit.against_views(tables.at(cursor.number), cursor.number)]
