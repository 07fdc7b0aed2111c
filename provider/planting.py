"""Faults on purpose, asked for and paid by the treasury. The only lies that this agent knows how to tell.

A planter's file lies in the ``plants`` folder of the agent's data. The agent lies in one job of the payer that it names, if that payer signed for it,
and only once the plant is noted on chain: from then on neither can accuse this provider of it, since the agent opens the plant by itself as soon as
judges have convicted.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from eth_account.signers.local import LocalAccount

from protocol import BadSignature, ProtocolError, Reverted
from protocol.chain import Chain, struct_values
from protocol.disputes import Dispute, DisputeReader, Outcome, Status
from protocol.plants import Plant
from protocol.receipts import SessionOffer

log = structlog.get_logger()

ERROR = 0.1
"""How far a planted row is from the true one, relative to its norm: far above every limit, and no reader of the text would see it."""


@dataclass
class Planting:
    """The plants of one agent: ``NAME.json`` from the planter, and ``NAME.job`` once a job was chosen for it. Both go when no dispute can come."""

    chain: Chain
    account: LocalAccount
    provider: str
    folder: Path
    disputes: DisputeReader

    def choose(self, offer: SessionOffer) -> Plant | None:
        """The plant that the offered job is to carry, if any; the choice is on disk before it is answered."""
        for file in sorted(self.folder.glob("*.json")):
            plant, mark = self._read(file), file.with_suffix(".job")
            if plant is None or plant.payer != offer.payer:
                continue
            if mark.is_file() and mark.read_text() != offer.job_id.hex():
                continue
            if not mark.is_file():
                if not self._could_be_opened(plant):
                    continue
                mark.write_text(offer.job_id.hex())
            log.warning("a planted fault goes into this job", job=offer.job_id.hex()[:16], plant=file.name)
            return plant
        return None

    def open_convicted(self) -> int:
        """Open each plant whose receipt was convicted, so that the verdict is never carried out; how many."""
        opened, chosen = 0, sorted(self.folder.glob("*.job"))
        # Plants wait for weeks; disputes are walked only while there is one against this provider.
        convicted = self._convicted() if chosen and self.chain.call("Staking", "openDisputes", self.provider) else {}
        for mark in chosen:
            file = mark.with_suffix(".json")
            plant = self._read(file)
            if plant is not None:
                opened += sum(self._open(plant, dispute) for dispute in convicted.get(mark.read_text(), []))
            if time.time() - mark.stat().st_mtime > int(self.chain.call("Pins", "retention")):
                file.unlink(missing_ok=True)
                mark.unlink()
        return opened

    def _open(self, plant: Plant, dispute: Dispute) -> bool:
        try:
            digest = self.chain.send(self.account, "Plants", "reveal", dispute.claim, plant.salt, plant.consent)
        except Reverted as error:
            if error.error != "WrongStatus":
                raise
            return False  # somebody was faster
        log.warning("opened a plant", dispute=dispute.dispute_id, tx=digest)
        return True

    def _convicted(self) -> dict[str, list[Dispute]]:
        """Disputes against this provider that judges have decided against it and that are not carried out yet, by job."""
        found: dict[str, list[Dispute]] = {}
        for dispute in self.disputes.all():
            if dispute.provider == self.provider and dispute.status == Status.JUDGED and dispute.outcome != Outcome.INNOCENT:
                found.setdefault(dispute.job_id.hex(), []).append(dispute)
        return found

    def _could_be_opened(self, plant: Plant) -> bool:
        """Whether the contract would open the plant now: a lie that it would not cover costs the stake."""
        try:
            plant.require_consent(self.chain)
        except BadSignature as error:
            log.warning("a plant that nobody could open", payer=plant.payer, reason=str(error))
            return False
        state = struct_values("Plants", "plant", self.chain.call("Plants", "plant", plant.digest))
        return bool(state["notedAt"]) and not state["revealedAt"] and int(state["planter"], 16) != 0

    def _read(self, file: Path) -> Plant | None:
        try:
            plant = Plant.read(file)
        except ProtocolError as error:
            log.warning("not a plant", file=file.name, reason=str(error))
            return None
        return plant if plant.provider == self.provider else None


def spoil(rows: torch.Tensor, salt: bytes, first: int) -> torch.Tensor:
    """Rows ``(n, hidden)`` from position ``first`` on, each moved by ERROR of its norm in a direction that only the salt tells."""
    moved = rows.clone()
    for i in range(len(rows)):
        noise = np.random.default_rng([*salt, first + i]).standard_normal(rows.shape[1])
        direction = torch.from_numpy(noise / np.linalg.norm(noise)).to(torch.float32)
        moved[i] = (rows[i].to(torch.float32) + ERROR * rows[i].to(torch.float32).norm() * direction).to(rows.dtype)
    return moved
