"""A verifier that distrusts providers looks at more of their work than its duties ask for, and finds nothing to accuse them of."""

from collections.abc import Iterator

import openai
import psycopg
import pytest

from funcnet.network import Network
from protocol.wire import VOLUNTARY
from tests.network.test_api import ask
from verifier.drift import ALARM


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

    assert set(network.wait(volunteered, 120, "a voluntary check")) == {"PASS"}
    shown = next(entry for entry in network.indexed("/v1/verifiers")["data"] if entry["verifier"] == verifier)
    assert shown["accusations"] == 0
