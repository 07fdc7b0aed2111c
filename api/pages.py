"""What the browser gets: the chat, the keys, the network page, and the public figures that it shows. No code comes from other hosts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.routing import Mount

from api import NoRoute
from api.jobs import Jobs
from api.text import TextModel

STATIC = Path(__file__).parent / "static"
POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
HEADERS = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache"}

Listing = Literal["providers", "jobs", "batches", "checks", "verifiers", "disputes", "rewards", "usage"]


def pages(jobs: Jobs, models: Mapping[str, TextModel], indexer_url: str) -> APIRouter:
    """The routes. The indexer's answers are public and come through here, so that a page needs one origin."""
    router = APIRouter(include_in_schema=False)
    router.routes.append(Mount("/static", StaticFiles(directory=STATIC)))

    @router.get("/")
    def chat() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    @router.get("/keys")
    def keys() -> FileResponse:
        return FileResponse(STATIC / "keys.html", headers=HEADERS)

    @router.get("/network")
    def network() -> FileResponse:
        return FileResponse(STATIC / "network.html", headers=HEADERS)

    async def indexed(path: str) -> Any:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
                http.get(f"{indexer_url}/v1/{path}") as answer,
            ):
                if answer.status != 200:
                    raise NoRoute(f"the indexer answered with status {answer.status}", code="unavailable")
                return await answer.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NoRoute(f"the indexer does not answer: {error}", code="unavailable") from error

    @router.get("/v1/network/live")
    async def live() -> dict[str, Any]:
        status, totals = await indexed("status"), await indexed("network")
        return {
            "block": status["block"] and status["block"]["number"],
            "totals": totals,
            "models": {name: "0x" + model.model_id.hex() for name, model in models.items()},
            "jobs_open": len(jobs.settler.live),
            "tokens_per_second": sum(meter.rate() for meter in jobs.meters.values()),
            "sessions": jobs.settler.load(),
            "resting": sorted(jobs.router.resting),
        }

    @router.get("/v1/network/{listing}")
    async def figures(listing: Listing, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Any:
        return await indexed(f"{listing}?limit={limit}")

    return router
