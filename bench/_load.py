"""Clients that ask as fast as they are answered: ``python -m bench._load URL KEY MODEL CLIENTS SECONDS STREAM``. Ends with one line of JSON: seconds
to the first byte of the answer's body and to its end, of each request, and how long all took."""

import asyncio
import json
import sys
import time

import aiohttp

MAX_TOKENS = 4


async def client(session: aiohttp.ClientSession, url: str, body: dict[str, object], until: float, first: list[float], whole: list[float]) -> None:
    while (began := time.perf_counter()) < until:
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            chunk = await answer.content.readany()
            if answer.status != 200:
                raise SystemExit(f"{url} answered with status {answer.status}: {chunk[:300]!r}")
            at = time.perf_counter()
            while await answer.content.readany():
                pass
        first.append(at - began)
        whole.append(time.perf_counter() - began)


async def main() -> None:
    url, key, model, clients, seconds, stream = sys.argv[1:]
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "Say something."}], "max_tokens": MAX_TOKENS}
    first: list[float] = []
    whole: list[float] = []
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}, connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        asks = [client(session, url, {**body, "stream": stream == "1"}, began + float(seconds), first, whole) for _ in range(int(clients))]
        await asyncio.gather(*asks)
        print(json.dumps({"first": first, "whole": whole, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    asyncio.run(main())
