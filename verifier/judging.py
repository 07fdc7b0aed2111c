"""Dispute what failed, judge what others dispute, gather signatures. Design section 4, "Verdict"."""

from dataclasses import dataclass
from typing import Any

import requests
import structlog
from eth_account.signers.local import LocalAccount

from protocol import Reverted, bls
from protocol.chain import Chain, struct_values
from protocol.members import Member, active_members
from protocol.receipts import StageReceipt
from protocol.trees import BatchTree
from verifier.evidence import EvidenceClient
from verifier.store import CheckKey, Store

log = structlog.get_logger()

OPEN = 1
KIND_OUTPUT, KIND_WITHHELD = 1, 3
ATTESTED, REGISTERED_ROOT = 5, 4
"""Places in the contract's Model struct."""


def is_guilty(verdict: str) -> bool:
    """What a committee member says, given its own check: only a FAIL or evidence withheld from it too convicts."""
    return verdict in ("FAIL", "WITHHELD")


@dataclass
class Judging:
    """One verifier's part in disputes and attestations."""

    chain: Chain
    account: LocalAccount
    bls_secret: bytes
    store: Store
    evidence: EvidenceClient

    def open_disputes(self, receipts_of: Any) -> None:
        """Challenge each duty that failed, with a bond, unless somebody else has already. ``receipts_of(provider, batch)`` lists a batch."""
        for row in self.store.to_dispute():
            provider, number, batch_id = row["provider"], row["number"], row["batch_id"]
            receipts: list[StageReceipt] = receipts_of(provider, batch_id)
            index = next(i for i, receipt in enumerate(receipts) if receipt.number == number)
            proof = BatchTree([receipt.struct_hash() for receipt in receipts]).proof(index)
            kind = KIND_OUTPUT if row["verdict"] == "FAIL" else KIND_WITHHELD
            bond = self.chain.call("Disputes", "parameters")[0]
            if not self._challenged(provider, number):
                try:
                    self.chain.send(self.account, "FuncToken", "approve", self.chain.address("Disputes"), bond)
                    digest = self.chain.send(self.account, "Disputes", "open", receipts[index].abi_tuple(), batch_id, proof, kind)
                    log.warning("dispute opened", provider=provider, number=number, detail=row["detail"], tx=digest)
                except Reverted as error:
                    if error.error != "EvidenceClosed":
                        raise
            self.store.mark_disputed(provider, number)

    def _challenged(self, provider: str, number: int) -> bool:
        return any((d["provider"], d["receiptNumber"]) == (provider, number) for _, d in self._disputes())

    def take_seats(self) -> None:
        """Queue a check for each open dispute in which this verifier has a seat, and sign where its check is done."""
        for dispute_id, dispute in self._disputes():
            if dispute["status"] != OPEN or dispute["challenger"] == self.account.address:
                continue
            if self.account.address not in active_members(self.chain, dispute["epoch"]):
                continue
            key = CheckKey(dispute["provider"], dispute["receiptNumber"], dispute_id)
            self.store.add_committee_check(key, dispute["batchId"], dispute["epoch"])
            verdict = self.store.verdict(key)
            if verdict is not None:
                self._sign_verdict(dispute_id, dispute, is_guilty(verdict))

    def _sign_verdict(self, dispute_id: int, dispute: dict[str, Any], guilty: bool) -> None:
        payload = bls.verdict_payload(dispute_id, dispute["evidenceId"], guilty)
        signature = self._sign(bls.VERDICT, "Disputes", dispute["epoch"], payload)
        self.store.add_statement(f"dispute/{dispute_id}", dispute["epoch"], "guilty" if guilty else "innocent", signature)

    def deliver_verdicts(self) -> None:
        """Gather the committee's signatures on each open dispute and carry out the verdict once they make a quorum.

        The challenger, or else the first seated member, does it: anyone may, but two would waste gas.
        """
        for dispute_id, dispute in self._disputes():
            if dispute["status"] != OPEN or self.chain.now() > dispute["deadline"]:
                continue
            members = active_members(self.chain, dispute["epoch"])
            seated = sorted((m for m in members.values() if m.verifier != dispute["challenger"]), key=lambda m: m.index)
            leader = dispute["challenger"] if dispute["challenger"] in members else seated[0].verifier if seated else ""
            if leader == self.account.address:
                self._deliver(dispute_id, dispute, seated)

    def _deliver(self, dispute_id: int, dispute: dict[str, Any], seated: list[Member]) -> None:
        statements = {member: self._ask(member, f"dispute/{dispute_id}") for member in seated}
        for guilty in (True, False):
            payload = bls.verdict_payload(dispute_id, dispute["evidenceId"], guilty)
            signed = self._valid(statements, "guilty" if guilty else "innocent", bls.VERDICT, "Disputes", dispute["epoch"], payload)
            if len(signed) == len(seated) and seated:
                signers = [member.index for member, _ in signed]
                aggregate = bls.aggregate([signature for _, signature in signed])
                digest = self.chain.send(self.account, "Disputes", "verdict", dispute_id, guilty, signers, aggregate)
                log.warning("verdict carried out", dispute=dispute_id, guilty=guilty, judges=len(signers), tx=digest)
                return

    def attest(self, model_id: bytes) -> bool:
        """Vouch for the model's tolerance table where this verifier has reproduced it; whether the chain has it attested.

        The statement is signed anew for each epoch until the chain has it: verifiers finish at different times, and one aggregate needs one epoch.
        """
        model = self.chain.call("ModelRegistry", "model", model_id)
        if model[ATTESTED]:
            return True
        subject = f"tolerance/{model_id.hex()}"
        mine = self.store.statement(f"local/{subject}")
        if mine is None or mine["value"] != "yes":
            return False
        payload = bls.tolerance_payload(model_id, model[REGISTERED_ROOT])
        current = int(self.chain.call("VerifierSet", "currentEpoch"))
        for epoch in (current - 1, current):
            members = sorted(active_members(self.chain, epoch).values(), key=lambda member: member.index)
            if self.account.address not in {member.verifier for member in members}:
                continue
            self.store.add_statement(f"{subject}/{epoch}", epoch, "yes", self._sign(bls.TOLERANCE, "ModelRegistry", epoch, payload))
            if members[0].verifier == self.account.address and self._deliver_attestation(model_id, f"{subject}/{epoch}", epoch, members, payload):
                return True
        return False

    def _deliver_attestation(self, model_id: bytes, subject: str, epoch: int, members: list[Member], payload: bytes) -> bool:
        statements = {member: self._ask(member, subject) for member in members}
        signed = self._valid(statements, "yes", bls.TOLERANCE, "ModelRegistry", epoch, payload)
        if len(signed) < len(members):
            return False
        aggregate = bls.aggregate([signature for _, signature in signed])
        digest = self.chain.send(self.account, "ModelRegistry", "attestTolerance", model_id, epoch, [m.index for m, _ in signed], aggregate)
        log.info("tolerance attested", model=model_id.hex()[:16], epoch=epoch, tx=digest)
        return True

    def _valid(
        self, statements: dict[Member, dict[str, Any] | None], value: str, purpose: bytes, contract: str, epoch: int, payload: bytes
    ) -> list[tuple[Member, bytes]]:
        """The members that say ``value`` with a signature that holds; one bad signature would spoil the aggregate."""
        message = bls.message(purpose, self.chain.deployment.chain_id, self.chain.address(contract), epoch, payload)
        found = []
        for member, said in statements.items():
            if said is not None and said["value"] == value and bls.verify(member.public_key, message, said["signature"]):
                found.append((member, said["signature"]))
        return found

    def _ask(self, member: Member, subject: str) -> dict[str, Any] | None:
        if member.verifier == self.account.address:
            said = self.store.statement(subject)
            return None if said is None else {**said, "signature": bytes(said["signature"])}
        try:
            answer = requests.get(f"{member.endpoint}/v1/statements/{subject}", timeout=3)
            if answer.status_code != 200:
                return None
            body = answer.json()
            return {"epoch": int(body["epoch"]), "value": body["value"], "signature": bytes.fromhex(body["signature"].removeprefix("0x"))}
        except (requests.RequestException, ValueError, KeyError):
            return None

    def _sign(self, purpose: bytes, contract: str, epoch: int, payload: bytes) -> bytes:
        return bls.sign(self.bls_secret, bls.message(purpose, self.chain.deployment.chain_id, self.chain.address(contract), epoch, payload))

    def _disputes(self) -> list[tuple[int, dict[str, Any]]]:
        count = int(self.chain.call("Disputes", "disputeCount"))
        return [(i, struct_values("Disputes", "dispute", self.chain.call("Disputes", "dispute", i))) for i in range(count)]
