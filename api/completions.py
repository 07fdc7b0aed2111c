"""``/v1/chat/completions`` and ``/v1/completions``: a job is under way before a byte is sent, and ends when its client goes away."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from api import ClientGone, NoCredit, schema
from api.cover import Cover
from api.jobs import Begun, Job, Jobs
from api.keys import ApiKey
from api.limits import RateLimits
from api.models import Models
from api.pipeline import StageFailed
from api.text import TextModel

T = TypeVar("T")
LOOK_SECONDS = 0.2
"""Between two looks whether the client is still there, while no byte is sent."""


class Shape(Protocol):
    """How answers are laid out. ``piece`` takes text, or None at the end with the reason for that."""

    def opening(self, job: Job) -> list[dict[str, Any]]: ...

    def piece(self, job: Job, text: str | None) -> dict[str, Any]: ...

    def whole(self, job: Job, text: str) -> dict[str, Any]: ...


class ChatShape:
    """``chat.completion`` and its chunks."""

    def opening(self, job: Job) -> list[dict[str, Any]]:
        return [schema.chunk(job.id, job.model.name, {"role": "assistant", "content": ""})]

    def piece(self, job: Job, text: str | None) -> dict[str, Any]:
        delta, finish = ({}, job.outcome.finish) if text is None else ({"content": text}, None)
        return schema.chunk(job.id, job.model.name, delta, finish, job.take_logprobs())

    def whole(self, job: Job, text: str) -> dict[str, Any]:
        return schema.completion(job.id, job.model.name, text, job.outcome.finish, job.usage, job.extra(), job.take_logprobs())


class TextShape:
    """``text_completion``."""

    def __init__(self) -> None:
        self._offset = 0

    def opening(self, job: Job) -> list[dict[str, Any]]:
        return []

    def piece(self, job: Job, text: str | None) -> dict[str, Any]:
        finish = job.outcome.finish if text is None else None
        return schema.text_completion(job.id, job.model.name, text or "", finish, self._logprobs(job))

    def whole(self, job: Job, text: str) -> dict[str, Any]:
        body = schema.text_completion(job.id, job.model.name, text, job.outcome.finish, self._logprobs(job))
        return {**body, "usage": job.usage, "function_network": job.extra()}

    def _logprobs(self, job: Job) -> dict[str, Any] | None:
        told = job.take_logprobs()
        if told is None:
            return None
        offsets = []
        for entry in told["content"]:
            offsets.append(self._offset)
            self._offset += len(entry["token"])
        return {
            "tokens": [entry["token"] for entry in told["content"]],
            "token_logprobs": [entry["logprob"] for entry in told["content"]],
            "top_logprobs": [{other["token"]: other["logprob"] for other in entry["top_logprobs"]} for entry in told["content"]],
            "text_offset": offsets,
        }


@dataclass
class Completions:
    """Answers for keys. ``caller`` finds out whose a request is."""

    jobs: Jobs
    models: Models
    limits: RateLimits
    cover: Cover

    def routes(self, caller: Callable[[Request], Awaitable[ApiKey]]) -> APIRouter:
        router = APIRouter()

        @router.post("/v1/chat/completions")
        async def chat(http: Request, request: schema.ChatRequest, key: ApiKey = Depends(caller)) -> Response:  # noqa: B008
            model = self.models.named(request.model, key.models)
            return await self._answer(http, request, key, model, lambda: model.encode_chat([m.plain() for m in request.messages]), ChatShape())

        @router.post("/v1/completions")
        async def text(http: Request, request: schema.TextRequest, key: ApiKey = Depends(caller)) -> Response:  # noqa: B008
            model = self.models.named(request.model, key.models)
            return await self._answer(http, request, key, model, lambda: model.encode(request.one_prompt()), TextShape())

        return router

    async def _answer(
        self, http: Request, request: schema.SamplingRequest, key: ApiKey, model: TextModel, prompt: Callable[[], list[int]], shape: Shape
    ) -> Response:
        left = await self.limits.take(key.id)
        begun = await while_connected(http, self._begin(key, model, prompt(), request))
        if request.stream:
            events = self._events(begun, shape, request.with_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers={**left, "cache-control": "no-store"})
        text = await while_connected(http, self._rest(begun))
        return JSONResponse(shape.whole(begun.job, text), headers=left)

    async def _begin(self, key: ApiKey, model: TextModel, prompt: list[int], request: schema.SamplingRequest) -> Begun:
        try:
            return await self.jobs.begin(key, model, prompt, request)
        except NoCredit:
            await self.cover.refresh_credit(key.payer)
            return await self.jobs.begin(key, model, prompt, request)

    async def _rest(self, begun: Begun) -> str:
        """All of the text. Raises NoRoute where a stage broke off."""
        try:
            return "".join([piece async for piece in begun.pieces()])
        except StageFailed as error:
            raise self.jobs.broken_off(begun.job, error) from error

    async def _events(self, begun: Begun, shape: Shape, with_usage: bool) -> AsyncIterator[str]:
        job = begun.job
        for opening in shape.opening(job):
            yield _event(opening)
        try:
            async for piece in begun.pieces():
                yield _event(shape.piece(job, piece))
        except StageFailed as error:
            yield _event(self.jobs.broken_off(job, error).body())
            yield "data: [DONE]\n\n"
            return
        final = {**shape.piece(job, None), "usage": job.usage, "function_network": job.extra()}
        yield _event(final)
        if with_usage:  # as OpenAI has it: once more, without choices
            yield _event({**final, "choices": []})
        yield "data: [DONE]\n\n"


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


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, separators=(',', ':'), ensure_ascii=False)}\n\n"
