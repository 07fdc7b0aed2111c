"""Notices of new heads over WebSocket. They only wake the follower: where they fail, it looks by itself after its pause."""

import json
import threading

import structlog
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

log = structlog.get_logger()

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


class Heads(threading.Thread):
    """Sets ``woken`` at each notice of a node; connects again, later each time, when the connection breaks."""

    def __init__(self, url: str, woken: threading.Event) -> None:
        super().__init__(name="heads", daemon=True)
        self.url = url
        self.woken = woken
        self.connected = False
        self.stopping = threading.Event()

    def run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self.stopping.is_set():
            try:
                self._listen()
                pause = FIRST_PAUSE_SECONDS
            except (OSError, WebSocketException, ValueError) as error:
                log.info("no notices of new heads; looking every now and then instead", url=self.url, reason=str(error) or type(error).__name__)
            self.connected = False
            self.stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _listen(self) -> None:
        with connect(self.url, open_timeout=5) as socket:
            socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}))
            answer = json.loads(socket.recv(timeout=5))
            if "error" in answer:
                raise ValueError(f"the node refuses eth_subscribe: {answer['error'].get('message')}")
            self.connected = True
            for _ in socket:
                self.woken.set()
                if self.stopping.is_set():
                    return
