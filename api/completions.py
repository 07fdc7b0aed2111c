"""``/v1/chat/completions``, ``/v1/completions``, ``/v1/responses``: a job is under way before a byte is sent, and ends when its client goes away."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from api import ClientGone, NoCredit, schema
from api.cover import Cover
from api.idempotency import Idempotency, Kept, Slot
from api.jobs import Asked, Begun, Job, Jobs
from api.keys import ApiKey
from api.limits import RateLimits
from api.models import Models
from api.pipeline import StageFailed
from api.shapes import ChatShape, ResponseShape, Shape, TextShape
from api.text import TextModel

T = TypeVar("T")
LOOK_SECONDS = 0.2
"""Between two looks whether the client is still there, while no byte is sent."""


@dataclass
class Completions:
    """Answers for keys. ``caller`` finds out whose a request is."""

    jobs: Jobs
    models: Models
    limits: RateLimits
    cover: Cover
    idempotency: Idempotency

    def routes(self, caller: Callable[[Request], Awaitable[ApiKey]]) -> APIRouter:
        router = APIRouter(responses={200: {"content": {"application/json": {}, "text/event-stream": {}}}})

        @router.post("/v1/chat/completions")
        async def chat(http: Request, request: schema.ChatRequest, key: ApiKey = Depends(caller)) -> Response:  # noqa: B008
            return await self._answer(http, request, key)

        @router.post("/v1/completions")
        async def text(http: Request, request: schema.TextRequest, key: ApiKey = Depends(caller)) -> Response:  # noqa: B008
            return await self._answer(http, request, key)

        @router.post("/v1/responses")
        async def respond(http: Request, request: schema.ResponsesRequest, key: ApiKey = Depends(caller)) -> Response:  # noqa: B008
            return await self._answer(http, request, key)

        return router

    async def in_bulk(self, key: ApiKey, request: schema.SamplingRequest) -> dict[str, Any]:
        """A whole answer, of stages that let others go first, at their share for such work. Raises ApiError."""
        model = self.models.named(request.model, key.models)
        shape, prompt = _laid_out_as(request, model)
        asked = await asyncio.to_thread(prompt)
        (begun,) = await self._begin_all(key, model, asked._replace(bulk=True), request)
        return shape.whole([begun.job], [await self._rest(begun)])

    async def _answer(self, http: Request, request: schema.SamplingRequest, key: ApiKey) -> Response:
        model = self.models.named(request.model, key.models)
        shape, prompt = _laid_out_as(request, model)
        left = await self.limits.take(key.id, key.requests_per_minute)
        slot = await self.idempotency.asked(http, key)
        if isinstance(slot, Kept):
            return Response(slot.body, media_type=slot.media, headers={**left, "idempotent-replayed": "true"})
        try:
            # Of a long conversation the template and the tokenizer make seconds of work.
            begun = await while_connected(http, self._begin_all(key, model, await asyncio.to_thread(prompt), request))
            if request.stream:
                events = self._events(begun, shape, slot)
                return StreamingResponse(events, media_type="text/event-stream", headers={**left, "cache-control": "no-store"})
            texts = await while_connected(http, together([self._rest(one) for one in begun]))
            answer = JSONResponse(shape.whole([one.job for one in begun], texts), headers=left)
            if slot:
                await slot.keep("application/json", bytes(answer.body))
            return answer
        except BaseException:
            if slot:
                await asyncio.shield(slot.forget())
            raise

    async def _begin_all(self, key: ApiKey, model: TextModel, asked: Asked, request: schema.SamplingRequest) -> list[Begun]:
        """A job for each choice."""
        first = await self._begin(key, model, asked, request)
        begun = [first]
        try:
            for index in range(1, request.n):
                begun.append(await self.jobs.begin(key, model, asked, request, index))
        except BaseException:
            for one in begun:
                await one.rest.aclose()
            raise
        return begun

    async def _begin(self, key: ApiKey, model: TextModel, asked: Asked, request: schema.SamplingRequest) -> Begun:
        try:
            return await self.jobs.begin(key, model, asked, request)
        except NoCredit:
            await self.cover.refresh_credit(key.payer)
            return await self.jobs.begin(key, model, asked, request)

    async def _rest(self, begun: Begun) -> str:
        """All of the text. Raises NoRoute where a stage broke off."""
        try:
            return "".join([piece async for piece in begun.pieces()])
        except StageFailed as error:
            raise self.jobs.broken_off(begun.job, error) from error

    async def _events(self, begun: list[Begun], shape: Shape, slot: Slot | None) -> AsyncIterator[str]:
        """The stream, kept for retries once it is whole; one that broke off, or whose client went away, may run again."""
        sent: list[str] = []
        whole = False
        try:
            async with aclosing(self._laid_out(begun, shape)) as events:
                async for event in events:
                    sent.append(event)
                    yield event
            whole = not any(one.job.outcome.broke_off for one in begun)
        finally:
            if slot:
                await asyncio.shield(slot.keep("text/event-stream", "".join(sent).encode()) if whole else slot.forget())

    async def _laid_out(self, begun: list[Begun], shape: Shape) -> AsyncGenerator[str, None]:
        jobs = [one.job for one in begun]
        for event in shape.opening(jobs):
            yield event
        async with aclosing(merged(begun)) as pieces:
            async for job, piece in pieces:
                if isinstance(piece, StageFailed):
                    for event in shape.broken(job, self.jobs.broken_off(job, piece)):
                        yield event
                    return
                for event in shape.piece(job, piece):
                    yield event
        for event in shape.closing(jobs):
            yield event


def _laid_out_as(request: schema.SamplingRequest, model: TextModel) -> tuple[Shape, Callable[[], Asked]]:
    """How the answer is laid out, and what makes the prompt, which raises BadRequest."""
    if isinstance(request, schema.TextRequest):
        return TextShape(request.with_usage), lambda: Asked(model.encode(request.one_prompt()), request.schema_text)
    assert isinstance(request, schema.ChatRequest | schema.ResponsesRequest)
    tools = request.tools_for(model)
    shape = ChatShape(request.with_usage, tools) if isinstance(request, schema.ChatRequest) else ResponseShape(request, tools)

    def prompt() -> Asked:
        messages = request.conversation()
        if tools is None:
            return Asked(model.encode_chat(messages), request.schema_text)
        return Asked(model.encode_chat(*tools.lay_out(messages)), tools.grammar(request.schema_text))

    return shape, prompt


async def merged(begun: list[Begun]) -> AsyncGenerator[tuple[Job, str | StageFailed], None]:
    """Pieces of several jobs as they come; what one broke off with is the last. The jobs end with the reader."""
    pieces: asyncio.Queue[tuple[Job, str | StageFailed | None]] = asyncio.Queue(maxsize=len(begun))

    async def read(one: Begun) -> None:
        try:
            async for piece in one.pieces():
                await pieces.put((one.job, piece))
            await pieces.put((one.job, None))
        except StageFailed as error:
            await pieces.put((one.job, error))

    readers, left = [asyncio.create_task(read(one)) for one in begun], len(begun)
    try:
        while left:
            job, piece = await pieces.get()
            if piece is None:
                left -= 1
                continue
            yield job, piece
            if isinstance(piece, StageFailed):
                return
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def together(works: list[Coroutine[Any, Any, T]]) -> list[T]:
    """What all give. Where one raises, the others are cancelled, and that waited for."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def while_connected(http: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives. It is cancelled, and that waited for, when the client goes away. Raises ClientGone."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(http))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone("the client went away")
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _gone(http: Request) -> None:
    while not await http.is_disconnected():
        await asyncio.sleep(LOOK_SECONDS)
