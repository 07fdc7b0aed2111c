"""What a verifier keeps of its checks: each counted once, also when its worker is killed, and distrust only ever a reason to look."""

import time
from collections.abc import Iterator

import openai
import psycopg
import pytest

from funcnet.network import Network
from protocol.wire import DUTY, VOLUNTARY
from tests.network.asking import ask
from verifier.drift import ALARM

pytestmark = pytest.mark.slow


@pytest.fixture
def distrusting(network: Network) -> Iterator[tuple[psycopg.Connection, str]]:
    """The first verifier's rows, as if every stage had drifted in check after check."""
    verifier = network.address("verifier-1")
    with psycopg.connect(network.database_url, autocommit=True) as connection:
        for plan in network.plans:
            row = (verifier, network.address(plan.name), f"{plan.layers}/float32", 100 * ALARM, 100)
            connection.execute("DELETE FROM verifier.drift WHERE verifier = %s AND provider = %s", row[:2])
            connection.execute("INSERT INTO verifier.drift VALUES (%s, %s, %s, %s, %s)", row)
        yield connection, verifier
        connection.execute("DELETE FROM verifier.drift WHERE verifier = %s", (verifier,))


def test_distrust__of_honest_providers__adds_checks_that_pass(network: Network, distrusting: tuple[psycopg.Connection, str]) -> None:
    connection, verifier = distrusting
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)

    def volunteered() -> list[str]:
        ask(client, max_tokens=2)
        rows = connection.execute(
            "SELECT verdict FROM verifier.check WHERE verifier = %s AND dispute_id = %s AND verdict IS NOT NULL", (verifier, VOLUNTARY)
        )
        return [row[0] for row in rows]

    assert set(network.wait(volunteered, 240, "a voluntary check")) == {"PASS"}
    shown = next(entry for entry in network.indexed("/v1/verifiers")["data"] if entry["verifier"] == verifier)
    assert shown["accusations"] == 0


def test_worker__killed_in_mid_check__every_check_ends_once(network: Network) -> None:
    verifier = network.address("verifier-3")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    with psycopg.connect(network.database_url, autocommit=True) as connection:

        def count(condition: str) -> int:
            sql = f"SELECT count(*) FROM verifier.check WHERE verifier = %s AND dispute_id < 0 AND {condition}"
            return int((connection.execute(sql.encode(), (verifier,)).fetchone() or (0,))[0])

        def has_replayed_and_not_judged() -> bool:
            ask(client, max_tokens=40)
            end = time.monotonic() + 15
            while time.monotonic() < end:
                if count("commitment IS NOT NULL AND verdict IS NULL"):
                    return True
                time.sleep(0.002)
            return False

        network.wait(has_replayed_and_not_judged, 180, "a check between its commitment and its verdict")
        network.supervisor.kill("verifier-3-worker")
        done = count("verdict IS NOT NULL")
        network.supervisor.revive("verifier-3-worker")
        network.wait(lambda: count("verdict IS NOT NULL") > done and count("verdict IS NULL") == 0, 150, "the end of what the dead worker had begun")
        summed = connection.execute("SELECT COALESCE(sum(checks), 0) FROM verifier.drift WHERE verifier = %s", (verifier,)).fetchone()
        # Those that a gateway ordered, as other tests have it do, are for its answer alone.
        assert summed == (count(f"detail ? 'score' AND dispute_id IN ({DUTY}, {VOLUNTARY})"),)
        assert count("verdict <> 'PASS'") == 0
