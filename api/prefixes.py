"""Which prompts begin like an earlier job of the same payer: its stages may still have the rows, and need not run them again.

A hash chain over blocks of tokens, seeded with payer and model, names each beginning of a job, the newest job that has it. What is kept here is a
guess: a stage that has dropped the rows says so, and the job is opened without them.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from protocol.rows import CHECKPOINT_EVERY, token_payload
from protocol.typed import ZERO32
from protocol.wire import RouteStop

BLOCK = CHECKPOINT_EVERY
MOST_JOBS = 1_000


@dataclass(frozen=True)
class Prefix:
    """``tokens`` first rows of a job, which the stages of ``route`` served from position 0 on."""

    job_id: bytes = ZERO32
    tokens: int = 0
    route: tuple[RouteStop, ...] = ()


NOTHING = Prefix()


@dataclass
class Prefixes:
    """Of the jobs that ended last."""

    _blocks: dict[bytes, Prefix] = field(default_factory=dict)
    _jobs: OrderedDict[bytes, list[bytes]] = field(default_factory=OrderedDict)
    """The chain of each job."""

    def keep(self, payer: str, model_id: bytes, job_id: bytes, tokens: Sequence[int], route: Sequence[RouteStop]) -> None:
        """Note that the stages of ``route`` have rows of these tokens."""
        chain = list(_chain(payer, model_id, tokens))
        self._jobs[job_id] = chain
        for count, digest in enumerate(chain, 1):
            self._blocks[digest] = Prefix(job_id, count * BLOCK, tuple(route))
        while len(self._jobs) > MOST_JOBS:
            self.forget(next(iter(self._jobs)))

    def find(self, payer: str, model_id: bytes, prompt: Sequence[int]) -> Prefix:
        """The longest known beginning of a prompt that leaves a token to be run, NOTHING where there is none."""
        found = NOTHING
        for digest in _chain(payer, model_id, prompt[:-1]):
            found = self._blocks.get(digest, found)
        return found

    def forget(self, job_id: bytes) -> None:
        for digest in self._jobs.pop(job_id, ()):
            if self._blocks.get(digest, NOTHING).job_id == job_id:
                del self._blocks[digest]


def _chain(payer: str, model_id: bytes, tokens: Sequence[int]) -> Iterator[bytes]:
    """A digest for each whole block, over all tokens up to its end."""
    digest = payer.encode() + model_id
    for end in range(BLOCK, len(tokens) + 1, BLOCK):
        digest = blake2b(digest + b"".join(map(token_payload, tokens[end - BLOCK : end])), digest_size=32).digest()
        yield digest
