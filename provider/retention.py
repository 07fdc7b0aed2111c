"""How long rows stay on disk: until the draw is over, and those of a drawn receipt until no dispute about it can be opened. Design section 4."""

from dataclasses import dataclass, field

import structlog

from protocol import Reverted
from protocol.chain import Chain, struct_values
from protocol.trees import batch_leaf
from provider.evidence import EvidenceStore
from provider.ledger import Ledger, StoredReceipt

log = structlog.get_logger()


@dataclass
class Retention:
    """Drops rows that nobody can ask for any more.

    A receipt is pinned when its rows were given to somebody with a duty or a seat, which the ledger notes before they are sent, or on chain by a
    drawn verifier whom this agent did not answer.
    """

    chain: Chain
    ledger: Ledger
    evidence: EvidenceStore
    provider: str
    _windows: tuple[int, int] | None = field(default=None, init=False)
    _anchored: dict[int, int] = field(default_factory=dict, init=False)
    """Of batches past their draw window, which no reorg reaches any more."""

    def sweep(self) -> int:
        """Drop what may go; how many receipts' rows went."""
        draw, dispute = self._read_windows()
        now, dropped = self.chain.clock(), 0
        for batch_id in self.ledger.kept_batches():
            age = now - self._anchored_at(batch_id)
            if age <= draw:
                break  # batches are numbered in the order of their anchoring: the rest is younger still
            self._anchored[batch_id] = now - age
            for stored in self.ledger.kept_receipts(batch_id):
                if age > dispute or not self._is_pinned(stored):
                    self.evidence.drop(self.evidence.root / stored.folder)
                    self.ledger.mark_dropped(stored.number)
                    dropped += 1
        kept = self.evidence.measure()
        if dropped:
            log.info("dropped rows that nobody drew or whose window is over", receipts=dropped, kept_bytes=kept)
        return dropped

    def _anchored_at(self, batch_id: int) -> int:
        """When a batch was anchored: never for one so old that the chain has written over it, just now for one that a reorg took away."""
        if batch_id in self._anchored:
            return self._anchored[batch_id]
        try:
            values = struct_values("CommitmentLog", "batch", self.chain.call("CommitmentLog", "batch", self.provider, batch_id))
        except Reverted:
            return 0 if batch_id < int(self.chain.call("CommitmentLog", "batchCount", self.provider)) else self.chain.clock()
        return int(values["anchoredAt"])

    def _is_pinned(self, stored: StoredReceipt) -> bool:
        if self.ledger.is_pinned(stored.number):
            return True
        leaf = batch_leaf(stored.receipt.struct_hash())
        return bool(self.chain.call("Pins", "pinnedUntil", self.provider, stored.batch_id, leaf))

    def _read_windows(self) -> tuple[int, int]:
        if self._windows is None:
            self._windows = int(self.chain.call("Pins", "pinWindow")), int(self.chain.call("Pins", "retention"))
        return self._windows
