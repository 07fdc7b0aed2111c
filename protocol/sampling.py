"""Seeded sampling that a verifier can repeat. Design section 3, step 3.

Order: penalties, bias, mask, temperature, top-k, top-p, min-p, then ``argmax(logits / T + Gumbel(seed, position, token))`` in float32 with
counter-based noise, ties to the lower id; greedy when T is 0. The Gumbel-max trick draws from the softmax exactly.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from eth_hash.auto import keccak
from numpy.typing import NDArray

from protocol.messages import Message

Logits = NDArray[np.float32]


class TokenLogprobs(Message, frozen=True, array_like=True):
    """Natural logarithms of the model's own probabilities, before penalties, bias and temperature: the token's, and the likeliest ones' by id."""

    chosen: float
    top: list[tuple[Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)], float]]


class SamplingParameters(Message, frozen=True, kw_only=True):
    """Pinned for a session. ``top_k`` 0 and ``top_p`` 1 mean off; presence and frequency penalty as in the OpenAI API, of the answer's tokens;
    ``repetition_penalty`` as in transformers, of the prompt's and the answer's; ``schema``: a JSON schema or a
    Lark grammar that the answer has to fit, or empty."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = msgspec.field(default_factory=dict)
    seed: int = 0
    stop_tokens: list[int] = msgspec.field(default_factory=list)
    schema: str = ""

    def digest(self) -> bytes:
        """keccak of the canonical JSON: keys sorted, no spaces."""
        return keccak(msgspec.json.encode(msgspec.to_builtins(self, str_keys=True), order="sorted"))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SamplingParameters":
        """Raises ValueError for what is none, or holds a number that sampling is not defined for."""
        given = msgspec.convert(data, cls, strict=False)
        numbers = (given.temperature, given.top_p, given.min_p, given.presence_penalty, given.frequency_penalty, *given.logit_bias.values())
        below = given.temperature < 0 or given.top_k < 0 or not 0 < given.repetition_penalty < math.inf
        if not all(map(math.isfinite, numbers)) or below or not 0 <= given.seed < 2**128:
            raise ValueError(f"sampling is not defined for {given}")
        return given


def session_seed(user_seed: int, model_id: bytes, choice: int) -> int:
    """128-bit seed: ``H(user seed, model id, choice index)``."""
    raw = keccak(user_seed.to_bytes(8, "little", signed=False) + model_id + choice.to_bytes(4, "little"))
    return int.from_bytes(raw[:16], "little")


def gumbel_noise(seed: int, position: int, vocabulary: int) -> Logits:
    """Gumbel noise float32 [vocabulary] for one position: Philox 4x64-10 keyed by the seed, with the position in the counter.

    Token ``t`` gets the ``t``-th 64-bit output, so its noise depends on nothing but (seed, position, token). The uniform keeps 53 bits and lies
    strictly inside (0, 1); logarithms are taken in float64 and rounded once.
    """
    source = np.random.Philox(key=seed, counter=position << 192)
    uniform = ((source.random_raw(vocabulary) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(-np.log(-np.log(uniform)), dtype=np.float32)


class History(NamedTuple):
    """What came before a token, and the tokens [vocabulary] that a grammar allows after that; None where there is no grammar."""

    generated: Sequence[int] = ()
    prompt: Sequence[int] = ()
    allowed: NDArray[np.bool_] | None = None


def sample(logits: Logits, parameters: SamplingParameters, position: int, history: History = History()) -> int:  # noqa: B008
    """The token at ``position``, the index of the row that the logits [vocabulary] float32 come from."""
    scores = _adjust(logits, parameters, history)
    if parameters.temperature == 0.0:
        return int(scores.argmax())
    scores = scores / np.float32(parameters.temperature)
    kept = kept_set(scores, parameters)
    noisy = np.where(kept, scores + gumbel_noise(parameters.seed, position, len(scores)), np.float32(-np.inf))
    return int(noisy.argmax())


def logprobs_of(logits: Logits, token: int, count: int) -> TokenLogprobs:
    """Of the token and of the ``count`` likeliest, likeliest first, by the logits [vocabulary] as the model gives them: log-softmax in float64."""
    scores = logits.astype(np.float64)
    scores -= scores.max()
    scores -= np.log(np.exp(scores).sum())
    best = np.argpartition(-scores, np.arange(count))[:count]
    return TokenLogprobs(float(scores[token]), [(int(i), float(scores[i])) for i in best])


def token_margin(logits: Logits, parameters: SamplingParameters, position: int, token: int, history: History = History()) -> float:  # noqa: B008
    """How far ``token`` is from being sampled: 0 where it is the one, else the best noisy score less its own.

    A token outside the kept set scores its distance to the cut. ``inf`` outside the vocabulary, or of what the grammar allows.
    """
    if not 0 <= token < len(logits):
        return float("inf")
    scores = _adjust(logits, parameters, history)
    if parameters.temperature == 0.0:
        return float(scores.max() - scores[token])
    scores = scores / np.float32(parameters.temperature)
    kept = kept_set(scores, parameters)
    if not kept[token]:
        return float(scores[kept].min() - scores[token])
    noisy = scores + gumbel_noise(parameters.seed, position, len(scores))
    return float(noisy[kept].max() - noisy[token])


def kept_set(scores: Logits, parameters: SamplingParameters) -> NDArray[np.bool_]:
    """Which tokens survive top-k, top-p and min-p, given scores after temperature. The most likely one always does."""
    kept = np.ones(len(scores), dtype=bool)
    by_rank, by_share = 0 < parameters.top_k < len(scores), parameters.top_p < 1.0 or parameters.min_p > 0.0
    if not by_rank and not by_share:
        return kept
    order = _likeliest_first(scores)
    if by_rank:
        kept[order[parameters.top_k :]] = False
    if by_share:
        live = order[kept[order]]
        weights = np.exp((scores[live] - scores[order[0]]).astype(np.float64))
        probabilities = weights / weights.sum()
        if parameters.top_p < 1.0:
            before = np.cumsum(probabilities) - probabilities
            kept[live[before >= parameters.top_p]] = False
        if parameters.min_p > 0.0:
            kept[live[probabilities < parameters.min_p * probabilities[0]]] = False
    kept[order[0]] = True
    return kept


def _likeliest_first(scores: Logits) -> NDArray[np.int64]:
    """Tokens by score, equal ones by id: a stable sort, as one of whole numbers, which numpy does several times as fast. A float's bits are in the
    order of the floats once the sign is turned (all bits of a negative one, the first of the others)."""
    bits = (np.float32(0) - scores).view(np.uint32).astype(np.uint64)
    ascending = np.where(bits >> np.uint64(31), bits ^ np.uint64(0xFFFFFFFF), bits | np.uint64(0x80000000))
    return (np.sort(ascending << np.uint64(32) | np.arange(len(scores), dtype=np.uint64)) & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _adjust(logits: Logits, parameters: SamplingParameters, history: History) -> Logits:
    scores, generated = logits.astype(np.float32, copy=True), history.generated
    if parameters.repetition_penalty != 1.0 and (seen := sorted({*history.prompt, *generated})):
        penalty = np.float32(parameters.repetition_penalty)
        scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    if generated and (parameters.presence_penalty or parameters.frequency_penalty):
        tokens, counts = np.unique(np.asarray(generated, dtype=np.int64), return_counts=True)
        scores[tokens] -= np.float32(parameters.presence_penalty) + np.float32(parameters.frequency_penalty) * counts.astype(np.float32)
    for token, bias in parameters.logit_bias.items():
        if 0 <= token < len(scores):
            scores[token] += np.float32(bias)
    if history.allowed is not None:
        scores[~history.allowed] = -np.inf
    return scores
