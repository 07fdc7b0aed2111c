"""How answers are laid out on the wire: chat completions, text completions, responses; whole, or as server-sent events."""

import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from api import ApiError, schema
from api.jobs import Job
from api.tools import ToolCall, ToolReader, ToolsOfModel

DONE = "data: [DONE]\n\n"


def event(body: dict[str, Any], name: str = "") -> str:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(body, separators=(',', ':'), ensure_ascii=False)}\n\n"


class Shape(Protocol):
    """An answer's layout; its choices are a job each. ``opening``: before the first text; ``piece``: some text of a choice; ``closing``: after the
    last; ``broken``: where one broke off."""

    def opening(self, jobs: Sequence[Job]) -> list[str]: ...

    def piece(self, job: Job, text: str) -> list[str]: ...

    def closing(self, jobs: Sequence[Job]) -> list[str]: ...

    def broken(self, job: Job, error: ApiError) -> list[str]: ...

    def whole(self, jobs: Sequence[Job], texts: Sequence[str]) -> dict[str, Any]: ...


def extra_of_all(jobs: Sequence[Job]) -> dict[str, Any]:
    """What the answer carries beside OpenAI's fields; of several choices their sums, and each choice's own in ``choices``."""
    each = [job.extra() for job in jobs]
    if len(each) == 1:
        return each[0]
    receipts = [entry for told in each for entry in told["receipts"]]
    cost, settled = str(sum(int(told["cost"]) for told in each)), all(told["settled"] for told in each)
    return {"job_id": each[0]["job_id"], "cost": cost, "settled": settled, "receipts": receipts, "choices": each}


class ChunkShape(ABC):
    """What chat and text completions share: chunks, usage in the last one, and an end that is no JSON. ``with_usage``: as OpenAI has it, once more
    in a chunk without choices."""

    whole_kind = chunk_kind = ""

    def __init__(self, with_usage: bool) -> None:
        self.with_usage = with_usage
        self.name = ""

    @abstractmethod
    def choice(self, job: Job, text: str | None, whole: bool = False) -> dict[str, Any]:
        """A choice without its index. ``text``: None at a stream's end."""

    def opening(self, jobs: Sequence[Job]) -> list[str]:
        self.name = jobs[0].id
        return []

    def piece(self, job: Job, text: str) -> list[str]:
        return [event(self._chunk(job, self.choice(job, text)))]

    def closing(self, jobs: Sequence[Job]) -> list[str]:
        ends = [self._chunk(job, self.choice(job, None)) for job in jobs]
        final = {**ends[-1], "usage": schema.usage_of_all([job.usage for job in jobs]), "function_network": extra_of_all(jobs)}
        again = [event({**final, "choices": []})] if self.with_usage else []
        return [*(event(end) for end in ends[:-1]), event(final), *again, DONE]

    def broken(self, _: Job, error: ApiError) -> list[str]:
        return [event(error.body()), DONE]

    def whole(self, jobs: Sequence[Job], texts: Sequence[str]) -> dict[str, Any]:
        choices = [{"index": job.index, **self.choice(job, text, whole=True)} for job, text in zip(jobs, texts, strict=True)]
        beside = {"usage": schema.usage_of_all([job.usage for job in jobs]), "function_network": extra_of_all(jobs)}
        return {**schema.head(jobs[0].id, jobs[0].model.name, self.whole_kind), "choices": choices, **beside}

    def _chunk(self, job: Job, choice: dict[str, Any]) -> dict[str, Any]:
        return {**schema.head(self.name, job.model.name, self.chunk_kind), "choices": [{"index": job.index, **choice}]}


class ChatShape(ChunkShape):
    """``chat.completion`` and its chunks. A tool call comes whole, in one piece."""

    whole_kind, chunk_kind = "chat.completion", "chat.completion.chunk"

    def __init__(self, with_usage: bool, tools: ToolsOfModel | None = None) -> None:
        super().__init__(with_usage)
        self.readers = Readers(tools)

    def opening(self, jobs: Sequence[Job]) -> list[str]:
        super().opening(jobs)
        role = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}
        return [event(self._chunk(job, role)) for job in jobs]

    def piece(self, job: Job, text: str) -> list[str]:
        return [event for part in self.readers.push(job, text) for event in self._part(job, part)]

    def closing(self, jobs: Sequence[Job]) -> list[str]:
        left = [event for job in jobs for part in self.readers.end(job) for event in self._part(job, part)]
        return [*left, *super().closing(jobs)]

    def choice(self, job: Job, text: str | None, whole: bool = False) -> dict[str, Any]:
        if whole:
            parts = [*self.readers.push(job, text or ""), *self.readers.end(job)]
            said, calls = "".join(part for part in parts if isinstance(part, str)), self.readers.calls(job)
            content: dict[str, Any] = {"message": {"role": "assistant", "content": None if calls and not said else said}}
            if calls:
                content["message"]["tool_calls"] = [call.plain() for call in calls]
        else:
            content = {"delta": {} if text is None else {"content": text}}
        finish = self.readers.finish(job) if whole or text is None else None
        return {**content, "finish_reason": finish, "logprobs": job.take_logprobs()}

    def _part(self, job: Job, part: str | ToolCall) -> list[str]:
        if isinstance(part, str):
            return super().piece(job, part)
        index = self.readers.calls(job).index(part)
        delta = {"delta": {"tool_calls": [{"index": index, **part.plain()}]}, "finish_reason": None, "logprobs": job.take_logprobs()}
        return [event(self._chunk(job, delta))]


class Readers:
    """Of each choice's tool calls; all is text where no tools were given."""

    def __init__(self, tools: ToolsOfModel | None) -> None:
        self.tools = tools
        self._readers: dict[int, ToolReader] = {}

    def push(self, job: Job, text: str) -> list[str | ToolCall]:
        if self.tools is None:
            return [text]
        if job.index not in self._readers:
            self._readers[job.index] = self.tools.reader()
        return self._readers[job.index].push(text)

    def end(self, job: Job) -> list[str | ToolCall]:
        """What was held back."""
        return self._readers[job.index].end() if job.index in self._readers else []

    def calls(self, job: Job) -> list[ToolCall]:
        return self._readers[job.index].calls if job.index in self._readers else []

    def finish(self, job: Job) -> str:
        """OpenAI's ``finish_reason``."""
        return "tool_calls" if self.calls(job) and job.outcome.finish == "stop" else job.outcome.finish


class TextShape(ChunkShape):
    """``text_completion``."""

    whole_kind = chunk_kind = "text_completion"

    def __init__(self, with_usage: bool) -> None:
        super().__init__(with_usage)
        self._offsets: Counter[str] = Counter()

    def choice(self, job: Job, text: str | None, whole: bool = False) -> dict[str, Any]:
        return {"text": text or "", "finish_reason": job.outcome.finish if whole or text is None else None, "logprobs": self._logprobs(job)}

    def _logprobs(self, job: Job) -> dict[str, Any] | None:
        told = job.take_logprobs()
        if told is None:
            return None
        offsets = []
        for entry in told["content"]:
            offsets.append(self._offsets[job.id])
            self._offsets[job.id] += len(entry["token"])
        return {
            "tokens": [entry["token"] for entry in told["content"]],
            "token_logprobs": [entry["logprob"] for entry in told["content"]],
            "top_logprobs": [{other["token"]: other["logprob"] for other in entry["top_logprobs"]} for entry in told["content"]],
            "text_offset": offsets,
        }


class ResponseShape:
    """``response`` and its events: messages with one part of text, and calls of functions. Each event is numbered and named by its type."""

    def __init__(self, request: schema.ResponsesRequest, tools: ToolsOfModel | None = None) -> None:
        self.request = request
        self.readers = Readers(tools)
        self.created = int(time.time())
        self.number = 0
        self.output: list[dict[str, Any]] = []
        """Items that are whole."""
        self.text: str | None = None
        """Of the message that is being written."""

    def opening(self, jobs: Sequence[Job]) -> list[str]:
        (job,) = jobs
        begun = self._response(job, "in_progress", [])
        return [self._event("response.created", response=begun), self._event("response.in_progress", response=begun)]

    def piece(self, job: Job, text: str) -> list[str]:
        return [event for part in self.readers.push(job, text) for event in self._part(job, part)]

    def closing(self, jobs: Sequence[Job]) -> list[str]:
        (job,) = jobs
        events, body = self._finish(job), self._whole(job)
        return [*events, self._event("response.incomplete" if body["incomplete_details"] else "response.completed", response=body)]

    def broken(self, job: Job, error: ApiError) -> list[str]:
        output = self.output if self.text is None else [*self.output, self._message(job, "incomplete", [_part(self.text)])]
        failed = self._response(job, "failed", output)
        return [self._event("response.failed", response={**failed, "error": {"code": error.code or "server_error", "message": error.message}})]

    def whole(self, jobs: Sequence[Job], texts: Sequence[str]) -> dict[str, Any]:
        (job,), (text,) = jobs, texts
        self.piece(job, text)
        self._finish(job)
        return self._whole(job)

    def _part(self, job: Job, part: str | ToolCall) -> list[str]:
        if isinstance(part, ToolCall):
            return [*self._end_message(job, "completed"), *self._call(job, part)]
        begun = self._begin_message(job) if self.text is None else []
        self.text = (self.text or "") + part
        return [*begun, self._event("response.output_text.delta", **self._place(job), delta=part, logprobs=[])]

    def _finish(self, job: Job) -> list[str]:
        events = [event for part in self.readers.end(job) for event in self._part(job, part)]
        if not self.output and self.text is None:
            events += self._begin_message(job)
        return [*events, *self._end_message(job, _status(job))]

    def _begin_message(self, job: Job) -> list[str]:
        self.text = ""
        return [
            self._event("response.output_item.added", output_index=len(self.output), item=self._message(job, "in_progress", [])),
            self._event("response.content_part.added", **self._place(job), part=_part("")),
        ]

    def _end_message(self, job: Job, status: str) -> list[str]:
        if self.text is None:
            return []
        place, part = self._place(job), _part(self.text)
        done = self._message(job, status, [part])
        events = [
            self._event("response.output_text.done", **place, text=self.text, logprobs=[]),
            self._event("response.content_part.done", **place, part=part),
            self._event("response.output_item.done", output_index=len(self.output), item=done),
        ]
        self.output.append(done)
        self.text = None
        return events

    def _call(self, job: Job, call: ToolCall) -> list[str]:
        index, name = len(self.output), f"fc_{job.id}_{len(self.output)}"
        item = {"id": name, "type": "function_call", "status": "completed", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        self.output.append(item)
        place = {"item_id": name, "output_index": index}
        return [
            self._event("response.output_item.added", output_index=index, item={**item, "status": "in_progress", "arguments": ""}),
            self._event("response.function_call_arguments.delta", **place, delta=call.arguments),
            self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments),
            self._event("response.output_item.done", output_index=index, item=item),
        ]

    def _whole(self, job: Job) -> dict[str, Any]:
        body, used = self._response(job, _status(job), self.output), job.usage
        body["usage"] = {
            "input_tokens": used["prompt_tokens"],
            "input_tokens_details": used["prompt_tokens_details"],
            "output_tokens": used["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used["total_tokens"],
        }
        return {**body, "function_network": job.extra()}

    def _event(self, kind: str, **members: Any) -> str:
        self.number += 1
        return event({"type": kind, "sequence_number": self.number - 1, **members}, kind)

    def _place(self, job: Job) -> dict[str, Any]:
        return {"item_id": self._name(job), "output_index": len(self.output), "content_index": 0}

    def _name(self, job: Job) -> str:
        """Of the message that is being written."""
        return f"msg_{job.id}_{len(self.output)}" if self.output else f"msg_{job.id}"

    def _message(self, job: Job, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._name(job), "type": "message", "status": status, "role": "assistant", "content": parts}

    def _response(self, job: Job, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        asked = self.request
        return {
            "id": f"resp_{job.id}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": job.model.name,
            "output": output,
            "parallel_tool_calls": asked.parallel_tool_calls,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": asked.temperature,
            "text": {"format": asked.text_format},
            "tool_choice": asked.tool_choice,
            "tools": [tool.model_dump() for tool in asked.tools],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None,
            "metadata": asked.metadata,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _status(job: Job) -> str:
    return "incomplete" if job.outcome.finish == "length" else "completed"
