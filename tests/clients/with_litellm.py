"""LiteLLM as a client: ``python with_litellm.py URL KEY MODEL ENCODER``. Run by tests/network/test_others.py under an environment of its own."""

import json
import sys
from typing import Any

import litellm

url, key, model, encoder = sys.argv[1:]
litellm.suppress_debug_info = True
common: dict[str, Any] = {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": key, "timeout": 60, "num_retries": 0}
question = [{"role": "user", "content": "Name three colours."}]
weather = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"], "additionalProperties": False}
tool = {"type": "function", "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": weather}}
number = {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False}
form = {"type": "json_schema", "json_schema": {"name": "number", "schema": number, "strict": True}}

whole = litellm.completion(**common, messages=question, max_tokens=8, temperature=0)
chunks = list(litellm.completion(**common, messages=question, max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True}))
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
called = litellm.completion(
    **common, messages=question, max_tokens=60, temperature=0, tools=[tool], tool_choice="required", parallel_tool_calls=False
)
fitted = litellm.completion(**common, messages=question, max_tokens=30, temperature=0, response_format=form)
scored = litellm.completion(**common, messages=question, max_tokens=2, temperature=0, logprobs=True, top_logprobs=2)
vectors = litellm.embedding(**{**common, "model": f"openai/{encoder}"}, input=["A cat.", "A dog."], encoding_format="float")
faults = []
for change in ({"model": "openai/no-such-model"}, {"api_key": "fn-mistyped"}, {"max_tokens": 0}):
    try:
        litellm.completion(**{**common, "messages": question, **change})
    except Exception as error:
        faults.append(type(error).__name__)
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "streamed": streamed,
            "usage": whole.usage.completion_tokens,
            "stream_usage": next(chunk.usage.completion_tokens for chunk in reversed(chunks) if getattr(chunk, "usage", None)),
            "call": json.loads(called.choices[0].message.tool_calls[0].function.arguments),
            "finish": called.choices[0].finish_reason,
            "fitted": json.loads(fitted.choices[0].message.content),
            "logprobs": len(scored.choices[0].logprobs.content[0].top_logprobs),
            "vectors": [len(entry["embedding"]) for entry in vectors.data],
            "faults": faults,
        }
    )
)
