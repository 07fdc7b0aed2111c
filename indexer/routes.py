"""The read API: every listing by pages, as of a block, as JSON or CSV, with an ETag."""

import csv
import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

import anyio
import msgspec
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from indexer.facts import KINDS
from indexer.following import Following
from indexer.read import USAGE_BY, BadRequest, Halted, NotThere, Page, Reader, Session

At = Annotated[str, Query(description="as of which block: latest, safe, finalized, or its number", examples=["finalized"])]
After = Annotated[str, Query(description="the former answer's `next`; empty for the first page", max_length=1000)]
Limit = Annotated[int, Query(ge=1, le=1000, description="rows at most")]
Format = Annotated[Literal["json", "csv"], Query(alias="format", description="csv holds the rows alone; the next page is named by the header Link")]
Address = Annotated[str | None, Query(pattern="^0x[0-9a-fA-F]{40}$", description="only of this account")]
FAULT = {"content": {"application/json": {"schema": {"type": "object", "properties": {"detail": {}}}}}}
FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"description": "a question that cannot be answered", **FAULT},
    404: {"description": "not there", **FAULT},
    503: {"description": "halted, not ready, or the database is away", **FAULT},
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/csv": {}}},
    304: {"description": "the client has it already"},
}
PAGING = {"at", "after", "limit", "format"}
STREAM_SECONDS = 0.2


def add_error_handlers(app: FastAPI) -> None:
    """What a question can stumble over, each as a status and words."""
    for kind, status in ((BadRequest, 400), (NotThere, 404), (Halted, 503)):
        app.add_exception_handler(kind, _handler(status))


def _handler(status: int) -> Callable[[Request, Exception], Response]:
    return lambda _, error: JSONResponse({"detail": str(error)}, status)


def tagged(request: Request, body: bytes, media: str, headers: dict[str, str] | None = None) -> Response:
    """The answer with its ETag, or 304 where the client has it already."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    given = {"etag": tag, "cache-control": "no-cache", **(headers or {})}
    if tag in (part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=given)
    return Response(body, media_type=media, headers=given)


def paged(request: Request, page: Page, form: str) -> Response:
    """A page in the asked form."""
    if form == "json":
        body = {"data": page.data, "next": page.next, "block": page.block, "finality": page.finality}
        return tagged(request, msgspec.json.encode(body), "application/json")
    headers = {"content-disposition": "attachment; filename=funcnet.csv"}
    if page.next is not None:
        headers["link"] = f'<{request.url.include_query_params(after=page.next)}>; rel="next"'
    return tagged(request, as_csv(page.data), "text/csv; charset=utf-8", headers)


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """Rows with the members of all of them as columns; what is no text or number, as JSON. Text that a spreadsheet would take for a formula is
    set off by an apostrophe."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return "'" + value if value[:1] in ("=", "+", "@", "\t", "\r") or (value[:1] == "-" and not value[1:].isdigit()) else value
    return json.dumps(value) if isinstance(value, dict | list) else value


def routes(reader: Reader, following: Following) -> APIRouter:
    """All that reads."""
    router = APIRouter(responses=ANSWERS)

    def answer(request: Request, at: str, form: str, read: Callable[[Session], Page]) -> Response:
        with reader.session(at) as session:
            return paged(request, read(session), form)

    @router.get("/v1/status")
    def status() -> dict[str, Any]:
        """How far the tables go, what of that is final, and what was noticed lately."""
        with reader.pool.connection() as connection:
            newest = connection.execute("SELECT number, hash, timestamp FROM indexer.block ORDER BY number DESC LIMIT 1").fetchone()
            noticed = connection.execute("SELECT at, kind, block_number, detail FROM indexer.incident ORDER BY at DESC LIMIT 20").fetchall()
        cursor = following.cursor
        return {
            "block": newest,
            "head": cursor and cursor.head,
            "safe": cursor and cursor.safe,
            "finalized": cursor and cursor.finalized,
            "halted": cursor and cursor.halted,
            "behind": cursor and max(0, cursor.head - cursor.number),
            "leading": following.leading,
            "fault": following.fault,
            "incidents": noticed,
        }

    @router.get("/v1/network")
    def network(request: Request, at: At = "latest") -> Response:
        """Totals of the whole network."""
        with reader.session(at) as session:
            (row,) = session.facts("network", "", 1, {}).data or [{}]
            return tagged(request, msgspec.json.encode(row), "application/json")

    @router.get("/v1/providers")
    def providers(
        request: Request, at: At = "latest", after: After = "", limit: Limit = 1000, form: Format = "json", provider: Address = None
    ) -> Response:
        """Providers with their GPUs, offers, stakes and earnings."""
        return answer(request, at, form, lambda session: session.providers(after, limit, provider))

    @router.get("/v1/verifiers")
    def verifiers(request: Request, at: At = "latest", after: After = "", limit: Limit = 1000, form: Format = "json") -> Response:
        """Verifiers and their records: checks, planted faults, accusations, pay, fines."""
        return answer(request, at, form, lambda session: session.verifiers(after, limit))

    @router.get("/v1/disputes")
    def disputes(
        request: Request, at: At = "latest", after: After = "", limit: Limit = 1000, form: Format = "json", provider: Address = None
    ) -> Response:
        """Accusations, newest first, with verdict and slash."""
        return answer(request, at, form, lambda session: session.disputes(after, limit, provider))

    @router.get("/v1/rewards")
    def rewards(
        request: Request,
        at: At = "latest",
        after: After = "",
        limit: Limit = 1000,
        form: Format = "json",
        account: Address = None,
        kind: Annotated[str | None, Query(description="provider, delegators, emission, royalty, verifier, treasury or burned")] = None,
    ) -> Response:
        """What each account was paid, by kind of payment."""
        filters = _given(account=account, kind=kind)
        return answer(request, at, form, lambda session: session.rewards(after, limit, filters))

    @router.get("/v1/batches")
    def batches(
        request: Request, at: At = "latest", after: After = "", limit: Limit = 100, form: Format = "json", provider: Address = None
    ) -> Response:
        """Anchored batches of receipts, newest first."""
        return answer(request, at, form, lambda session: session.batches(after, limit, _given(provider=provider)))

    @router.get("/v1/checks")
    def checks(
        request: Request, at: At = "latest", after: After = "", limit: Limit = 1000, form: Format = "json", verifier: Address = None
    ) -> Response:
        """Duties that verifiers posted, newest first."""
        return answer(request, at, form, lambda session: session.checks(after, limit, _given(verifier=verifier)))

    @router.get("/v1/jobs")
    def jobs(
        request: Request,
        after: After = "",
        limit: Limit = 100,
        form: Format = "json",
        payer: Address = None,
        gateway: Address = None,
        provider: Address = None,
    ) -> Response:
        """Jobs by the receipts that gateways handed in, newest first: signed, anchored, verified or convicted."""
        filters = _given(payer=payer, gateway=gateway, provider=provider)
        return answer(request, "latest", form, lambda session: session.jobs(after or None, limit, filters))

    @router.get("/v1/jobs/{job_id}")
    def job(request: Request, job_id: str) -> Response:
        """One job."""
        with reader.session() as session:
            found = session.jobs(None, 1, {"job_id": job_id}).data
        if not found:
            raise HTTPException(404, f"no receipts of job {job_id} were handed in")
        return tagged(request, msgspec.json.encode(found[0]), "application/json")

    @router.get("/v1/usage")
    def usage(
        request: Request,
        after: After = "",
        limit: Limit = 1000,
        form: Format = "json",
        by: Annotated[str, Query(description=f"columns to sum by, comma-separated: {', '.join(USAGE_BY)}")] = "payer,gateway,model_id",
        payer: Address = None,
        gateway: Address = None,
        provider: Address = None,
    ) -> Response:
        """Jobs, tokens and cost by the receipts that gateways handed in. What was redeemed on chain is in the facts `epoch_usage` and `day_usage`."""
        columns = tuple(name.strip() for name in by.split(","))
        if unknown := [name for name in columns if name not in USAGE_BY]:
            raise BadRequest(f"cannot sum by {', '.join(unknown)}; known: {', '.join(USAGE_BY)}")
        filters = _given(payer=payer, gateway=gateway, provider=provider)
        return answer(request, "latest", form, lambda session: session.usage(columns, after, limit, filters))

    @router.get("/v1/work")
    def work(request: Request, provider: Address = None, hours: Annotated[int, Query(ge=1, le=24 * 31)] = 24, limit: Limit = 100) -> Response:
        """Why no work: by gateways' signed summaries, the jobs that each provider could have had, how many it got, and what ruled it out of the
        others; for one provider, how it stands on chain as well."""
        with reader.session() as session:
            return tagged(request, msgspec.json.encode(session.work(provider, hours, limit)), "application/json")

    @router.get("/v1/holders")
    def holders() -> dict[str, Any]:
        """Accounts that FUNC was ever sent to or from."""
        with reader.session() as session:
            rows = session.rows("SELECT key FROM {balance} b ORDER BY key")
        return {"data": [row["key"] for row in rows if row["key"] != "0x" + "00" * 20]}

    @router.get("/v1/events")
    def events(
        request: Request,
        at: At = "latest",
        after: After = "",
        limit: Limit = 100,
        form: Format = "json",
        contract: Annotated[str | None, Query(description="only of this contract, by its name")] = None,
        name: Annotated[str | None, Query(description="only of this name")] = None,
    ) -> Response:
        """Events of the contracts, newest first; any other parameter is a member that the event has to have, as in `provider=0x...`."""
        known = PAGING | {"contract", "name"}
        members = {key: value for key, value in request.query_params.items() if key not in known}
        return answer(request, at, form, lambda session: session.events(after, limit, members, contract, name))

    @router.get("/v1/facts")
    def kinds() -> dict[str, Any]:
        """The kinds of fact and the members of their keys."""
        return {"data": [{"kind": kind, "key": list(members)} for kind, members in KINDS.items()]}

    @router.get("/v1/facts/{kind}")
    def facts(request: Request, kind: str, at: At = "latest", after: After = "", limit: Limit = 100, form: Format = "json") -> Response:
        """Facts of a kind by key; any other parameter is a member that the fact has to have, as in `provider=0x...`."""
        _require_kind(kind)
        members = {key: value for key, value in request.query_params.items() if key not in PAGING}
        return answer(request, at, form, lambda session: session.facts(kind, after, limit, members))

    @router.get("/v1/history/{kind}/{key:path}")
    def history(
        request: Request, kind: str, key: str, after: Annotated[int | None, Query(ge=0)] = None, limit: Limit = 100, form: Format = "json"
    ) -> Response:
        """A fact's versions, newest first, each with the block, transaction and log that made it."""
        _require_kind(kind)
        return answer(request, "latest", form, lambda session: session.history(kind, key, after, limit))

    @router.get("/v1/epochs")
    def epochs(request: Request, after: After = "", limit: Limit = 100, form: Format = "json") -> Response:
        """Final epochs, newest first: the root over each one's rewards and usage, and the word over all roots up to it. Two indexers that have the
        same word for an epoch have the same figures up to it."""
        return answer(request, "finalized", form, lambda session: session.epochs(after, limit))

    @router.get("/v1/epochs/{epoch}")
    def epoch(request: Request, epoch: int, at: At = "latest") -> Response:
        """An epoch's rewards and usage, row by row."""
        with reader.session(at) as session:
            return tagged(request, msgspec.json.encode(session.epoch(epoch)), "application/json")

    @router.get("/v1/epochs/{epoch}/proof")
    def proof(request: Request, epoch: int, fact: Literal["epoch_reward", "epoch_usage"], key: str, at: At = "latest") -> Response:
        """A row's way to its epoch's root: keccak of the text, hashed once more, then paired with each sibling, the lower first."""
        with reader.session(at) as session:
            return tagged(request, msgspec.json.encode(session.proof(epoch, fact, key)), "application/json")

    @router.get("/v1/stream", response_class=EventSourceResponse)
    async def stream(request: Request) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events: each new head of the tables, with what of them is safe and final. A lower number than before is a reorg."""
        told = None
        while not await request.is_disconnected():
            cursor = following.cursor
            if cursor is not None and cursor != told:
                told = cursor
                yield ServerSentEvent(data=cursor._asdict(), event="head", id=f"{cursor.number}-{cursor.hash}")
            await anyio.sleep(STREAM_SECONDS)

    return router


def _given(**filters: str | None) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value is not None}


def _require_kind(kind: str) -> None:
    if kind not in KINDS:
        raise NotThere(f"there is no kind of fact {kind!r}; known: {', '.join(KINDS)}")
