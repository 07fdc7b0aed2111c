"""Bulk work: a file of requests, answered within a day at the providers' share for work that may wait.

Lines are answered one by one, at any gateway on this database, a few at once. A line whose gateway dies is answered anew: what it had cost by then is
charged, as for any answer that broke off.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Query, Request
from psycopg import Error as DatabaseError
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api import ApiError, BadRequest, NoRoute, NoSuchModel, schema
from api.completions import Completions
from api.files import KEPT, Files
from api.keys import ApiKey, KeyStore
from api.peers import DEAD_SECONDS, Peers
from protocol import ProtocolError
from protocol.database import AsyncPool, Row, transaction

log = structlog.get_logger()

WINDOW = timedelta(hours=24)
MOST_LINES = 5_000
AT_ONCE = 4
"""Lines that a gateway answers at once."""
MOST_TRIES, AGAIN_SECONDS, PAUSE_SECONDS = 5, 20, 1.0
MOST_ERRORS = 50
ENDED = ("completed", "cancelled", "expired", "failed")
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses"]
ENDPOINTS: dict[str, type[schema.SamplingRequest]] = {
    "/v1/chat/completions": schema.ChatRequest,
    "/v1/completions": schema.TextRequest,
    "/v1/responses": schema.ResponsesRequest,
}
SHOWN = """
SELECT b.*, count(l.line) AS total, count(*) FILTER (WHERE l.state = 'done' AND l.status = 200) AS completed,
       count(*) FILTER (WHERE l.state = 'done' AND l.status <> 200) AS failed
FROM api.batch b LEFT JOIN api.batch_line l ON l.batch_id = b.id
"""
TAKE = """
UPDATE api.batch_line t SET state = 'running', gateway = %s, tries = t.tries + 1
FROM (
    SELECT l.batch_id, l.line, b.key_id, b.endpoint FROM api.batch_line l JOIN api.batch b ON b.id = l.batch_id
    WHERE l.state = 'waiting' AND l.not_before <= now() AND b.status = 'in_progress' ORDER BY b.created_at, l.line LIMIT 1 FOR UPDATE OF l SKIP LOCKED
) next
WHERE t.batch_id = next.batch_id AND t.line = next.line RETURNING t.batch_id, t.line, t.body, t.tries, next.key_id, next.endpoint
"""
LEFT_BEHIND = """
UPDATE api.batch_line l SET state = 'waiting' WHERE state = 'running' AND NOT EXISTS (
    SELECT 1 FROM api.gateway g WHERE g.id = l.gateway AND g.seen_at > now() - make_interval(secs => %s))
"""


class BatchRequest(BaseModel):
    """``POST /v1/batches``."""

    model_config = ConfigDict(extra="ignore")
    input_file_id: str
    endpoint: Endpoint
    completion_window: Literal["24h"] = "24h"
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None


class Line(BaseModel):
    """One request of a file."""

    model_config = ConfigDict(extra="ignore")
    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


@dataclass
class Batches:
    """The routes, and the work behind them."""

    pool: AsyncPool
    files: Files
    keys: KeyStore
    completions: Completions
    peers: Peers

    def routes(self, caller: Callable[[Request], Awaitable[ApiKey]]) -> APIRouter:
        router = APIRouter()

        @router.post("/v1/batches")
        async def create(request: BatchRequest, key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
            """Begin with a file's requests. One that has faults fails as a whole, before anything is paid, and says which lines they are in."""
            row = await self.files.one(request.input_file_id, key.payer)
            lines, faults = await asyncio.to_thread(read_lines, bytes(row["content"]), request.endpoint)
            unknown = {name for name in {line.body["model"] for line in lines} if self._unknown(name, key)}
            faults += [_fault(None, f"model {name!r} is not listed for this key", "body.model") for name in sorted(unknown)]
            return await self.begin(key, request, lines if not faults else [], faults)

        @router.get("/v1/batches")
        async def listing(
            key: ApiKey = Depends(caller),  # noqa: B008
            limit: Annotated[int, Query(ge=1, le=100)] = 20,
            after: str = "",
        ) -> dict[str, Any]:
            query = (
                f"{SHOWN} WHERE b.payer = %(payer)s AND (%(after)s = '' OR (b.created_at, b.id) < (SELECT created_at, id FROM api.batch WHERE id = "
                "%(after)s)) GROUP BY b.id ORDER BY b.created_at DESC, b.id DESC LIMIT %(limit)s"
            )
            async with self.pool.connection() as connection:
                cursor = await connection.execute(query.encode(), {"payer": key.payer, "after": after, "limit": limit + 1})
                found = [_batch(row) for row in await cursor.fetchall()]
            ends = {"first_id": found[0]["id"] if found else None, "last_id": found[:limit][-1]["id"] if found else None}
            return {"object": "list", "data": found[:limit], **ends, "has_more": len(found) > limit}

        @router.get("/v1/batches/{batch_id}")
        async def one(batch_id: str, key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
            return await self.one(batch_id, key.payer)

        @router.post("/v1/batches/{batch_id}/cancel")
        async def cancel(batch_id: str, key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
            """No further line is begun; what was answered can be fetched."""
            await self.one(batch_id, key.payer)
            async with self.pool.connection() as connection:
                await connection.execute("UPDATE api.batch SET status = 'cancelling' WHERE id = %s AND status = 'in_progress'", (batch_id,))
            return await self.one(batch_id, key.payer)

        return router

    def _unknown(self, model: str, key: ApiKey) -> bool:
        try:
            self.completions.models.named(model, key.models)
        except NoSuchModel:
            return True
        return False

    async def begin(self, key: ApiKey, request: BatchRequest, lines: Sequence[Line], faults: list[dict[str, Any]]) -> dict[str, Any]:
        name, status = f"batch_{secrets.token_hex(12)}", "failed" if faults else "in_progress"
        async with transaction(self.pool) as connection:
            await connection.execute(
                "INSERT INTO api.batch (id, key_id, payer, endpoint, input_file_id, status, errors, metadata, expires_at, ended_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, CASE WHEN %s = 'failed' THEN now() END)",
                (
                    *(name, key.id, key.payer, request.endpoint, request.input_file_id, status),
                    *(Jsonb(faults[:MOST_ERRORS]), Jsonb(request.metadata), datetime.now(UTC) + WINDOW, status),
                ),
            )
            await connection.cursor().executemany(
                "INSERT INTO api.batch_line (batch_id, line, custom_id, body) VALUES (%s, %s, %s, %s)",
                [(name, i, line.custom_id, Jsonb(line.body)) for i, line in enumerate(lines, 1)],
            )
        return await self.one(name, key.payer)

    async def one(self, batch_id: str, payer: str) -> dict[str, Any]:
        """Raises NoSuchModel for one that is not the payer's."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(f"{SHOWN} WHERE b.id = %s AND b.payer = %s GROUP BY b.id".encode(), (batch_id, payer))
            row = await cursor.fetchone()
        if row is None:
            raise NoSuchModel(f"no batch {batch_id!r} of this payer", code="no_such_batch")
        return _batch(row)

    # the work

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._tend(), *(self._answer() for _ in range(AT_ONCE)))

    async def _tend(self) -> None:
        """What gateways left behind, and batches that are at their end."""
        while True:
            try:
                if self.peers.may_judge:
                    async with self.pool.connection() as connection:
                        await connection.execute(LEFT_BEHIND.encode(), (DEAD_SECONDS,))
                await self.end_batches()
            except DatabaseError as error:
                log.warning("batches wait for the database", reason=str(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _answer(self) -> None:
        while True:
            try:
                async with self.pool.connection() as connection:
                    row = await (await connection.execute(TAKE.encode(), (self.peers.id,))).fetchone()
                if row is not None:
                    await self._answer_line(row)
                    continue
            except DatabaseError as error:
                log.warning("batches wait for the database", reason=str(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _answer_line(self, row: Row) -> None:
        try:
            key = await self.keys.by_id(row["key_id"])
            answer, status = await self.completions.in_bulk(key, ENDPOINTS[row["endpoint"]](**row["body"])), 200
        except (ApiError, ProtocolError) as error:
            fault = error if isinstance(error, ApiError) else NoRoute.unavailable(error)
            answer, status = fault.body(), fault.status
            if isinstance(fault, NoRoute) and row["tries"] < MOST_TRIES:
                await self._again(row)
                return
        except asyncio.CancelledError:
            await asyncio.shield(self._again(row))
            raise
        except Exception as error:  # a line must not end the work on all others
            log.exception("a line of a batch failed", batch=row["batch_id"], line=row["line"])
            answer, status = ApiError(f"an error of the gateway's own: {type(error).__name__}", code="internal_error").body(), 500
        async with self.pool.connection() as connection:
            await connection.execute(
                "UPDATE api.batch_line SET state = 'done', status = %s, answer = %s WHERE batch_id = %s AND line = %s AND gateway = %s",
                (status, Jsonb(answer), row["batch_id"], row["line"], self.peers.id),
            )

    async def _again(self, row: Row) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(
                "UPDATE api.batch_line SET state = 'waiting', not_before = now() + make_interval(secs => %s) "
                "WHERE batch_id = %s AND line = %s AND gateway = %s",
                (AGAIN_SECONDS, row["batch_id"], row["line"], self.peers.id),
            )

    async def end_batches(self) -> None:
        """Write the files of batches that nothing more is done for."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT id FROM api.batch b WHERE (status = 'cancelling' OR status = 'in_progress' AND (expires_at < now() OR NOT EXISTS ("
                "SELECT 1 FROM api.batch_line l WHERE l.batch_id = b.id AND state = 'waiting'))) "
                "AND NOT EXISTS (SELECT 1 FROM api.batch_line l WHERE l.batch_id = b.id AND state = 'running')"
            )
            names = [row["id"] for row in await cursor.fetchall()]
        for name in names:
            await self._end(name)

    async def _end(self, batch_id: str) -> None:
        async with transaction(self.pool) as connection:
            cursor = await connection.execute(
                "SELECT * FROM api.batch WHERE id = %s AND status IN ('in_progress', 'cancelling') FOR UPDATE SKIP LOCKED", (batch_id,)
            )
            batch = await cursor.fetchone()
            if batch is None:
                return  # another gateway is at it
            cursor = await connection.execute("SELECT * FROM api.batch_line WHERE batch_id = %s ORDER BY line FOR UPDATE", (batch_id,))
            lines = await cursor.fetchall()
            if any(line["state"] == "running" for line in lines):
                return
            waiting = any(line["state"] == "waiting" for line in lines)
            status = "cancelled" if batch["status"] == "cancelling" else "expired" if waiting else "completed"
            outputs = {
                "output_file_id": [_told(batch_id, line) for line in lines if line["status"] == 200],
                "error_file_id": [_told(batch_id, line) for line in lines if line["status"] != 200],
            }
            for column, told in outputs.items():
                if told:
                    content = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in told).encode()
                    made = await self.files.keep(batch["payer"], f"{batch_id}_{column.partition('_')[0]}.jsonl", "batch_output", content)
                    await connection.execute(f"UPDATE api.batch SET {column} = %s WHERE id = %s".encode(), (made["id"], batch_id))
            await connection.execute("UPDATE api.batch SET status = %s, ended_at = now() WHERE id = %s", (status, batch_id))

    async def sweep(self) -> None:
        """Let go of what is old."""
        async with self.pool.connection() as connection:
            await connection.execute("DELETE FROM api.batch WHERE ended_at < now() - %s", (KEPT,))


def read_lines(content: bytes, endpoint: str) -> tuple[list[Line], list[dict[str, Any]]]:
    """A file's requests, and what is wrong with some; every line is looked at."""
    lines: list[Line] = []
    faults: list[dict[str, Any]] = []
    seen: set[str] = set()
    raw = [line for line in content.split(b"\n") if line.strip()]
    if not 0 < len(raw) <= MOST_LINES:
        return [], [_fault(None, f"the file holds {len(raw)} requests; 1 to {MOST_LINES} are taken", None)]
    for number, text in enumerate(raw, 1):
        try:
            line = Line.model_validate_json(text)
            if line.url != endpoint:
                raise BadRequest(f"'url' is {line.url!r}, the batch is for {endpoint}", "url")
            if line.custom_id in seen:
                raise BadRequest(f"'custom_id' {line.custom_id!r} stands in an earlier line", "custom_id")
            if line.body.get("stream"):
                raise BadRequest("'stream' makes no sense in a batch; leave it out", "body.stream")
            asked = ENDPOINTS[endpoint](**line.body)
            if asked.n > 1:
                raise BadRequest("'n' is 1 in a batch; send more lines", "body.n")
            seen.add(line.custom_id)
            lines.append(line)
        except ValidationError as error:
            first = error.errors()[0]
            faults.append(_fault(number, f"{'.'.join(map(str, first['loc']))}: {first['msg']}", ".".join(map(str, first["loc"])) or None))
        except ApiError as error:
            faults.append(_fault(number, error.message, error.param))
    return lines, faults


def _fault(line: int | None, message: str, param: str | None) -> dict[str, Any]:
    return {"line": line, "message": message, "param": param, "code": "invalid_request"}


def _told(batch_id: str, line: Row) -> dict[str, Any]:
    """A line of an output file."""
    answered = line["state"] == "done"
    response = {"status_code": line["status"], "request_id": f"{batch_id}-{line['line']}", "body": line["answer"]} if answered else None
    error = None if answered else {"code": "batch_ended", "message": "the batch ended before this request was begun"}
    return {"id": f"batch_req_{batch_id}_{line['line']}", "custom_id": line["custom_id"], "response": response, "error": error}


def _batch(row: Row) -> dict[str, Any]:
    ended = None if row["ended_at"] is None else int(row["ended_at"].timestamp())
    at = {f"{status}_at": ended if row["status"] == status else None for status in ENDED}
    return {
        "id": row["id"],
        "object": "batch",
        "endpoint": row["endpoint"],
        "errors": {"object": "list", "data": row["errors"]} if row["errors"] else None,
        "input_file_id": row["input_file_id"],
        "output_file_id": row["output_file_id"],
        "error_file_id": row["error_file_id"],
        "completion_window": "24h",
        "status": row["status"],
        "created_at": int(row["created_at"].timestamp()),
        "in_progress_at": int(row["created_at"].timestamp()),
        "expires_at": int(row["expires_at"].timestamp()),
        "finalizing_at": ended,
        "cancelling_at": None,
        **at,
        "request_counts": {"total": row["total"], "completed": row["completed"], "failed": row["failed"]},
        "metadata": row["metadata"],
    }
