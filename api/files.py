"""Files of bulk work: requests that were sent in, and answers to be fetched."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response, UploadFile

from api import BadRequest, NoSuchModel
from api.keys import ApiKey
from protocol.database import AsyncPool, Row

KEPT = timedelta(days=30)
"""How long files and batches are there."""
MOST_BYTES = 16 << 20
MOST_FILES = 200
"""That a payer may have sent in."""
FILES = "SELECT id, filename, purpose, created_at, length(content) AS size FROM api.file"


@dataclass
class Files:
    """In PostgreSQL. Each belongs to a payer."""

    pool: AsyncPool

    def routes(self, caller: Callable[[Request], Awaitable[ApiKey]]) -> APIRouter:
        router = APIRouter()

        @router.post("/v1/files")
        async def upload(file: UploadFile, purpose: Annotated[str, Form()], key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
            """Requests of bulk work: a line of JSON for each."""
            if purpose != "batch":
                raise BadRequest(f"'purpose' is {purpose!r}; files are taken for 'batch' alone", "purpose", "unsupported_parameter")
            content = await file.read(MOST_BYTES + 1)
            if not 0 < len(content) <= MOST_BYTES:
                raise BadRequest(f"the file is empty or larger than {MOST_BYTES} bytes; send some lines, or several files", "file")
            return await self.keep(key.payer, file.filename or "batch.jsonl", purpose, content)

        @router.get("/v1/files")
        async def files(key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
            async with self.pool.connection() as connection:
                cursor = await connection.execute(f"{FILES} WHERE payer = %s ORDER BY created_at DESC".encode(), (key.payer,))
                return {"object": "list", "data": [_file(row) for row in await cursor.fetchall()], "has_more": False}

        @router.get("/v1/files/{file_id}")
        async def one_file(file_id: str, key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
            return _file(await self.one(file_id, key.payer))

        @router.get("/v1/files/{file_id}/content")
        async def content(file_id: str, key: ApiKey = Depends(caller)) -> Response:  # noqa: B008
            row = await self.one(file_id, key.payer)
            return Response(bytes(row["content"]), media_type="application/jsonl")

        @router.delete("/v1/files/{file_id}")
        async def delete(file_id: str, key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
            await self.one(file_id, key.payer)
            async with self.pool.connection() as connection:
                await connection.execute("DELETE FROM api.file WHERE id = %s", (file_id,))
            return {"id": file_id, "object": "file", "deleted": True}

        return router

    async def keep(self, payer: str, filename: str, purpose: str, content: bytes) -> dict[str, Any]:
        """Raises BadRequest where the payer has too many."""
        name = f"file-{secrets.token_hex(12)}"
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "INSERT INTO api.file (id, payer, filename, purpose, content) SELECT %(i)s, %(p)s, %(f)s, %(u)s, %(c)s "
                "WHERE (SELECT count(*) FROM api.file WHERE payer = %(p)s) < %(m)s OR %(u)s <> 'batch' "
                "RETURNING id, filename, purpose, created_at, length(content) AS size",
                {"i": name, "p": payer, "f": filename[:200].replace("\0", ""), "u": purpose, "c": content, "m": MOST_FILES},
            )
            row = await cursor.fetchone()
        if row is None:
            raise BadRequest(f"{payer} has {MOST_FILES} files; delete some", code="too_many_files")
        return _file(row)

    async def one(self, file_id: str, payer: str) -> Row:
        async with self.pool.connection() as connection:
            cursor = await connection.execute("SELECT *, length(content) AS size FROM api.file WHERE id = %s AND payer = %s", (file_id, payer))
            row = await cursor.fetchone()
        if row is None:
            raise NoSuchModel(f"no file {file_id!r} of this payer", code="no_such_file")
        return row

    async def sweep(self) -> None:
        """Let go of what is old."""
        async with self.pool.connection() as connection:
            await connection.execute("DELETE FROM api.file WHERE created_at < now() - %s", (KEPT,))


def _file(row: Row) -> dict[str, Any]:
    created = int(row["created_at"].timestamp())
    told = {"id": row["id"], "object": "file", "bytes": row["size"], "created_at": created, "expires_at": created + int(KEPT.total_seconds())}
    return {**told, "filename": row["filename"], "purpose": row["purpose"], "status": "processed"}
