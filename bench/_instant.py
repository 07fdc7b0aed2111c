"""An upstream that answers at once, in OpenAI's format: ``python -m bench._instant PORT``."""

import json
import sys
from typing import Any

from aiohttp import web

WORDS = ("an", " answer", " at", " once")


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-0", "object": kind, "created": 0, "model": "instant"}


async def _answer(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    if not asked.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": len(WORDS), "total_tokens": 10 + len(WORDS)}
        return web.json_response({**_head("chat.completion"), "choices": [choice], "usage": usage})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for i, word in enumerate(WORDS):
        delta = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": "stop" if i + 1 == len(WORDS) else None}
        await response.write(f"data: {json.dumps({**_head('chat.completion.chunk'), 'choices': [delta]})}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
