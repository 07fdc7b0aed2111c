"""A verifier that cheats in its duties: ``python -m tests.adversaries.verifier NAME app|worker``, with the settings of a verifier.

It judges disputes honestly: in a network as small as the tests' one judge that lies only ever blocks a verdict, which tests of the contracts cover.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import requests

from inference.compare import Verdict
from protocol.duties import DutyOpening
from protocol.members import active_members
from protocol.wire import DUTY
from verifier import app, worker
from verifier.checks import Ask, Checking, CheckResult
from verifier.duty import Duties
from verifier.store import CheckKey

EPOCHS_TO_COPY = 24
UNSEEN = {"passes-all": Verdict.PASS, "accuses-all": Verdict.FAIL, "decides-nothing": Verdict.INCONCLUSIVE}
"""The verdict on everything, without having looked at it."""


async def _unseen(checking: Checking, key: CheckKey, verdict: Verdict) -> AsyncIterator[tuple[CheckKey, CheckResult]]:
    """A commitment to nothing, so that the root looks like any other."""
    commitment, opening = secrets.token_bytes(32), secrets.token_bytes(32)
    checking.committed(key, commitment, opening)
    yield key, CheckResult(verdict, commitment, opening, {"reason": "unseen"})


def _decides_unseen(verdict: Verdict) -> None:
    honest = Checking.run

    async def run(self: Checking, asks: Sequence[Ask]) -> AsyncIterator[Any]:
        for ask in asks:
            if ask.key.dispute_id == DUTY:
                async for result in _unseen(self, ask.key, verdict):
                    yield result
        async for result in honest(self, [ask for ask in asks if ask.key.dispute_id != DUTY]):
            yield result

    Checking.run = run  # type: ignore[method-assign]


def _skips() -> None:
    """Draw no duties, and post the roots of having none: the pay without the work."""
    Duties._batches = lambda self, epoch: []  # type: ignore[method-assign]


def _copied(checking: Checking, key: CheckKey) -> str | None:
    """What another verifier shows of the same receipt by now."""
    chain = checking.client.chain
    epoch = chain.call("VerifierSet", "currentEpoch")
    for member in active_members(chain, epoch).values():
        for drawn_in in range(max(0, epoch - EPOCHS_TO_COPY), epoch):
            answer = requests.get(f"{member.endpoint}/v1/duties/{drawn_in}", timeout=3)
            if answer.status_code == 200 and (found := DutyOpening.from_json(answer.json()).find(key.provider, key.number)):
                return found[0].verdict
    return None


def _copies() -> None:
    """Say what somebody else found, and PASS where nobody shows anything yet."""
    honest = Checking.run

    async def run(self: Checking, asks: Sequence[Ask]) -> AsyncIterator[Any]:
        for ask in asks:
            if ask.key.dispute_id == DUTY:
                verdict = Verdict(await asyncio.to_thread(_copied, self, ask.key) or Verdict.PASS)
                async for result in _unseen(self, ask.key, verdict):
                    yield result
        async for result in honest(self, [ask for ask in asks if ask.key.dispute_id != DUTY]):
            yield result

    Checking.run = run  # type: ignore[method-assign]


def main() -> None:
    name, part = sys.argv[1:] if len(sys.argv) == 3 else ("", "")
    if (name not in UNSEEN and name not in ("skips", "copies")) or part not in ("app", "worker"):
        sys.exit(f"adversary {name!r} {part!r} is not known; give one of {', '.join([*UNSEEN, 'skips', 'copies'])} and app or worker")
    if name == "skips":
        _skips()
    elif name == "copies":
        _copies()
    else:
        _decides_unseen(UNSEEN[name])
    (app if part == "app" else worker).main()


if __name__ == "__main__":
    main()
