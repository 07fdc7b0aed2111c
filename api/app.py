"""Wires the gateway: settings, database, chain, routes."""

import asyncio
import hmac
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from psycopg import DataError
from psycopg import Error as DatabaseError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import ApiError, BadRequest, NoRoute, NoSuchModel, WrongKey, key_schema, schema
from api.account import Account, Dollars
from api.administration import Administration
from api.anchors import Anchors
from api.batches import Batches
from api.budget import Budget, LegKey
from api.checks import Checks
from api.completions import Completions
from api.cover import Cover
from api.embeddings import Embeddings
from api.files import Files
from api.idempotency import Idempotency
from api.jobs import Jobs
from api.keys import ApiKey, KeyStore, bearer
from api.legs import LegCloser
from api.limits import RateLimits
from api.managers import Managers
from api.metrics import Metrics
from api.models import Models
from api.pages import pages
from api.peers import Peers
from api.routing import Router
from api.settler import Settler
from api.signed import SignedRequests
from api.signing import LocalSigner, RemoteSigner, Signer
from api.sponsorships import Sponsorships
from api.watch import Watch
from protocol import ProtocolError, SettingsError, Unavailable, logs
from protocol.database import async_pool, migrate
from protocol.keystore import read_account
from protocol.receipts import StageReceipt
from protocol.settings import GatewaySettings
from protocol.units import LayerRange
from protocol.wire import RouteStop

log = structlog.get_logger()


def create_app(settings: GatewaySettings) -> FastAPI:
    """The application; connections open when it starts."""
    url = settings.database_url.get_secret_value()
    migrate(url, "api")
    chain = settings.chain()
    account = _signer(settings)
    pepper, admin = settings.key_pepper.get_secret_value(), settings.admin_token.get_secret_value()
    if len(pepper) < 32 or len(admin) < 32:
        raise SettingsError("FUNCNET_KEY_PEPPER and FUNCNET_ADMIN_TOKEN must each be at least 32 characters of randomness")
    pool = async_pool(url)
    models = Models(settings.models, pool)
    peers = Peers(pool)
    keys, budget, router = KeyStore(pool, pepper.encode()), Budget(pool, peers.id), Router(chain)
    limits, anchors = RateLimits(pool, settings.requests_per_minute), Anchors(chain, budget)
    settler = Settler(budget, LegCloser(chain, account, budget), peers)
    router.load = settler.load
    checks = Checks(chain, account, budget)
    jobs = Jobs(chain, account, budget, router, settler, checks)
    idempotency, dollars = Idempotency(pool), Dollars(settings.usd_per_func)
    watch, sweeps = Watch(chain, account, budget, peers), [idempotency.sweep, limits.sweep]
    cover = Cover(chain, account, budget, pool, settings.indexer_url, models, router, checks, jobs.summaries, peers, sweeps)
    completions = Completions(jobs, models, limits, cover, idempotency)
    signed = SignedRequests(chain, pool, cover, account.address)
    embeddings = Embeddings(jobs, models, limits, cover, idempotency)
    files = Files(pool)
    batches = Batches(pool, files, keys, completions, peers)
    managers = Managers(pool, pepper.encode(), admin, chain.deployment.chain_id)
    sweeps += [batches.sweep, files.sweep, peers.sweep, managers.sweep]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await pool.open()
        await models.restore()
        await peers.beat()
        tasks = [asyncio.create_task(part.run()) for part in (peers, cover, settler, watch, batches)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(DatabaseError):
            await peers.leave()
        await router.clients.close()
        await account.close()
        await pool.close()

    app = FastAPI(title="Function Network gateway", version="1", lifespan=lifespan, responses=schema.ERRORS)
    metrics = Metrics(jobs)
    _add_error_shapes(app)
    app.add_middleware(Stamp, metrics=metrics)

    async def caller(request: Request) -> ApiKey:
        header = request.headers.get("authorization")
        return await (signed.authenticate(request) if signed.is_one(header) else keys.authenticate(header))

    def require_token(request: Request, wanted: str, name: str) -> None:
        token = bearer(request.headers.get("authorization"))
        if not hmac.compare_digest(token.encode(), wanted.encode()):
            raise WrongKey(f"this needs the gateway's {name} token", code=f"invalid_{name}_token")

    def require_admin(request: Request) -> None:
        require_token(request, admin, "admin")

    @app.get("/livez")
    def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        model = next(iter(models.values()))
        try:
            layers = await asyncio.to_thread(jobs.layer_count, model.model_id)
            await asyncio.to_thread(router.choose, model.model_id, LayerRange(0, layers), 1, 1)
        except (ApiError, ProtocolError) as error:
            return JSONResponse({"reason": str(error)}, 503)
        return JSONResponse({"reason": "ok"})

    @app.get("/metrics", include_in_schema=False)
    def scrape(request: Request) -> Response:
        require_token(request, settings.metrics_token.get_secret_value() or admin, "metrics")
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    def list_models(_: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
        return {"object": "list", "data": [dollars.priced(jobs.describe(model)) for model in list(models.values())]}

    @app.get("/v1/models/{name:path}")
    def one_model(name: str, _: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
        return dollars.priced(jobs.describe(models.any_named(name)))

    @app.post("/v1/models", status_code=201, dependencies=[Depends(require_admin)])
    async def add_model(request: key_schema.ModelRequest) -> dict[str, Any]:
        model = await models.add(request.name, Path(request.folder))
        return {"id": model.name, "object": "model", "model_id": "0x" + model.model_id.hex()}

    @app.get("/v1/receipts/{job_id}")
    async def receipts(job_id: str, key: ApiKey = Depends(caller)) -> dict[str, Any]:  # noqa: B008
        job = await budget.job(job_id)
        if job is None or job["payer"] != key.payer:
            raise NoSuchModel(f"no job {job_id} of this payer", code="no_such_job")
        return await _told(job, await cover.verification(job_id), anchors)

    app.include_router(completions.routes(caller))
    app.include_router(embeddings.routes(caller))
    app.include_router(files.routes(caller))
    app.include_router(batches.routes(caller))
    app.include_router(Administration(keys, managers, Sponsorships(pool, keys), cover, limits).routes())
    app.include_router(Account(pool, keys, budget, dollars, account.address, settings.indexer_url).routes(caller))
    app.include_router(pages(jobs, models, settings.indexer_url))
    return app


def _signer(settings: GatewaySettings) -> Signer:
    """Raises SettingsError."""
    if settings.signer_url:
        return RemoteSigner(settings.signer_url, settings.signer_token.get_secret_value())
    return LocalSigner(read_account(settings.require_keystore(), settings.password()))


async def _told(job: dict[str, Any], known: dict[str, Any] | None, anchors: Anchors) -> dict[str, Any]:
    """A job for its payer: each receipt with its way to the chain, and what became of it as the indexer knows it."""
    stages = {(stage["provider"], stage["number"]): stage for stage in known["stages"]} if known else {}
    receipts, told = [], []
    for leg in job.pop("legs"):
        receipt, stop = StageReceipt.from_json(leg["reply"]["receipt"]["message"]), msgspec.convert(leg["stop"], RouteStop)
        stage, anchor = stages.get((receipt.provider, receipt.number), {}), leg["anchor"]
        if anchor is None and stage.get("batch") is not None:
            key = LegKey(job["id"], receipt.provider, leg["epoch"])
            anchor = await anchors.of(key, stop, receipt, stage["batch"], stage["tx"])
        receipts.append({**leg["reply"], "anchor": anchor})
        about = {"provider": receipt.provider, "layers": str(receipt.layers), "number": receipt.number, "amount": str(receipt.amount)}
        told.append({**about, "status": stage.get("status", "signed"), "batch": stage.get("batch"), "tx": stage.get("tx")})
    status = known["status"] if known and len(known["stages"]) == len(receipts) else "signed"
    if not receipts and job["state"] != "open" and not job["unsettled"]:
        status = "unpaid"
    return {**job, "status": status, "stages": told, "receipts": receipts}


def _add_error_shapes(app: FastAPI) -> None:
    """Every error leaves in OpenAI's shape, and every answer carries a request id and its time."""

    def shaped(error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, headers=error.extra_headers)

    @app.exception_handler(ApiError)
    async def ours(_: Request, error: ApiError) -> JSONResponse:
        return shaped(error)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        words = f"{request.method} {request.url.path}: {error.detail}; see /docs for what there is"
        return JSONResponse(BadRequest(words, code="unknown_url").body(), error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"] if part != "body")
        return shaped(BadRequest(f"'{param}': {first['msg']} (got {first.get('input')!r:.80})", param, "invalid_value"))

    @app.exception_handler(DataError)
    @app.exception_handler(UnicodeEncodeError)
    async def no_text(_: Request, error: Exception) -> JSONResponse:
        return shaped(BadRequest(f"a value of this request is no text: {error!r}", code="invalid_value"))

    @app.exception_handler(Unavailable)
    @app.exception_handler(DatabaseError)
    async def unavailable(_: Request, error: Exception) -> JSONResponse:
        return shaped(NoRoute.unavailable(error))


class Stamp:
    """Adds a request id and the time taken to each answer's headers, and counts it. Plain ASGI: what wraps requests would hide from them that the
    client left."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, name = time.perf_counter(), Headers(scope=scope).get("x-request-id", f"req_{uuid.uuid4().hex}")

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = name
                seconds = time.perf_counter() - started
                headers["openai-processing-ms"] = str(int(seconds * 1000))
                route = getattr(scope.get("route"), "path", "other")
                self.metrics.answered(route, message["status"], seconds)
            await send(message)

        await self.app(scope, receive, stamped)


def main() -> None:
    settings = GatewaySettings.load()
    logs.configure(settings.log_level)
    # Asked to end, it takes no new connection; open answers go on for a while, and what is left then is settled by the next start.
    drain = max(1, round(settings.drain_seconds))
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port or 8000, log_level="warning", timeout_graceful_shutdown=drain)


if __name__ == "__main__":
    main()
