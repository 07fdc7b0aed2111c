"""The local chain: anvil, mined once a second, with a state file that outlives a crash.

anvil's own ``--state-interval`` reads blocks and accounts at two moments. Killed after a block was mined in between, it comes back with all that the
block's transactions did but without the block: their events are gone for good, and whoever counts on them waits for ever. It also writes in place,
so that a kill may leave half a file. Here nothing is mined while the state is read, and the file is replaced whole.
"""

import argparse
import ctypes
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from funcnet import FuncnetError
from funcnet.processes import listening

BLOCK_SECONDS = 1.0
SAVING_SHARE = 0.05
"""The most of the time that goes into saving: the state grows with the chain."""
PR_SET_PDEATHSIG = 1


@dataclass
class DevChain:
    """An anvil that mines when it is told to, and its state in a file."""

    port: int
    state: Path
    anvil: subprocess.Popen[bytes]
    http: requests.Session = field(default_factory=requests.Session)

    def mine(self) -> None:
        """A block a second, and the state saved after it. Raises FuncnetError where anvil ends or does not answer."""
        while self._runs() and not listening(self.port):
            time.sleep(0.05)
        due, save_at = time.monotonic(), 0.0
        while self._runs():
            self.rpc("evm_mine")
            if (began := time.monotonic()) >= save_at:
                self.save()
                save_at = began + (time.monotonic() - began) / SAVING_SHARE
            due = max(due + BLOCK_SECONDS, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _runs(self) -> bool:
        if self.anvil.poll() is not None:
            raise FuncnetError(f"anvil ended with status {self.anvil.returncode}")
        return True

    def save(self) -> None:
        """Write the state beside the file, then put it in its place."""
        packed = bytes.fromhex(self.rpc("anvil_dumpState").removeprefix("0x"))
        fresh = self.state.with_suffix(".new")
        fresh.write_bytes(zlib.decompress(packed, zlib.MAX_WBITS | 16))
        fresh.replace(self.state)

    def rpc(self, method: str) -> Any:
        question: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": []}
        try:
            answer = self.http.post(f"http://127.0.0.1:{self.port}", json=question, timeout=60).json()
        except requests.RequestException as error:
            raise FuncnetError(f"anvil does not answer {method}: {error}") from error
        if "error" in answer:
            raise FuncnetError(f"anvil refuses {method}: {answer['error']}")
        return answer["result"]


def main() -> None:
    """Run anvil until SIGTERM. What follows ``--`` is its command line but for port, mining and state."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="read at the start where it exists")
    parser.add_argument("anvil", nargs="+")
    told = parser.parse_args()
    command = [*told.anvil, "--port", str(told.port), "--no-mining", *(["--load-state", str(told.state)] if told.state.is_file() else [])]
    if listening(told.port):
        raise FuncnetError(f"port {told.port} is in use: another chain would be mined and saved in this one's place")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    # In a group of its own, so that what ends us lets it live until its state is saved; yet it must not outlive us.
    anvil = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent)
    chain = DevChain(told.port, told.state, anvil)
    try:
        chain.mine()
    except SystemExit:
        chain.save()
    finally:
        anvil.kill()
        anvil.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
