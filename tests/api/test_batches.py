"""Bulk work: what a file may hold, and lines that gateways take, leave behind and end, on a real database."""

import json
from typing import Any

import pytest

from api import NoSuchModel
from api.batches import LEFT_BEHIND, TAKE, Batches, BatchRequest, Line, read_lines
from api.files import Files
from api.keys import ApiKey, KeyStore
from api.peers import DEAD_SECONDS, Peers
from protocol.database import AsyncPool
from tests.api.test_money import PAYER, PEPPER, make_key, pool  # noqa: F401

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "?"}]}


def line(name: str = "a", **change: Any) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": BODY, **change}


def file(*lines: dict[str, Any]) -> bytes:
    return "\n".join(map(json.dumps, lines)).encode()


def test_lines__good_ones__are_read_with_blank_ones_left_out() -> None:
    lines, faults = read_lines(file(line("a"), line("b")) + b"\n\n", CHAT)
    assert ([one.custom_id for one in lines], faults) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (line("a"), "earlier line"),
        (line("b", url="/v1/completions"), "the batch is for"),
        (line("b", method="GET"), "method"),
        (line(""), "custom_id"),
        (line("b", body={**BODY, "stream": True}), "stream"),
        (line("b", body={**BODY, "n": 2}), "'n' is 1"),
        (line("b", body={**BODY, "temperature": 9}), "temperature"),
        (line("b", body={**BODY, "functions": [1]}), "functions"),
        (line("b", body={"model": "m"}), "messages"),
        ({"custom_id": "b"}, "method"),
    ],
)
def test_lines__bad_one__is_named_by_its_number(bad: dict[str, Any], words: str) -> None:
    lines, faults = read_lines(file(line("a"), bad, line("c")), CHAT)
    assert [one.custom_id for one in lines] == ["a", "c"]
    ((number, message),) = [(fault["line"], fault["message"]) for fault in faults]
    assert number == 2
    assert words in message


@pytest.mark.parametrize("content", [b"\n", b"{", b"\xff", b"[]", b"[" * 10_000])
def test_lines__no_json_at_all__is_a_fault_and_no_error(content: bytes) -> None:
    assert read_lines(content, CHAT)[1]


@pytest.fixture
async def batches(pool: AsyncPool) -> Batches:  # noqa: F811
    return Batches(pool, Files(pool), KeyStore(pool, PEPPER), None, Peers(pool))  # type: ignore[arg-type]


async def begun(batches: Batches, key: ApiKey, count: int) -> str:
    lines = [Line(**line(str(i))) for i in range(count)]
    return str((await batches.begin(key, BatchRequest(input_file_id="f", endpoint=CHAT), lines, []))["id"])


async def take(pool: AsyncPool, gateway: str) -> dict[str, Any] | None:  # noqa: F811
    async with pool.connection() as connection:
        return await (await connection.execute(TAKE.encode(), (gateway,))).fetchone()


async def answer(pool: AsyncPool, row: dict[str, Any], status: int) -> None:  # noqa: F811
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE api.batch_line SET state = 'done', status = %s, answer = '{}' WHERE batch_id = %s AND line = %s",
            (status, row["batch_id"], row["line"]),
        )


async def contents(batches: Batches, file_id: str) -> list[dict[str, Any]]:
    row = await batches.files.one(file_id, PAYER)
    return [json.loads(text) for text in bytes(row["content"]).splitlines()]


async def test_batch__all_lines_answered__ends_with_a_file_for_each_kind(pool: AsyncPool, batches: Batches) -> None:  # noqa: F811
    name = await begun(batches, await make_key(pool, None), 3)
    for status in (200, 402, 200):
        row = await take(pool, "g")
        assert row is not None
        await batches.end_batches()
        assert (await batches.one(name, PAYER))["status"] == "in_progress"
        await answer(pool, row, status)
    assert await take(pool, "g") is None
    await batches.end_batches()
    told = await batches.one(name, PAYER)
    assert (told["status"], told["request_counts"]) == ("completed", {"total": 3, "completed": 2, "failed": 1})
    assert [one["custom_id"] for one in await contents(batches, told["output_file_id"])] == ["0", "2"]
    assert [one["response"]["status_code"] for one in await contents(batches, told["error_file_id"])] == [402]
    with pytest.raises(NoSuchModel):
        await batches.one(name, "0x" + "cd" * 20)


async def test_line__of_a_gateway_that_died__waits_again_and_of_one_that_lives_does_not(pool: AsyncPool, batches: Batches) -> None:  # noqa: F811
    name = await begun(batches, await make_key(pool, None), 2)
    await batches.peers.beat()
    assert await take(pool, batches.peers.id)
    assert await take(pool, "dead")
    async with pool.connection() as connection:
        await connection.execute(LEFT_BEHIND.encode(), (DEAD_SECONDS,))
    row = await take(pool, "third")
    assert row is not None
    assert (row["line"], row["tries"], row["batch_id"]) == (2, 2, name)
    assert await take(pool, "third") is None


async def test_batch__cancelled_or_too_late__keeps_what_was_answered(pool: AsyncPool, batches: Batches) -> None:  # noqa: F811
    key = await make_key(pool, None)
    for column, value, status in (("status", "cancelling", "cancelled"), ("expires_at", "2020-01-01", "expired")):
        name = await begun(batches, key, 2)
        row = await take(pool, "g")
        assert row is not None
        async with pool.connection() as connection:
            await connection.execute(f"UPDATE api.batch SET {column} = %s WHERE id = %s".encode(), (value, name))
        await batches.end_batches()  # a line runs still
        assert (await batches.one(name, PAYER))["status"] in ("cancelling", "in_progress")
        await answer(pool, row, 200)
        await batches.end_batches()
        told = await batches.one(name, PAYER)
        assert told["status"] == status
        assert len(await contents(batches, told["output_file_id"])) == 1
        assert (await contents(batches, told["error_file_id"]))[0]["error"]["code"] == "batch_ended"
        assert told[f"{status}_at"] >= told["created_at"]
