"""Who may see evidence: a verifier with a duty, a seated committee, the payer. Design section 4, "Evidence"."""

from dataclasses import dataclass

from protocol import bls
from protocol.chain import Chain, struct_values
from protocol.disputes import DisputeReader
from protocol.duties import duty_payload, is_drawn, may_volunteer
from protocol.members import active_members
from protocol.receipts import EvidenceRequest
from protocol.trees import BatchTree, batch_leaf
from protocol.typed import ZERO32
from protocol.wire import VOLUNTARY, EvidenceAsk
from provider import Refused
from provider.ledger import Ledger, StoredReceipt


@dataclass
class EvidenceAccess:
    """Decides from the chain alone."""

    chain: Chain
    ledger: Ledger
    provider: str
    disputes: DisputeReader

    def grant(self, ask: EvidenceAsk) -> tuple[StoredReceipt, int]:
        """(the receipt, part) where the requester may have it, upon which it is pinned. Raises Refused or BadSignature."""
        request = EvidenceRequest.from_json(ask.request.message)
        request.require_signer(self.chain.receipts_domain, ask.request.signature_bytes, request.requester)
        if request.provider != self.provider or request.part not in (0, 1):
            raise Refused(f"this is {self.provider}, not {request.provider}")
        if request.expires_at < self.chain.clock():
            raise Refused(f"the request expired at {request.expires_at}")
        stored = self.ledger.receipt(request.number)
        if stored is None or stored.batch_id is None:
            raise Refused(f"receipt {request.number} is not anchored here")
        if request.requester == stored.receipt.payer:
            return stored, request.part
        if request.part == 1 and request.commitment == ZERO32:
            raise Refused("rows out are given only against a commitment to a replay")
        if ask.dispute >= 0:
            self._require_seat(ask.dispute, request, stored)
        else:
            self._require_duty(ask, request, stored)
        self.ledger.pin(stored.number)
        return stored, request.part

    def proof(self, stored: StoredReceipt) -> list[bytes]:
        """The receipt's Merkle path in its batch."""
        covers = None if stored.batch_id is None else self.ledger.batch_range(stored.batch_id)
        if covers is None:
            raise Refused(f"receipt {stored.number} is not anchored here")
        first, last = covers
        batch = self.ledger.receipts(first, last)
        return BatchTree([entry.receipt.struct_hash() for entry in batch]).proof(stored.number - first)

    def _require_duty(self, ask: EvidenceAsk, request: EvidenceRequest, stored: StoredReceipt) -> None:
        batch = struct_values("CommitmentLog", "batch", self.chain.call("CommitmentLog", "batch", self.provider, stored.batch_id))
        epoch = batch["epoch"]
        members = active_members(self.chain, epoch)
        if request.requester not in members:
            raise Refused(f"{request.requester} is no verifier of epoch {epoch}")
        tip = self.chain.call("CommitmentLog", "tip", epoch)
        message = bls.message(bls.DUTY, self.chain.deployment.chain_id, self.chain.address("VerifierSet"), epoch, duty_payload(tip))
        raw = bytes.fromhex(ask.duty_signature.removeprefix("0x"))
        member = members[request.requester]
        if not bls.verify(member.public_key, message, raw):
            raise Refused(f"the duty signature for epoch {epoch} is not by {request.requester}")
        total = sum(m.weight for m in members.values())
        leaf = batch_leaf(stored.receipt.struct_hash())
        may = may_volunteer if ask.dispute == VOLUNTARY else is_drawn
        if not may(raw, self.provider, stored.batch_id or 0, leaf, batch["auditRate"], member.weight, total):
            raise Refused(f"{request.requester} did not draw receipt {stored.number}")

    def _require_seat(self, dispute_id: int, request: EvidenceRequest, stored: StoredReceipt) -> None:
        dispute = self.disputes.get(dispute_id)
        if (dispute.provider, dispute.number) != (self.provider, stored.number) or dispute.is_over:
            raise Refused(f"dispute {dispute_id} is not an open one about receipt {stored.number}")
        seated = request.requester in active_members(self.chain, dispute.epoch)
        if not seated or request.requester == dispute.challenger:
            raise Refused(f"{request.requester} has no seat in dispute {dispute_id}")
