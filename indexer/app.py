"""Wires the indexer: follows the chain in a thread, answers over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from indexer.decode import Decoder
from indexer.facts import Constants
from indexer.follow import Follower
from indexer.following import Following
from indexer.handed import hand_in
from indexer.heads import Heads
from indexer.metrics import Metrics
from indexer.node import Nodes
from indexer.read import Reader
from indexer.routes import FAULTS, add_error_handlers, routes
from indexer.store import Store
from protocol import logs
from protocol.chain import Chain
from protocol.database import migrate, open_pool
from protocol.settings import IndexerSettings


def read_constants(chain: Chain) -> Constants:
    """What the contracts fixed when they were deployed. Raises Unavailable."""
    length, genesis = chain.call("VerifierSet", "epochLength"), chain.call("VerifierSet", "genesis")
    return Constants(genesis, length, chain.call("PaymentEscrow", "thawPeriod"))


def make_follower(settings: IndexerSettings) -> Follower:
    """The follower of a deployment, its tables made where they are missing."""
    chain, url = settings.chain(), settings.database_url.get_secret_value()
    migrate(url, "indexer")
    nodes = Nodes([settings.rpc_url, *settings.more_nodes])
    return Follower(nodes, Store(url), Decoder(chain.deployment), lambda: read_constants(chain), chain.deployment.from_block)


def create_app(settings: IndexerSettings) -> FastAPI:
    """The application; nothing is opened before it starts."""
    chain = settings.chain()
    following = Following(make_follower(settings), settings.poll_seconds)
    heads = Heads(settings.websocket_url, following.woken)
    pool = open_pool(settings.database_url.get_secret_value(), 8)
    reader, metrics = Reader(pool), Metrics(following)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following.start()
        if settings.websocket_url:
            heads.start()
        yield
        heads.stopping.set()
        following.stop()
        pool.close()

    app = FastAPI(title="Function Network indexer", version="1", lifespan=lifespan, responses=FAULTS)
    add_error_handlers(app)
    app.include_router(routes(reader, following))

    @app.get("/livez")
    def livez() -> dict[str, str]:
        """Whether the process is alive and its follower with it."""
        if not following.is_alive():
            raise HTTPException(503, "the follower has ended; restart the indexer")
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Whether the figures are to be relied on, with the reason where they are not."""
        fault = following.fault
        return JSONResponse({"reason": fault or "ok"}, 503 if fault else 200)

    @app.get("/status", include_in_schema=False)
    def status() -> RedirectResponse:
        return RedirectResponse("/v1/status")

    @app.get("/metrics", response_class=PlainTextResponse)
    def scrape() -> PlainTextResponse:
        """Prometheus metrics."""
        return PlainTextResponse(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    app.include_router(hand_in(reader, pool, following, chain.receipts_domain))
    return app


def main() -> None:
    settings = IndexerSettings.load()
    logs.configure(settings.log_level)
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port or 8600, log_level="warning")


if __name__ == "__main__":
    main()
