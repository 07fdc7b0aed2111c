import subprocess
import sys

READERS = """
import sys, threading
import msgspec
from protocol.messages import Message

sys.setswitchinterval(1e-6)
for _ in range(2_000):
    class Inner(Message, frozen=True):
        a: int
        b: str | None = None
    class Outer(Message, frozen=True):
        a: str
        b: list[Inner]
        c: bytes
        d: int | None = None
        e: tuple[str, ...] = ()
    start = threading.Barrier(3)
    def read():
        start.wait()
        found.append(msgspec.json.decode(b'{"a":"x","b":[{"a":1,"b":"y"}],"c":"","d":1,"e":["q"]}', type=Outer))
    found = []
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert len(found) == 3
"""


def test_message__first_read_by_several_threads_at_once__is_read_by_each() -> None:
    ended = subprocess.run([sys.executable, "-c", READERS], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, (ended.returncode, ended.stderr[-2000:])
