"""Honest runs in bulk: several jobs decoded together through all stages, each job's rows kept at each boundary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from inference.classes import to_float32
from inference.executor import StageExecutor
from inference.replay import SampledClaim
from protocol.sampling import History, SamplingParameters, sample


@dataclass(frozen=True)
class Job:
    """One job: the prompt's token ids and how to sample."""

    prompt: list[int]
    sampling: SamplingParameters


@dataclass
class JobRows:
    """What a job's stages committed to, by stage: rows in ([n] token ids or [n, hidden]) and rows out, both in the stages' dtype.

    ``tokens`` were sampled at the positions ``len(prompt) - 1`` onwards; there is a row for each position but none for the last token.
    """

    job: Job
    rows_in: list[torch.Tensor]
    rows_out: list[torch.Tensor]
    tokens: list[int]

    @property
    def first(self) -> int:
        """The position of the row that the first token was sampled from."""
        return len(self.job.prompt) - 1

    @property
    def claim(self) -> SampledClaim:
        """What the last stage committed to."""
        return SampledClaim(to_float32(self.rows_out[-1])[self.first :], self.tokens, self.first, self.job.sampling)


Sampler = Callable[[JobRows, torch.Tensor, int], int]
"""Takes the job, its logits [vocab] and the position; gives the token."""


def sample_honestly(rows: JobRows, logits: torch.Tensor, position: int) -> int:
    return sample(logits.numpy(), rows.job.sampling, position, History(rows.tokens))


def encode(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text as a user's message, or as it is where the model has no chat template."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.chat_template:
        return [tokenizer(text)["input_ids"] for text in texts]
    chats = [[{"role": "user", "content": text}] for text in texts]
    return [tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"] for chat in chats]


def decode(stages: Sequence[StageExecutor], jobs: Sequence[Job], new_tokens: int, sampler: Sampler = sample_honestly) -> list[JobRows]:
    """Decode a ragged batch, padded on the left, for ``new_tokens`` steps; a batch of one is not padded and goes the way of a single session."""
    results = [JobRows(job, [], [], []) for job in jobs]
    sessions = [stage.open_session() for stage in stages]
    width = max(len(job.prompt) for job in jobs)
    mask = torch.tensor([[False] * (width - len(job.prompt)) + [True] * len(job.prompt) for job in jobs])
    feed = torch.tensor([[0] * (width - len(job.prompt)) + job.prompt for job in jobs])
    kept: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = [([], []) for _ in stages]
    for _ in range(new_tokens):
        rows = feed
        for stage, session, (ins, outs) in zip(stages, sessions, kept, strict=True):
            ins.append(rows)
            out = stage.forward_batch(session, rows, mask if len(jobs) > 1 else None)
            rows = out.rows
            outs.append(rows)
        assert out.logits is not None
        for index, (result, logits) in enumerate(zip(results, out.logits[:, -1], strict=True)):
            position = len(result.job.prompt) - 1 + len(result.tokens)
            result.tokens.append(sampler(results[index], logits, position))
        feed = torch.tensor([[result.tokens[-1]] for result in results])
        mask = torch.ones(len(jobs), 1, dtype=torch.bool)
    for ins, outs in kept:
        all_in, all_out = torch.cat(ins, dim=1), torch.cat(outs, dim=1)
        for index, result in enumerate(results):
            skip = width - len(result.job.prompt)
            result.rows_in.append(all_in[index, skip:])
            result.rows_out.append(all_out[index, skip:])
    return results
