"""The indexer's verbs for its operator, each a process of its own: ``python -m indexer.admin audit|rewind|compare``."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import psycopg
import urllib3

from indexer import IndexerError
from indexer.app import read_constants
from indexer.audit import SHOWN, Audit, Difference, against_transfers, compare, tables_of
from indexer.decode import Decoder
from indexer.node import Nodes
from indexer.store import Store, read_cursor
from protocol import ProtocolError
from protocol.database import open_pool
from protocol.settings import IndexerSettings


def audit(settings: IndexerSettings, every_block: int) -> dict[str, Any]:
    """Read all from the chain again and compare it with the tables; then the facts with the contracts' views, at the newest block and at each of the
    ``every_block`` blocks before it."""
    chain = settings.chain()
    pool = open_pool(settings.database_url.get_secret_value())
    try:
        with pool.connection() as connection:
            cursor = read_cursor(connection)
        if cursor is None:
            raise IndexerError("nothing is indexed yet; start the indexer first")
        tables = tables_of(pool).up_to(cursor.number)
    finally:
        pool.close()
    auditor = Audit(Nodes([settings.rpc_url]), Decoder(chain.deployment), read_constants(chain), chain.deployment.from_block)
    replay = auditor.replay(cursor.number)
    found = [*compare(tables, replay), *against_transfers(tables, chain.deployment.addresses)]
    first = max(chain.deployment.from_block, cursor.number - every_block)
    for block in range(first, cursor.number + 1):
        found += auditor.against_views(tables.at(block), block)
    return {
        "block": cursor.number,
        "finalized": cursor.finalized,
        "events": len(tables.events),
        "facts": len(tables.versions),
        "blocks_viewed": cursor.number - first + 1,
        "count": len(found),
        "differences": [told(difference) for difference in found[:SHOWN]],
    }


def told(difference: Difference) -> dict[str, str]:
    return {"what": difference.what, "tables": repr(difference.tables), "chain": repr(difference.chain)}


def rewind(settings: IndexerSettings, to: int) -> dict[str, Any]:
    """Undo all above a block; the running indexer reads it anew. Ends a halt."""
    store = Store(settings.database_url.get_secret_value())
    try:
        before = store.cursor()
        after = store.rewind(to)
    finally:
        store.close()
    return {"from": before and before.number, "to": after.number, "was_halted": before and before.halted}


def compare_words(urls: Sequence[str]) -> dict[str, Any]:
    """The newest final epoch that all of several indexers have, and whether its word is the same with all."""
    http = urllib3.PoolManager(timeout=10, retries=False)
    words: list[dict[int, str]] = []
    for url in urls:
        try:
            answer = http.request("GET", f"{url}/v1/epochs?limit=1000")
        except urllib3.exceptions.HTTPError as error:
            raise IndexerError(f"{url} does not answer: {error}") from error
        if answer.status != 200:
            raise IndexerError(f"{url} answered with status {answer.status}: {answer.data.decode(errors='replace')[:200]}")
        words.append({row["epoch"]: row["word"] for row in answer.json()["data"]})
    shared = set.intersection(*(set(found) for found in words))
    if not shared:
        raise IndexerError("there is no epoch that is final with all of them")
    epoch = max(shared)
    return {
        "epoch": epoch,
        "same": len({found[epoch] for found in words}) == 1,
        "words": {url: found[epoch] for url, found in zip(urls, words, strict=True)},
    }


def main() -> None:
    """Print one line of JSON; status 1 where the answer is bad news, 2 with a line on standard error where there is none."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("audit").add_argument("--blocks", type=int, default=0)
    verbs.add_parser("rewind").add_argument("--to", type=int, required=True)
    verbs.add_parser("compare").add_argument("urls", nargs="+")
    given = parser.parse_args()
    try:
        if given.verb == "compare":
            answer = compare_words(given.urls)
            bad = not answer["same"]
        else:
            settings = IndexerSettings.load()
            answer = audit(settings, given.blocks) if given.verb == "audit" else rewind(settings, given.to)
            bad = bool(answer.get("count"))
    except (IndexerError, ProtocolError, psycopg.Error) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(json.dumps(answer))
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
