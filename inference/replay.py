"""Replay one stage from its committed rows in: one teacher-forced pass from position 0. Design section 4, "Replay"."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from inference.classes import REFERENCES, ExecutionClass, to_float32
from inference.compare import Replay, Rows
from inference.devices import CPU
from inference.encoder import open_stage
from inference.executor import PASS_ROWS, StageExecutor, passes
from inference.linears import unblocked
from protocol.grammar import Grammar
from protocol.manifest import Manifest
from protocol.sampling import History, SamplingParameters, token_margin
from protocol.units import LayerRange

HEAD_NOISE = 16 * torch.finfo(torch.float32).eps
"""float32 logits are off by about this share of the greatest: sums of a few hundred products, in an order that is the machine's own."""

VARIANTS = 32
"""How many variants of honest work a FAIL is held against: so many that how far they are spread is known, too."""

HEAD_ROWS = 256
"""Rows in one pass through the head, whose logits take a vocabulary each: memory stays bounded for long jobs."""


@dataclass(frozen=True)
class SampledClaim:
    """What a last stage committed to: ``final_rows`` [k, hidden], final-norm, at the positions from ``first`` on, from each of which one of
    ``tokens`` was sampled by ``parameters``; ``before``: the completion tokens that came before them; ``grammar``: as far as those go."""

    final_rows: Rows
    tokens: Sequence[int]
    first: int
    parameters: SamplingParameters
    before: Sequence[int] = ()
    prompt: Sequence[int] = ()
    grammar: Grammar | None = None


@dataclass
class StageReplayer:
    """One stage: ``reference`` in float32; for what is less precise ``twin`` in the declared precision, and ``probe`` with int8 weights where those
    are not declared."""

    reference: StageExecutor
    twin: StageExecutor | None
    probe: StageExecutor | None = None

    @classmethod
    def load(
        cls, folder: Path, layers: LayerRange, execution: ExecutionClass, manifest: Manifest | None = None, device: torch.device = CPU
    ) -> "StageReplayer":
        """Raises LoadError, TensorMismatch or CutError."""
        return cls.of(execution, lambda dtype, int8: open_stage(folder, layers, dtype, manifest, int8=int8, device=device))

    @classmethod
    def of(cls, execution: ExecutionClass, stage: Callable[[torch.dtype, bool], StageExecutor]) -> "StageReplayer":
        """From whatever loads, or has loaded, the stage in a dtype, with or without int8 weights."""
        reference = REFERENCES[execution.dtype]
        twin = None if reference == execution.dtype else stage(execution.dtype, execution.int8)
        # Without a twin int8 weights lie four orders of magnitude above what is honest: nothing needs to be looked for.
        probe = None if twin is None or execution.int8 else stage(reference, True)
        return cls(stage(reference, execution.int8), twin, probe)

    @property
    def layers(self) -> LayerRange:
        return self.reference.stage.layers

    @property
    def is_last(self) -> bool:
        return self.reference.stage.is_last

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn from its rows out."""
        return self.is_last and self.reference.encoder is None

    def replay(self, rows_in: torch.Tensor) -> Replay:
        """Run all rows in, [n] token ids or [n, hidden], at once."""
        return self.replay_batch([rows_in])[0]

    def replay_batch(self, jobs: Sequence[torch.Tensor]) -> list[Replay]:
        """Replay several jobs' rows in, jobs of a length together, in passes of at most ``PASS_ROWS`` rows with their padding."""
        found: dict[int, Replay] = {}
        alone = self.reference.encoder is not None  # what is behind a text changes all of it
        for chosen in [[i] for i in range(len(jobs))] if alone else passes([len(rows) for rows in jobs]):
            rows = torch.nn.utils.rnn.pad_sequence([jobs[i] for i in chosen], batch_first=True)
            runs = [None if executor is None else _run(executor, rows) for executor in (self.reference, self.twin, self.probe)]
            for at, i in enumerate(chosen):
                count = len(jobs[i])
                # Attention is causal, so the padding behind a job's rows changes nothing before it.
                found[i] = Replay(*(None if run is None else run[at, :count].copy() for run in runs))  # type: ignore[arg-type]
        return [found[i] for i in range(len(jobs))]

    def variants(self, rows_in: torch.Tensor, count: int = VARIANTS) -> list[Rows]:
        """What ``count`` other honest machines might give for these rows in, [n, hidden] each: with each number that the first layer takes off by up
        to half of its last bit, by two attention kernels and, in float32, two libraries in equal shares. Of an encoder's texts, one machine more,
        which runs them one by one."""
        executor, source, found = self.twin or self.reference, torch.Generator().manual_seed(1), []
        # An encoder's texts are a batch already.
        at_once = 1 if executor.encoder is not None else max(1, PASS_ROWS // len(rows_in))
        usual = str(executor.stage.model.config._attn_implementation)
        ways = list(product(("eager", usual), (True, False) if executor.dtype is torch.float32 else (True,)))
        machines = count // len(ways)
        with executor.moving(lambda rows: _moved(rows, source)):
            for kernel, onednn in ways:
                with executor.attending(kernel), nullcontext() if onednn else unblocked(executor.stage.model):
                    for first in range(0, machines, at_once):
                        found += list(_run(executor, rows_in.expand(min(at_once, machines - first), *rows_in.shape)))
        if executor.encoder is not None:
            texts = rows_in.tensor_split(executor.encoder.starts(rows_in.tolist())[1:])
            found.append(np.concatenate([_run(executor, text[None])[0] for text in texts]))
        return found

    def margins(self, claims: Sequence[SampledClaim]) -> list[list[float]]:
        """How far each token of each claim is from being sampled, in units of the noise of its logits.

        The rows are compared by themselves, so only the head and the sampling are left to judge here. The noise is the root mean square, over the
        vocabulary, of what the twin's logits differ by.
        """
        rows = torch.from_numpy(np.concatenate([claim.final_rows[: len(claim.tokens)] for claim in claims]))
        places = [(i, at) for i, claim in enumerate(claims) for at in range(len(claim.tokens))]
        found: list[list[float]] = [[] for _ in claims]
        for start in range(0, len(places), HEAD_ROWS):
            exact, noise = self._head(rows[start : start + HEAD_ROWS])
            for (i, at), logits, unit in zip(places[start : start + HEAD_ROWS], exact, noise, strict=True):
                claim = claims[i]
                allowed = None if claim.grammar is None else claim.grammar.allowed()
                history = History([*claim.before, *claim.tokens[:at]], claim.prompt, allowed)
                margin = token_margin(logits, claim.parameters, claim.first + at, claim.tokens[at], history)
                if claim.grammar is not None:
                    claim.grammar.accept(claim.tokens[at])
                found[i].append(margin * (claim.parameters.temperature or 1.0) / unit)
        return found

    def _head(self, rows: torch.Tensor) -> tuple[Rows, list[float]]:
        """Logits [n, vocab] of final-norm rows [n, hidden], and how large each row's noise is."""
        exact = self.reference.head(rows)
        if self.twin is None:
            noise = exact.abs().amax(dim=1) * HEAD_NOISE
        else:
            noise = (exact - self.twin.head(rows.to(self.twin.dtype)).float()).pow(2).mean(dim=1).sqrt()
        return exact.numpy(), noise.clamp(min=1e-12).tolist()


def _run(executor: StageExecutor, rows: torch.Tensor) -> Rows:
    """Rows out, [b, n, hidden], of rows in, [b, n] token ids or [b, n, hidden]."""
    rows = rows if rows.dim() == 2 else rows.to(executor.dtype)
    return to_float32(executor.forward_batch(executor.open_session(), rows, None).rows)


def _moved(rows: torch.Tensor, source: torch.Generator) -> torch.Tensor:
    """Each number off by up to half of its last bit."""
    noise = 2 * torch.rand(rows.shape, generator=source, dtype=torch.float64).to(rows.device) - 1
    return (rows.double() * (1 + torch.finfo(rows.dtype).eps / 2 * noise)).to(rows.dtype)
