"""The loop around Follower.step; what it last stumbled over is kept for /readyz."""

import threading
import time

import psycopg
import structlog

from indexer import FinalityBroken, Retryable
from indexer.epochs import Seals
from indexer.follow import Follower
from indexer.store import Cursor
from protocol import ProtocolError

log = structlog.get_logger()

LAG_BLOCKS = 128
"""Further behind the chain than that, the figures are not to be relied on."""


class Following(threading.Thread):
    """Steps when it is woken, and at the latest after ``pause`` seconds."""

    def __init__(self, follower: Follower, pause: float) -> None:
        super().__init__(name="follow", daemon=True)
        self.follower = follower
        self.pause = pause
        self.woken = threading.Event()
        self.stopping = threading.Event()
        self.leading = False
        self.faults = 0
        self.live_seconds = 0.0
        self._fault: str | None = "not started"
        self._sealed = -1

    @property
    def cursor(self) -> Cursor | None:
        """Where the tables stand, as last seen."""
        return self.follower.cursor

    @property
    def fault(self) -> str | None:
        """Why the figures are not to be relied on; None where they are."""
        if self._fault is not None:
            return self._fault
        cursor = self.cursor
        if cursor is None:
            return "nothing is indexed yet"
        if cursor.halted:
            return cursor.halted
        if cursor.head - cursor.number > LAG_BLOCKS:
            return f"catching up: at block {cursor.number} of {cursor.head}"
        return None

    def run(self) -> None:
        while not self.stopping.is_set():
            began = time.monotonic()
            more = self._step()
            if more:
                self.live_seconds = time.monotonic() - began
                continue
            self.woken.wait(self.pause)
            self.woken.clear()
        self.follower.store.close()

    def stop(self) -> None:
        """End after the step that runs."""
        self.stopping.set()
        self.woken.set()
        self.join(5)

    def _step(self) -> bool:
        """Whether something was written."""
        try:
            was = self.cursor
            more = self.follower.step()
            self.leading = self.follower.store.leads
            if self.leading:
                self._seal()
            self._fault = None
            return more or self.cursor != was
        except FinalityBroken as error:
            self._stumble(str(error))
        except (Retryable, ProtocolError, psycopg.Error) as error:
            self._stumble(str(error) or type(error).__name__)
        except Exception as error:
            # A thread that ends would leave /readyz at what it last said.
            log.exception("will try again")
            self._stumble(repr(error))
        return False

    def _stumble(self, reason: str) -> None:
        if reason != self._fault:
            log.warning("will try again", reason=reason)
        self._fault = reason
        self.faults += 1

    def _seal(self) -> None:
        cursor = self.cursor
        if cursor is not None and cursor.finalized > self._sealed:
            Seals(self.follower.constants).seal(self.follower.store.connection, cursor.finalized)
            self._sealed = cursor.finalized
