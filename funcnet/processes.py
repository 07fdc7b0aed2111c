"""Child processes: started in groups of their own, logged to files, and gone when we are."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from funcnet import FuncnetError

STOP_SECONDS = 8
PR_SET_CHILD_SUBREAPER = 36


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, each another: held until all are found, since one that was let go may be given again."""
    with contextlib.ExitStack() as held:
        listeners = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


def listening(port: int) -> bool:
    """Whether something answers at this machine's port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def adopt_orphans() -> None:
    """Make this process the parent of orphaned grandchildren (Linux), so that it can end and reap them as well."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans() -> None:
    """Collect what has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@dataclass
class Supervisor:
    """Starts processes by name; a name can be stopped and started again."""

    logs: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _commands: dict[str, tuple[Sequence[str], Mapping[str, str]]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process; its output goes to ``logs/<name>.log``."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes[name] = process
        self._commands[name] = (command, environment or {})
        return process

    def ended(self) -> list[str]:
        """Names of processes that ended by themselves."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def revive(self, name: str) -> None:
        """Start a process that ended again, as it was started before."""
        self.signal(name, signal.SIGKILL)  # a child may have outlived it and still hold its port
        self.start(name, *self._commands[name])

    def kill(self, name: str) -> None:
        """End the process at once, as a crash would."""
        self.signal(name, signal.SIGKILL)
        self.processes[name].wait()

    def wait(self, name: str, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until ``ready``. Raises FuncnetError with the log's end where the process ends or the time does."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.processes[name].poll() is not None:
                raise FuncnetError(f"{name} ended with status {self.processes[name].returncode}:\n{self.tail(name)}")
            if time.monotonic() > deadline:
                raise FuncnetError(f"{name}: {what} did not happen within {seconds:.0f} s; see {self.logs / f'{name}.log'}\n{self.tail(name)}")
            time.sleep(0.1)

    def tail(self, name: str, lines: int = 15) -> str:
        path = self.logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.is_file() else "(no log)"

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the process's whole group; one that is gone is no error."""
        process = self.processes[name]
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return

    def stop(self, name: str) -> None:
        """Ask the process to end, then make it."""
        process = self.processes[name]
        self.signal(name, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.signal(name, signal.SIGKILL)
            process.wait()
        # A child of the process may have outlived it.
        self.signal(name, signal.SIGKILL)
        del self.processes[name]

    def stop_all(self) -> None:
        """Stop everything, newest first; all are asked before any is waited for."""
        for name in reversed(self.processes):
            self.signal(name, signal.SIGTERM)
        for name in reversed(list(self.processes)):
            self.stop(name)
