"""The read API over a real database: pages, as-of, filters, CSV, ETags, epochs and proofs, the stream, and questions that cannot be answered."""

import csv
import io
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import uvicorn
from eth_hash.auto import keccak

from funcnet.network import Network
from funcnet.processes import free_ports
from indexer.app import create_app
from indexer.decode import Decoder
from indexer.epochs import NO_ROWS, Seals, next_word
from indexer.follow import Follower
from indexer.metrics import METRICS
from indexer.store import Store
from protocol.trees import verify_batch_proof
from tests.indexer.following import fresh_database, indexer_settings
from tests.indexer.simulated import ACCOUNTS, CONSTANTS, DEPLOYMENT, SimulatedChain, SimulatedNode

FINALITY = 12
BLOCKS = 120


class Api:
    """The indexer's API in a thread, over tables that hold a simulated chain; its own follower cannot write, as the lock is taken."""

    def __init__(self, url: str, chain: SimulatedChain, store: Store, port: int) -> None:
        self.url, self.chain, self.store = f"http://127.0.0.1:{port}", chain, store
        self.database = url

    def get(self, path: str, status: int = 200, **options: Any) -> Any:
        answer = requests.get(self.url + path, timeout=10, **options)
        assert answer.status_code == status, answer.text
        return answer

    def json(self, path: str, status: int = 200) -> Any:
        return self.get(path, status).json()

    def all(self, path: str) -> list[dict[str, Any]]:
        """Every row, page by page."""
        rows, after = [], ""
        while True:
            page = self.json(f"{path}{'&' if '?' in path else '?'}after={after}")
            rows += page["data"]
            if page["next"] is None:
                return rows
            after = page["next"]


@pytest.fixture(scope="module")
def api(small: Network) -> Iterator[Api]:
    url = fresh_database(small, "routes")
    chain = SimulatedChain(FINALITY)
    for n in range(BLOCKS):
        chain.mine([n, n + 1, 3 * n + 2] if n % 3 else [])
    follower = Follower(SimulatedNode(chain), Store(url), Decoder(DEPLOYMENT), lambda: CONSTANTS, DEPLOYMENT.from_block)
    while follower.step():
        pass
    assert follower.cursor is not None
    Seals(CONSTANTS).seal(follower.store.connection, follower.cursor.finalized)
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(create_app(indexer_settings(small, url, poll_seconds=0.05)), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    served = Api(url, chain, follower.store, port)
    while not server.started:
        time.sleep(0.02)
    deadline = time.monotonic() + 10
    while requests.get(f"{served.url}/readyz", timeout=5).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield served
    server.should_exit = True
    thread.join(10)
    follower.store.close()


def test_facts__page_by_page__are_all_there_once_in_order(api: Api) -> None:
    for kind in ("balance", "epoch_reward", "reward", "batch", "slash"):
        whole = api.json(f"/v1/facts/{kind}?limit=1000")
        paged = api.all(f"/v1/facts/{kind}?limit=2")
        assert paged == whole["data"]
        assert len(paged) > 2
        assert [row["key"] for row in paged] == sorted({row["key"] for row in paged})


def test_facts__as_of_a_block__are_those_of_that_block(api: Api) -> None:
    for at in (3, 40, BLOCKS - FINALITY):
        told = api.json(f"/v1/facts/deposit?at={at}&limit=1000")
        for row in told["data"]:
            assert row["block_number"] <= at
            history = api.json(f"/v1/history/deposit/{row['key']}?limit=1000")["data"]
            assert next(version for version in history if version["block_number"] <= at)["paidIn"] == row["paidIn"]
    assert api.json("/v1/facts/deposit?at=finalized") == api.json(f"/v1/facts/deposit?at={BLOCKS - FINALITY}")


def test_rows__carry_their_origin_and_finality(api: Api) -> None:
    rows = api.all("/v1/events?limit=100")
    assert [(-r["block_number"], -r["log_index"]) for r in rows] == sorted((-r["block_number"], -r["log_index"]) for r in rows)
    assert {row["finality"] for row in rows} == {"latest", "finalized"}
    assert all((row["finality"] == "finalized") == (row["block_number"] <= BLOCKS - FINALITY) for row in rows)
    logs = {log.transaction_hash for block in api.chain.blocks for log in block.logs}
    assert {row["tx_hash"] for row in rows} == logs
    assert {row["tx_hash"] for row in api.all("/v1/facts/reward")} <= logs


def test_filters__by_member__leave_the_others_out(api: Api) -> None:
    account = api.json("/v1/facts/stake")["data"][0]["account"]
    staked = api.all(f"/v1/events?name=Staked&account={account}&limit=3")
    assert staked
    assert all(row["name"] == "Staked" and row["args"]["account"] == account for row in staked)
    everything = api.all("/v1/events?name=Staked")
    assert len(staked) == sum(row["args"]["account"] == account for row in everything)
    rewards = api.all(f"/v1/rewards?account={account}")
    assert {row["account"] for row in rewards} == {account}
    assert rewards == [row for row in api.all("/v1/rewards") if row["account"] == account]
    assert api.json("/v1/rewards?kind=verifier")["data"] == [row for row in api.all("/v1/rewards") if row["kind"] == "verifier"]


def test_rewards__sum_what_the_events_paid(api: Api) -> None:
    paid: dict[str, int] = {}
    for row in api.all("/v1/events?name=VerifierPaid&limit=1000"):
        paid[row["args"]["verifier"]] = paid.get(row["args"]["verifier"], 0) + int(row["args"]["amount"])
    assert {row["account"]: int(row["amount"]) for row in api.all("/v1/rewards?kind=verifier")} == paid


def test_csv__holds_the_rows_of_the_page_and_names_the_next(api: Api) -> None:
    answer = api.get("/v1/facts/slash?format=csv&limit=2")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["key"] for row in rows] == [row["key"] for row in api.json("/v1/facts/slash?limit=2")["data"]]
    assert answer.headers["content-type"].startswith("text/csv")
    following = answer.links["next"]["url"].removeprefix(api.url)
    assert api.get(following).text != answer.text


def test_etag__of_what_the_client_has__is_not_sent_again(api: Api) -> None:
    first = api.get("/v1/facts/balance")
    tag = first.headers["etag"]
    again = api.get("/v1/facts/balance", 304, headers={"if-none-match": tag})
    assert again.content == b""
    assert api.get("/v1/facts/balance?limit=1", headers={"if-none-match": tag}).headers["etag"] != tag


def test_epochs__final_ones__chain_their_roots_to_a_word(api: Api) -> None:
    rows = api.all("/v1/epochs?limit=3")[::-1]
    assert [row["epoch"] for row in rows] == list(range(CONSTANTS.epoch(CONSTANTS.genesis + 7 * (BLOCKS - FINALITY))))
    word = NO_ROWS
    for row in rows:
        word = next_word(word, row["root"])
        assert row["word"] == word
        shown = api.json(f"/v1/epochs/{row['epoch']}")
        assert (shown["root"], shown["word"], shown["final"], len(shown["rows"])) == (row["root"], word, True, row["rows"])
    assert api.json(f"/v1/epochs/{rows[-1]['epoch'] + 2}")["final"] is False


def test_epochs__each_row__is_proven_against_the_root(api: Api) -> None:
    shown = api.json("/v1/epochs/2")
    assert len(shown["rows"]) > 2
    for row in shown["rows"]:
        proof = api.json(f"/v1/epochs/2/proof?fact={row['fact']}&key={row['key']}")
        hash_ = keccak(row["text"].encode())
        assert proof["hash"] == "0x" + hash_.hex()
        siblings = [bytes.fromhex(sibling[2:]) for sibling in proof["proof"]]
        assert verify_batch_proof(bytes.fromhex(shown["root"][2:]), hash_, siblings)
        other = keccak(row["text"].replace('"payments":', '"payments":1').encode())
        assert other == hash_ or not verify_batch_proof(bytes.fromhex(shown["root"][2:]), other, siblings)


def test_listings__of_what_the_simulation_lacks__are_empty_pages(api: Api) -> None:
    for listing in ("providers", "disputes", "checks", "jobs", "usage"):
        assert api.json(f"/v1/{listing}")["data"] == []
    assert all(row["tx_hash"].startswith("0x") for row in api.json("/v1/verifiers")["data"])
    assert api.json("/v1/providers?at=finalized")["block"] == BLOCKS - FINALITY


def test_stream__tells_the_head(api: Api) -> None:
    with requests.get(f"{api.url}/v1/stream", stream=True, timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = next(line for line in answer.iter_lines() if line.startswith(b"data:"))
    assert json.loads(told.removeprefix(b"data:"))["number"] == BLOCKS


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/facts/nonsense", 404, "known: network"),
        ("/v1/providers?at=soon", 400, "'soon' is no number"),
        ("/v1/providers?at=99999", 404, f"the newest is {BLOCKS}"),
        ("/v1/events?after=12", 400, "as in 1234-5"),
        ("/v1/events?after=a-b", 400, "'a' is no number"),
        ("/v1/usage?by=weather", 400, "cannot sum by weather; known: payer"),
        ("/v1/usage?by=payer,gateway&after=x", 400, "take it from the former answer"),
        ("/v1/history/stake/0x01", 404, "there is no stake 0x01"),
        ("/v1/epochs/2/proof?fact=epoch_reward&key=x", 404, "see /v1/epochs/2"),
        ("/v1/providers?provider=me", 422, "provider"),
        ("/v1/rewards?limit=0", 422, "limit"),
        ("/v1/jobs/0x00", 404, "no receipts of job 0x00"),
        ("/v1/jobs?after=yesterday%27", 400, "take it from the former answer"),
        ("/v1/facts/stake?account=%00", 400, "NUL"),
    ],
)
def test_question__that_cannot_be_answered__is_told_why(api: Api, path: str, status: int, words: str) -> None:
    assert words in json.dumps(api.json(path, status))


def test_metrics__are_those_that_are_listed(api: Api) -> None:
    text = api.get("/metrics").text
    assert {line.split()[0] for line in text.splitlines() if not line.startswith("#")} == set(METRICS)
    assert f"funcnet_indexer_block {BLOCKS}.0" in text


def test_halted__no_figure_is_told_until_somebody_has_looked(api: Api) -> None:
    cursor = api.store.cursor()
    assert cursor is not None
    api.store.halt(cursor, "block 5 was final and is another")
    try:
        assert "was final" in api.json("/v1/rewards", 503)["detail"]
        deadline = time.monotonic() + 5
        while requests.get(f"{api.url}/readyz", timeout=5).status_code != 503:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "was final" in api.json("/readyz", 503)["reason"]
        assert api.json("/v1/status")["halted"]
    finally:
        api.store.rewind(BLOCKS)
    assert api.json("/v1/rewards")["data"]


def test_accounts__of_the_simulation__are_shown_with_checksum(api: Api) -> None:
    assert {account.lower() for account in api.json("/v1/holders")["data"]} == set(ACCOUNTS)
