"""Dispute what failed, judge what others dispute, gather signatures. Design section 4, "Verdict"."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import requests
import structlog
from eth_account.signers.local import LocalAccount

from protocol import Reverted, bls
from protocol.chain import Chain, struct_values
from protocol.contradictions import prove_checkpoint
from protocol.disputes import KIND_HIDDEN, KIND_OUTPUT, KIND_WITHHELD, Dispute, DisputeReader, Outcome, Round, Status
from protocol.members import Member, active_members
from protocol.receipts import Checkpoint, StageReceipt
from protocol.typed import ZERO32
from verifier import EvidenceBad, EvidenceMissing
from verifier.evidence import EvidenceClient
from verifier.store import CheckKey, Store

log = structlog.get_logger()

ATTESTED, REGISTERED_ROOT = 5, 4
"""Places in the contract's Model struct."""
SMALL_NETWORK = 7
NOBODY = "0x" + "00" * 20
NO_RECEIPT = StageReceipt(NOBODY, 0, ZERO32, NOBODY, NOBODY, ZERO32, 0, 0, ZERO32, 0, 0, 0, 0, ZERO32, 0, 0, 0, 0, 0, 0)
"""With a provider and a batch's first number: what stands for the batch's list in a dispute."""
SAID = {Outcome.INNOCENT: "innocent", Outcome.GUILTY: "guilty", Outcome.WITHHELD: "withheld"}


def convicts(verdict: str) -> bool:
    """Whether a judge's own check convicts: only a FAIL, or evidence withheld from it too."""
    return verdict in ("FAIL", "WITHHELD")


def outcome_of(verdict: str, kind: int) -> Outcome:
    """What a judge says, given its own check: where it convicts, of what the challenger claimed."""
    if not convicts(verdict):
        return Outcome.INNOCENT
    return Outcome.GUILTY if kind == KIND_OUTPUT else Outcome.WITHHELD


def is_quorum(signed: list[Member], seated: list[Member]) -> bool:
    """All of a panel while it is smaller than seven, else two thirds of its weight: ``VerifierSet.verifyQuorum``."""
    if not signed or (len(seated) < SMALL_NETWORK and len(signed) != len(seated)):
        return False
    return 3 * sum(m.weight for m in signed) >= 2 * sum(m.weight for m in seated)


@dataclass
class Judging:
    """One verifier's part in disputes and attestations."""

    chain: Chain
    account: LocalAccount
    bls_secret: bytes
    store: Store
    evidence: EvidenceClient
    disputes: DisputeReader
    waits: bool = False
    """Whether a dispute is opened only when the duties of its epoch are closed, so that nobody can copy from it what a check finds."""
    _over: set[tuple[int, int]] = field(default_factory=set)
    """(dispute, round) whose fee was taken or is not this verifier's."""

    def open_disputes(self) -> None:
        """Challenge each duty that failed and each list that stayed hidden, with a bond, unless somebody else has already."""
        for row in self.store.to_dispute():
            provider, number, of_list = row["provider"], row["number"], row["of_list"]
            if self.waits and not of_list and self.chain.call("VerifierSet", "dutiesOpen", row["epoch"]):
                continue
            if not any((d.provider, d.number, d.kind == KIND_HIDDEN) == (provider, number, of_list) for d in self.disputes.all()):
                try:
                    receipt, proof, kind = self._claim(row)
                except (EvidenceMissing, EvidenceBad) as error:
                    log.warning("not disputed yet", provider=provider, number=number, reason=str(error))
                    continue  # it keeps nobody else from being accused
                bond = self.chain.call("Disputes", "parameters")[0]
                try:
                    self.chain.send(self.account, "FuncToken", "approve", self.chain.address("Disputes"), bond)
                    digest = self.chain.send(self.account, "Disputes", "open", receipt.abi_tuple(), row["batch_id"], proof, kind)
                    log.warning("dispute opened", provider=provider, number=number, kind=kind, detail=row["detail"], tx=digest)
                except Reverted as error:
                    if error.error not in ("EvidenceClosed", "WindowOver"):
                        raise
                    log.warning("not disputed", provider=provider, number=number, reason=str(error))
            self.store.mark_disputed(provider, number, of_list)

    def _claim(self, row: dict[str, Any]) -> tuple[StageReceipt, list[bytes], int]:
        """The receipt that is disputed, its path, and what is wrong with it. Raises EvidenceMissing where the batch is not to be had any more."""
        provider, number, batch_id = row["provider"], row["number"], row["batch_id"]
        if row["of_list"]:
            return replace(NO_RECEIPT, provider=provider, number=number), [], KIND_HIDDEN
        batch = self.store.batch(provider, batch_id) or asyncio.run(self.evidence.batch(provider, batch_id))
        index = batch.find(number)
        if index is None:
            raise EvidenceMissing(f"batch {batch_id} of {provider} has no receipt {number} any more")
        return batch.receipts[index], batch.tree.proof(index), KIND_OUTPUT if row["verdict"] == "FAIL" else KIND_WITHHELD

    def prove_contradictions(self) -> None:
        """Have whoever signed one thing for its neighbour and anchored another slashed at once."""
        for checkpoint, accusation in self.store.contradictions():
            provider, signed = accusation.receipt.provider, accusation.signed
            signer = Checkpoint.from_json(signed.message).signer(self.chain.receipts_domain, signed.signature_bytes)
            # A gateway may have put a key of its own on the route, under somebody else's name.
            if self.chain.call("ProviderRegistry", "providerOf", signer) == provider:
                digest = prove_checkpoint(self.chain, self.account, accusation)
                log.warning("two checkpoints over the same rows", provider=provider, number=accusation.receipt.number, tx=digest)
            self.store.mark_compared(checkpoint)

    def take_seats(self) -> None:
        """Queue a check for each open dispute in which this verifier has a seat, and sign where its check is done."""
        for dispute in self.disputes.all():
            mine = None
            if dispute.status == Status.OPEN:
                mine = next((m for m in self._seated(dispute) if m.verifier == self.account.address), None)
            if mine is None:
                continue
            key = CheckKey(dispute.provider, dispute.number, dispute.dispute_id)
            self.store.add_committee_check(key, dispute.batch_id, dispute.epoch, of_list=dispute.kind == KIND_HIDDEN)
            verdict = self.store.verdict(key)
            if verdict is not None:
                outcome = outcome_of(verdict, dispute.kind)
                self._attend(dispute, mine, outcome, self._sign_verdict(dispute, outcome))

    def _seated(self, dispute: Dispute) -> list[Member]:
        """The judges of the dispute's round, in the order of their seats."""
        view = "committeePanel" if dispute.round == Round.COMMITTEE else "fullPanel"
        _, seats = self.chain.call("VerifierSet", view, dispute.epoch, dispute.challenger)
        members = active_members(self.chain, dispute.epoch).values()
        return sorted((m for m in members if seats >> m.index & 1), key=lambda m: m.index)

    def _attend(self, dispute: Dispute, mine: Member, outcome: Outcome, vote: bytes) -> None:
        """Show the vote on chain in the last quarter of a round that has no quorum yet: ended without one, it costs the absent their pay."""
        period = struct_values("Disputes", "parametersAt", self.chain.call("Disputes", "parametersAt", dispute.version))["verdictPeriod"]
        if not dispute.deadline - period // 4 <= self.chain.now() <= dispute.deadline:
            return
        if self.chain.call("Attendance", "present", dispute.dispute_id, dispute.round) >> mine.index & 1:
            return
        try:
            digest = self.chain.send(self.account, "Attendance", "attend", dispute.evidence_id, mine.index, outcome, vote)
        except Reverted as error:
            if error.error != "NotOpen":  # the verdict, or the deadline, was faster
                raise
        else:
            log.warning("vote shown on chain", dispute=dispute.dispute_id, round=dispute.round, outcome=outcome.name, tx=digest)

    def _sign_verdict(self, dispute: Dispute, outcome: Outcome) -> bytes:
        payload = bls.verdict_payload(dispute.dispute_id, dispute.evidence_id, dispute.round, outcome)
        signature = self._sign(bls.VERDICT, "Disputes", dispute.epoch, payload)
        self.store.add_statement(_subject(dispute), dispute.epoch, SAID[outcome], signature)
        return signature

    def carry_on(self) -> None:
        """Bring each dispute one step further: enter its verdict, escalate, carry out, end it; and take the fee for what was judged.

        The challenger, or else the first seated member, does it: anyone may, but two would waste gas.
        """
        for dispute in self.disputes.all():
            if dispute.is_over:
                self._collect(dispute)
                continue
            seated = self._seated(dispute)
            verifiers = active_members(self.chain, dispute.epoch)
            leader = dispute.challenger if dispute.challenger in verifiers else seated[0].verifier if seated else ""
            if leader != self.account.address:
                continue
            late = self.chain.now() > dispute.deadline
            if dispute.status == Status.OPEN and not late:
                self._deliver(dispute, seated)
            elif dispute.status == Status.JUDGED and late:
                self._close("execute", dispute, dispute.claim)
            elif late and dispute.round == Round.COMMITTEE:
                self._close("escalate", dispute, dispute.evidence_id)
            elif late:
                self._close("expire", dispute, dispute.claim)

    def _close(self, step: str, dispute: Dispute, argument: object) -> None:
        digest = self.chain.send(self.account, "Disputes", step, argument)
        log.warning("dispute goes on", dispute=dispute.dispute_id, step=step, outcome=dispute.outcome, tx=digest)

    def _deliver(self, dispute: Dispute, seated: list[Member]) -> None:
        statements = {member: self._ask(member, _subject(dispute)) for member in seated}
        for outcome in (Outcome.WITHHELD, Outcome.GUILTY, Outcome.INNOCENT):
            payload = bls.verdict_payload(dispute.dispute_id, dispute.evidence_id, dispute.round, outcome)
            signed = self._valid(statements, SAID[outcome], bls.VERDICT, "Disputes", dispute.epoch, payload)
            signers = [member for member, _ in signed]
            if is_quorum(signers, seated):
                absent = [member.index for member in seated if member not in signers]
                aggregate = bls.aggregate([signature for _, signature in signed])
                digest = self.chain.send(self.account, "Disputes", "verdict", dispute.evidence_id, outcome, absent, aggregate)
                log.warning("verdict", dispute=dispute.dispute_id, round=dispute.round, outcome=outcome.name, judges=len(signers), tx=digest)
                return

    def _collect(self, dispute: Dispute) -> None:
        """Take this verifier's share of the fee of each round that it judged, and what it won as a challenger."""
        mine = active_members(self.chain, dispute.epoch).get(self.account.address)
        for round_ in Round:
            key = (dispute.dispute_id, int(round_))
            if mine is None or key in self._over:
                continue
            try:
                self.chain.send(self.account, "Disputes", "claimFee", dispute.dispute_id, round_, mine.index)
            except Reverted as error:
                if error.error != "NotJudge":
                    raise
            self._over.add(key)

    def attest(self, model_id: bytes) -> bool:
        """Vouch for the model's tolerance table where this verifier has reproduced it; whether the chain has it attested.

        The statement is signed anew for each epoch until the chain has it: verifiers finish at different times, and one aggregate needs one epoch.
        """
        model = self.chain.call("ModelRegistry", "model", model_id)
        if model[ATTESTED]:
            return True
        subject = f"tolerance/{model_id.hex()}"
        if not self.store.vouches(model_id):
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
        signers = [member for member, _ in signed]
        if not is_quorum(signers, members):
            return False
        absent = [member.index for member in members if member not in signers]
        aggregate = bls.aggregate([signature for _, signature in signed])
        root = self.chain.call("ModelRegistry", "model", model_id)[REGISTERED_ROOT]
        digest = self.chain.send(self.account, "ModelRegistry", "attestTolerance", model_id, root, epoch, absent, aggregate)
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


def _subject(dispute: Dispute) -> str:
    return f"dispute/{dispute.dispute_id}/{dispute.round}"
