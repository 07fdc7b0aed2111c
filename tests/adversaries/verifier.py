"""A verifier that cheats in its duties: ``python -m tests.adversaries.verifier NAME app|worker``, with the settings of a verifier.

It judges disputes honestly: in a network as small as the tests' one judge that lies only ever blocks a verdict, which tests of the contracts cover.
A verifier that copies is not among them: there is nothing to copy from before its own root is posted, as tests of openings and disputes hold.
"""

import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from inference.compare import Verdict
from protocol.wire import DUTY
from verifier import app, worker
from verifier.checks import Ask, Checking, CheckResult
from verifier.duty import Duties

UNSEEN = {"passes-all": Verdict.PASS, "accuses-all": Verdict.FAIL}
"""The verdict on everything, without having looked at it."""


def _decides_unseen(verdict: Verdict) -> None:
    honest = Checking.run

    async def run(self: Checking, asks: Sequence[Ask]) -> AsyncIterator[Any]:
        for ask in asks:
            if ask.key.dispute_id == DUTY:
                # A commitment to nothing, so that the root looks like any other.
                commitment, opening = secrets.token_bytes(32), secrets.token_bytes(32)
                self.committed(ask.key, commitment, opening)
                yield ask.key, CheckResult(verdict, commitment, opening, {"reason": "unseen"})
        async for result in honest(self, [ask for ask in asks if ask.key.dispute_id != DUTY]):
            yield result

    Checking.run = run  # type: ignore[method-assign]


def _skips() -> None:
    """Draw no duties, and post the roots of having none: the pay without the work."""
    Duties._batches = lambda self, epoch: []  # type: ignore[method-assign]


def main() -> None:
    name, part = sys.argv[1:] if len(sys.argv) == 3 else ("", "")
    if (name not in UNSEEN and name != "skips") or part not in ("app", "worker"):
        sys.exit(f"adversary {name!r} {part!r} is not known; give one of {', '.join([*UNSEEN, 'skips'])} and app or worker")
    if name == "skips":
        _skips()
    else:
        _decides_unseen(UNSEEN[name])
    (app if part == "app" else worker).main()


if __name__ == "__main__":
    main()
