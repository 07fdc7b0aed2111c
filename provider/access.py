"""Who may see evidence: a verifier with a duty, a seated committee, the payer, whoever the job's gateway ordered a check from. Design section 4."""

from dataclasses import dataclass
from typing import Any

from protocol import bls
from protocol.chain import Chain, struct_values
from protocol.disputes import KIND_HIDDEN, DisputeReader
from protocol.duties import duty_payload, is_drawn, may_volunteer
from protocol.members import active_members
from protocol.receipts import CheckOrder, EvidenceRequest, StageReceipt
from protocol.trees import BatchTree, batch_leaf, verify_batch_proof
from protocol.typed import ZERO32
from protocol.wire import ORDERED, VOLUNTARY, AnchoredReceipt, EvidenceAsk
from provider import Refused
from provider.ledger import Ledger, StoredReceipt


@dataclass(frozen=True)
class Granted:
    """What may be shown: rows in (part 0) or out (part 1) of a receipt; ``stored`` where it is this provider's own, ``batch_id`` once it is
    anchored."""

    receipt: StageReceipt
    batch_id: int | None
    part: int
    stored: StoredReceipt | None


@dataclass
class EvidenceAccess:
    """Decides from the chain alone."""

    chain: Chain
    ledger: Ledger
    provider: str
    disputes: DisputeReader

    def grant(self, ask: EvidenceAsk) -> Granted:
        """What the requester may have, upon which an own receipt is pinned. Raises Refused or BadSignature."""
        request = EvidenceRequest.from_json(ask.request.message)
        request.require_signer(self.chain.receipts_domain, ask.request.signature_bytes, request.requester)
        if request.part not in (0, 1):
            raise Refused(f"part {request.part} is neither rows in (0) nor rows out (1)")
        if request.expires_at < self.chain.clock():
            raise Refused(f"the request expired at {request.expires_at}")
        granted = self._own(request, ask.dispute == ORDERED) if ask.of is None else self._of_another(request, ask.of)
        if request.requester == granted.receipt.payer:
            return granted
        if request.part == 1 and request.commitment == ZERO32:
            raise Refused("rows out are given only against a commitment to a replay")
        if ask.dispute == ORDERED:
            self._require_order(ask, request, granted.receipt)
        elif ask.dispute >= 0:
            self._require_seat(ask.dispute, request, granted.receipt)
        else:
            self._require_duty(ask, request, granted)
        if granted.stored is not None:
            self.ledger.pin(granted.stored.number)
        return granted

    def _own(self, request: EvidenceRequest, ordered: bool) -> Granted:
        if request.provider != self.provider:
            raise Refused(f"this is {self.provider}, not {request.provider}")
        stored = self.ledger.receipt(request.number)
        if stored is None or (stored.batch_id is None and not ordered):
            raise Refused(f"receipt {request.number} is not anchored here")
        return Granted(stored.receipt, stored.batch_id, request.part, stored)

    def _of_another(self, request: EvidenceRequest, of: AnchoredReceipt) -> Granted:
        """Another stage's receipt, which the chain has to know, since this stage does not."""
        receipt = StageReceipt.from_json(of.message)
        if (receipt.provider, receipt.number) != (request.provider, request.number):
            raise Refused(f"the request is for receipt {request.number} of {request.provider}, {receipt.number} of {receipt.provider} is shown")
        proof = [bytes.fromhex(sibling.removeprefix("0x")) for sibling in of.proof]
        if not verify_batch_proof(self._batch(receipt.provider, of.batch_id)["root"], receipt.struct_hash(), proof):
            raise Refused(f"receipt {receipt.number} of {receipt.provider} is not anchored in batch {of.batch_id}")
        return Granted(receipt, of.batch_id, request.part, None)

    def proof(self, stored: StoredReceipt) -> list[bytes]:
        """The receipt's Merkle path in its batch, empty where it is in none yet. Raises Refused."""
        if stored.batch_id is None:
            return []
        covers = self.ledger.batch_range(stored.batch_id)
        if covers is None:
            raise Refused(f"receipt {stored.number} is not anchored here")
        first, last = covers
        batch = self.ledger.receipts(first, last)
        return BatchTree([entry.receipt.struct_hash() for entry in batch]).proof(stored.number - first)

    def _require_order(self, ask: EvidenceAsk, request: EvidenceRequest, receipt: StageReceipt) -> None:
        """The job's gateway, which has seen the prompt, wants this receipt checked by the requester."""
        if ask.order is None:
            raise Refused("a check that was ordered needs the order")
        order = CheckOrder.from_json(ask.order.message)
        order.require_signer(self.chain.receipts_domain, ask.order.signature_bytes, receipt.gateway)
        if order.verifier != request.requester or order.receipt != receipt.struct_hash():
            raise Refused(f"the order is for another verifier or receipt than {request.requester} and {receipt.number}")
        if order.expires_at < self.chain.clock():
            raise Refused(f"the order expired at {order.expires_at}")

    def _require_duty(self, ask: EvidenceAsk, request: EvidenceRequest, granted: Granted) -> None:
        receipt, batch_id = granted.receipt, granted.batch_id
        if batch_id is None:
            raise Refused(f"receipt {request.number} is not anchored here")
        batch = self._batch(receipt.provider, batch_id)
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
        may = may_volunteer if ask.dispute == VOLUNTARY else is_drawn
        if not may(raw, receipt.provider, batch_id, batch_leaf(receipt.struct_hash()), batch["auditRate"], member.weight, total):
            raise Refused(f"{request.requester} did not draw receipt {receipt.number}")

    def _require_seat(self, dispute_id: int, request: EvidenceRequest, receipt: StageReceipt) -> None:
        dispute = self.disputes.get(dispute_id)
        if (dispute.provider, dispute.number) != (receipt.provider, receipt.number) or dispute.is_over or dispute.kind == KIND_HIDDEN:
            raise Refused(f"dispute {dispute_id} is not an open one about receipt {receipt.number}")
        seated = request.requester in active_members(self.chain, dispute.epoch)
        if not seated or request.requester == dispute.challenger:
            raise Refused(f"{request.requester} has no seat in dispute {dispute_id}")

    def _batch(self, provider: str, batch_id: int) -> dict[str, Any]:
        return struct_values("CommitmentLog", "batch", self.chain.call("CommitmentLog", "batch", provider, batch_id))
