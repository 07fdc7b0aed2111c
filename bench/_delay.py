"""Proxies that deliver what passes them later, in order: ``python -m bench._delay PORT=TARGET...``. Each line of its input sets the delay of one way
and its jitter, in milliseconds; without one there is none."""

import asyncio
import random
import sys

CHUNK = 1 << 16


class Link:
    """Of all proxies; seconds."""

    delay = jitter = 0.0


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivering, last = asyncio.create_task(deliver()), 0.0
    try:
        while True:
            data = await reader.read(CHUNK)
            last = max(last, loop.time() + Link.delay + random.uniform(-Link.jitter, Link.jitter))
            waiting.put_nowait((last, data))
            if not data:
                break
        await delivering
    except OSError:
        delivering.cancel()
        writer.close()


async def _proxy(port: int, target: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, forth), _pass_on(back, writer), return_exceptions=True)

    await asyncio.start_server(connected, "127.0.0.1", port)


async def main() -> None:
    for pair in sys.argv[1:]:
        port, target = pair.split("=")
        await _proxy(int(port), int(target))
    while line := await asyncio.to_thread(sys.stdin.readline):
        Link.delay, Link.jitter = (float(value) / 1000 for value in line.split())
        print("set", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
