"""Wires the indexer: follows the chain in a thread, answers over HTTP."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
import structlog
import uvicorn
from fastapi import Body, FastAPI, HTTPException, Query
from fastapi.responses import JSONResponse
from psycopg.types.json import Jsonb

from indexer import queries
from indexer.decode import Decoder
from indexer.follow import RETRYABLE, Follower
from protocol import ProtocolError, logs
from protocol.database import migrate, open_pool
from protocol.receipts import StageReceipt
from protocol.settings import IndexerSettings

log = structlog.get_logger()


class Following(threading.Thread):
    """The loop around Follower.step; what it last stumbled over is kept for /readyz."""

    def __init__(self, follower: Follower, pause: float) -> None:
        super().__init__(name="follow", daemon=True)
        self.follower = follower
        self.pause = pause
        self.stopping = threading.Event()
        self.fault: str | None = "not started"

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                more = self.follower.step()
                self.fault = None
            except (*RETRYABLE, ProtocolError, psycopg.Error) as error:
                more, self.fault = False, str(error) or type(error).__name__
                log.warning("will try again", reason=self.fault)
            except Exception as error:
                # A thread that ends would leave /readyz at what it last said.
                more, self.fault = False, repr(error)
                log.exception("will try again")
            if not more:
                self.stopping.wait(self.pause)


def create_app(settings: IndexerSettings) -> FastAPI:
    """The application; nothing is opened before it starts."""
    chain = settings.chain()
    url = settings.database_url.get_secret_value()
    migrate(url, "indexer")
    pool = open_pool(url, 8)
    following = Following(Follower(chain, pool, Decoder(chain.deployment)), settings.poll_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following.start()
        yield
        following.stopping.set()
        following.join(5)
        pool.close()

    app = FastAPI(title="Function Network indexer", version="1", lifespan=lifespan)

    def rows(sql: str, **values: Any) -> list[dict[str, Any]]:
        with pool.connection() as connection:
            return list(connection.execute(sql, values).fetchall())  # type: ignore[arg-type]

    limited = Annotated[int, Query(ge=1, le=1000)]

    @app.get("/livez")
    def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        return JSONResponse({"reason": following.fault or "ok"}, 503 if following.fault else 200)

    @app.get("/v1/status")
    def status() -> dict[str, Any]:
        newest = rows("SELECT number, hash, timestamp FROM indexer.block ORDER BY number DESC LIMIT 1")
        return {"block": newest[0] if newest else None, "head": chain.web3.eth.block_number, "missing": following.follower.complete()}

    @app.get("/v1/providers")
    def providers() -> dict[str, Any]:
        return {"data": rows(queries.PROVIDERS)}

    @app.get("/v1/rewards")
    def rewards() -> dict[str, Any]:
        return {"data": rows(queries.REWARDS)}

    @app.get("/v1/usage")
    def usage() -> dict[str, Any]:
        return {"data": rows(queries.USAGE)}

    @app.get("/v1/batches")
    def batches(limit: limited = 100) -> dict[str, Any]:
        return {"data": rows(queries.BATCHES, limit=limit)}

    @app.get("/v1/jobs")
    def jobs(limit: limited = 100) -> dict[str, Any]:
        return {"data": rows(queries.JOBS, job=None, limit=limit)}

    @app.get("/v1/jobs/{job_id}")
    def job(job_id: str) -> dict[str, Any]:
        found = rows(queries.JOBS, job=job_id, limit=1)
        if not found:
            raise HTTPException(404, f"no receipts of job {job_id} were handed in")
        return found[0]

    @app.get("/v1/disputes")
    def disputes() -> dict[str, Any]:
        return {"data": rows(queries.DISPUTES)}

    @app.get("/v1/checks")
    def checks() -> dict[str, Any]:
        return {"data": rows(queries.CHECKS)}

    @app.get("/v1/verifiers")
    def verifiers() -> dict[str, Any]:
        return {"data": rows(queries.VERIFIERS)}

    @app.get("/v1/holders")
    def holders() -> dict[str, Any]:
        return {"data": [row["account"] for row in rows(queries.HOLDERS)]}

    @app.post("/v1/receipts", status_code=201)
    def add_receipt(signed: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        """Hand in a signed receipt; it counts only if its provider's operator signed it."""
        try:
            receipt = StageReceipt.from_json(signed["message"])
            operator = receipt.signer(chain.receipts_domain, bytes.fromhex(signed["signature"].removeprefix("0x")))
        except (KeyError, ValueError, AttributeError, ProtocolError) as error:
            raise HTTPException(400, f"not a signed receipt: {error}") from error
        if chain.call("ProviderRegistry", "providerOf", operator) != receipt.provider:
            raise HTTPException(400, f"the receipt is signed by {operator}, which is no operator of {receipt.provider}")
        _store_receipt(receipt, signed)
        return {"provider": receipt.provider, "number": receipt.number}

    def _store_receipt(receipt: StageReceipt, signed: dict[str, Any]) -> None:
        job_id, model_id = "0x" + receipt.job_id.hex(), "0x" + receipt.model_id.hex()
        key = (receipt.provider, receipt.number, job_id, receipt.payer, receipt.gateway, model_id, str(receipt.layers))
        counts = (receipt.prompt_tokens, receipt.completion_tokens, receipt.amount, Jsonb(signed))
        with pool.connection() as connection:
            connection.execute(
                "INSERT INTO indexer.receipt VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", (*key, *counts)
            )

    return app


def main() -> None:
    settings = IndexerSettings.load()
    logs.configure(settings.log_level)
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port or 8600, log_level="warning")


if __name__ == "__main__":
    main()
