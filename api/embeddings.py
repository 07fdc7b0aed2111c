"""``/v1/embeddings``: texts into vectors, by a stage that runs a whole encoder. All texts of a request are one job."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from numpy.typing import NDArray

from api import ApiError, BadRequest, NoCredit, NoRoute
from api.completions import while_connected
from api.cover import Cover
from api.idempotency import Idempotency, Kept
from api.jobs import BEGIN_TRIES, Job, Jobs
from api.keys import ApiKey
from api.limits import RateLimits
from api.models import Models
from api.pipeline import StageFailed
from api.reading import Reading
from api.routing import Wish
from api.schema import EmbeddingRequest
from api.text import TextModel
from protocol.encoder import frames

Vector = NDArray[np.float32]
MOST_TOKENS = 16_384
"""In all texts of a request together."""


@dataclass
class Embeddings:
    """Answers for keys."""

    jobs: Jobs
    models: Models
    limits: RateLimits
    cover: Cover
    idempotency: Idempotency

    def routes(self, caller: Callable[[Request], Awaitable[ApiKey]]) -> APIRouter:
        router = APIRouter()

        @router.post("/v1/embeddings")
        async def embed(http: Request, request: EmbeddingRequest, key: ApiKey = Depends(caller)) -> Response:  # noqa: B008
            return await self._answer(http, request, key)

        return router

    async def _answer(self, http: Request, request: EmbeddingRequest, key: ApiKey) -> Response:
        model = self.models.encoder_named(request.model, key.models)
        left = await self.limits.take(key.id, key.requests_per_minute)
        slot = await self.idempotency.asked(http, key)
        if isinstance(slot, Kept):
            return Response(slot.body, media_type=slot.media, headers={**left, "idempotent-replayed": "true"})
        try:
            body = await while_connected(http, self.embed(key, model, request))
            if slot:
                await slot.keep("application/json", body)
            return Response(body, media_type="application/json", headers=left)
        except BaseException:
            if slot:
                await asyncio.shield(slot.forget())
            raise

    async def embed(self, key: ApiKey, model: TextModel, request: EmbeddingRequest) -> bytes:
        """OpenAI's answer as JSON, with what it cost and the receipts beside. Raises ApiError."""
        assert model.encoder is not None
        if request.dimensions not in (None, size := model.encoder.dimensions):
            raise BadRequest(f"{model.name} makes vectors of {size} numbers, not of {request.dimensions}; leave 'dimensions' out", "dimensions")
        texts = await asyncio.to_thread(_encode, model, request.texts())
        try:
            job, rows = await self._read(key, model, texts, request.provider.to_wish())
        except NoCredit:
            await self.cover.refresh_credit(key.payer)
            job, rows = await self._read(key, model, texts, request.provider.to_wish())
        # Many vectors are a second of work.
        return await asyncio.to_thread(_laid_out, job, texts, rows, request.encoding_format == "base64")

    async def _read(self, key: ApiKey, model: TextModel, texts: list[list[int]], wish: Wish) -> tuple[Job, Vector]:
        """The job, settled, and its rows out. What fails is tried once more, at another stage. Raises ApiError."""
        refusal: ApiError = NoRoute("nothing was tried", code="no_route")
        for _ in range(BEGIN_TRIES):
            job = await self.jobs.start_reading(key, model, [token for text in texts for token in text], wish)
            assert isinstance(job.pipeline, Reading)
            assert model.encoder is not None
            ok = False
            try:
                rows = await job.pipeline.read(frames(texts), model.encoder.dimensions)
                ok = True
            except StageFailed as error:
                refusal = self.jobs.broken_off(job, error)
            finally:
                await asyncio.shield(job.settle(ok))
            if job.outcome.unverified:
                raise self.jobs.broken_off(job, job.outcome.unverified)
            if ok and job.outcome.settled:
                return job, rows
            if ok:  # no receipt for these rows: they were not paid for, and are not to be relied on
                refusal = self.jobs.broken_off(job, StageFailed(job.pipeline.legs[0].provider, "it signs for other rows than it sent"))
        raise refusal


def _encode(model: TextModel, texts: list[str]) -> list[list[int]]:
    """Each text's token ids. Raises BadRequest for texts that are too long, or too many."""
    found = [model.encode(text) for text in texts]
    for index, tokens in enumerate(found):
        if len(tokens) > model.context:
            words = f"text {index} has {len(tokens)} tokens, {model.name} takes {model.context}; cut it into parts"
            raise BadRequest(words, "input", "context_length_exceeded")
    if (total := sum(map(len, found))) > MOST_TOKENS:
        raise BadRequest(f"the texts have {total} tokens together, {MOST_TOKENS} are taken in a request; send several", "input")
    return found


def _laid_out(job: Job, texts: list[list[int]], rows: Vector, in_base64: bool) -> bytes:
    assert job.model.encoder is not None
    count, data, at = sum(map(len, texts)), [], 0
    for index, text in enumerate(texts):
        vector = job.model.encoder.pool(rows[at : at + len(text)])
        told = base64.b64encode(vector.astype("<f4").tobytes()).decode() if in_base64 else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": told})
        at += len(text)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return msgspec.json.encode({"object": "list", "model": job.model.name, "data": data, "usage": usage, "function_network": job.extra()})
