"""The planter's part in planted faults: note one, see that judges convict it, and have every drawn verifier answer for it.

The steps can be repeated, and each looks at the chain for what is done already.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from eth_account.signers.local import LocalAccount

from funcnet import FuncnetError
from protocol import Reverted
from protocol.batches import ReceiptBatch
from protocol.chain import Chain, struct_values
from protocol.disputes import KIND_OUTPUT, Dispute, DisputeReader, Outcome, Status
from protocol.duties import DutyOpening, DutyResult
from protocol.members import Member, active_members
from protocol.plants import Answer, Plant, sign_consent
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.typed import ZERO32

NO_RESULT = DutyResult("0x" + "00" * 20, 0, 0, "PASS", ZERO32, ZERO32)
"""Stands in for the result of a verifier that was not drawn, which the contract does not read."""


def note(chain: Chain, planter: LocalAccount, payer: LocalAccount, provider: str, file: Path) -> Plant:
    """Note a plant on chain, against its bounty, and write it to ``file`` for the provider. Raises FuncnetError, FileExistsError, Reverted."""
    if not chain.call("ProviderRegistry", "isServing", provider):
        raise FuncnetError(f"{provider} serves nothing; give a provider that is registered and not jailed")
    if file.exists():
        raise FuncnetError(f"{file} exists; choose another name, a plant is never overwritten")
    salt = secrets.token_bytes(32)
    unsigned = Plant(provider, payer.address, salt, b"")
    plant = Plant(provider, payer.address, salt, sign_consent(chain, payer, unsigned.digest))
    bounty = struct_values("Plants", "terms", chain.call("Plants", "terms"))["bounty"]
    # On disk first: a plant that is noted and then lost would cost its bounty and, once served, the provider's stake.
    plant.write(file)
    chain.send(planter, "FuncToken", "approve", chain.address("Plants"), bounty)
    chain.send(planter, "Plants", "note", plant.digest)
    return plant


@dataclass
class Settlement:
    """One plant, from its job to the last verifier's answer. ``step`` until it says that it is over."""

    chain: Chain
    planter: LocalAccount
    plant: Plant
    say: Callable[[str], None] = print
    answers: dict[str, Answer] = field(default_factory=dict)
    """What each verifier of the epoch was found to have said, by address."""

    def __post_init__(self) -> None:
        self.disputes = DisputeReader(self.chain)

    def step(self) -> str:
        """Do what can be done now; what it waits for, empty at the end. Raises FuncnetError where the plant is lost."""
        state = self._state()
        if not state["notedAt"] or int(state["planter"], 16) == 0:
            raise FuncnetError(f"plant 0x{self.plant.digest.hex()[:16]} is not noted on this chain, or its bounty was taken back")
        if not state["revealedAt"]:
            return self._until_opened(state["notedAt"])
        if self.chain.call("VerifierSet", "dutiesOpen", state["epoch"]):
            return f"the end of the posting of epoch {state['epoch']}"
        waiting = [member.verifier for member in active_members(self.chain, state["epoch"]).values() if not self._answer(member, state)]
        return f"the answers of {', '.join(waiting)}" if waiting else ""

    def _state(self) -> dict[str, Any]:
        return struct_values("Plants", "plant", self.chain.call("Plants", "plant", self.plant.digest))

    def _until_opened(self, noted_at: int) -> str:
        found = [d for d in self.disputes.all() if (d.provider, d.payer) == (self.plant.provider, self.plant.payer)]
        for dispute in found:
            if dispute.status == Status.JUDGED and dispute.outcome != Outcome.INNOCENT:
                self._open(dispute)
                return "the plant's opening"
        if any(d.status == Status.OPEN for d in found):
            return "a verdict"
        if any(d.status in (Status.JUDGED, Status.INNOCENT) for d in found):
            raise FuncnetError("the judges acquitted the planted receipt: either they do not look or the fault is too small; no verifier is fined")
        return self._challenge(noted_at)

    def _open(self, dispute: Dispute) -> None:
        try:
            digest = self.chain.send(self.planter, "Plants", "reveal", dispute.claim, self.plant.salt, self.plant.consent)
            self.say(f"opened; dispute {dispute.dispute_id} is called off: {digest}")
        except Reverted as error:
            if error.error != "WrongStatus":  # the provider was faster
                raise

    def _challenge(self, noted_at: int) -> str:
        """Challenge the planted receipt oneself, where every verifier has posted and none has: otherwise nobody could be blamed for passing it."""
        try:
            placed = self._find_receipt(noted_at)
        except (StageRefused, StageUnavailable) as error:  # it knows of its batch only once it has seen the anchoring itself
            return f"the receipts of {self.plant.provider} ({error})"
        if placed is None:
            return "the planted job's receipt"
        batch, index, batch_id = placed
        epoch = self.chain.call("CommitmentLog", "batch", self.plant.provider, batch_id)[4]
        if self.chain.call("VerifierSet", "dutiesOpen", epoch):
            return "a verifier that finds it"
        bond = struct_values("Disputes", "parameters", self.chain.call("Disputes", "parameters"))["bond"]
        self.chain.send(self.planter, "FuncToken", "approve", self.chain.address("Disputes"), bond)
        self.chain.send(self.planter, "Disputes", "open", batch.receipts[index].abi_tuple(), batch_id, batch.tree.proof(index), KIND_OUTPUT)
        self.say("no verifier found it; the planter challenges it")
        return "a verdict"

    def _find_receipt(self, noted_at: int) -> tuple[ReceiptBatch, int, int] | None:
        """(its batch, its place in that, the batch's number) of the payer's newest job that the provider anchored after the note.

        Raises StageRefused or StageUnavailable.
        """
        for batch_id in reversed(range(int(self.chain.call("CommitmentLog", "batchCount", self.plant.provider)))):
            anchored = struct_values("CommitmentLog", "batch", self.chain.call("CommitmentLog", "batch", self.plant.provider, batch_id))
            if anchored["anchoredAt"] <= noted_at:
                return None
            batch = asyncio.run(self._batch(batch_id))
            for index, receipt in enumerate(batch.receipts):
                if receipt.payer == self.plant.payer:
                    return batch, index, batch_id
        return None

    async def _batch(self, batch_id: int) -> ReceiptBatch:
        info = struct_values("ProviderRegistry", "providerInfo", self.chain.call("ProviderRegistry", "providerInfo", self.plant.provider))
        client = await StageClient.connect(info["endpoint"], info["tlsCertHash"])
        try:
            return await client.batch(batch_id)
        finally:
            await client.close()

    def _answer(self, member: Member, state: dict[str, Any]) -> bool:
        """Bring a verifier's answer on chain, ask for it, or close an unanswered question; whether that is over."""
        given = self._given(member)
        if given != Answer.NONE:
            self.answers[member.verifier] = given
            return True
        root = self.chain.call("VerifierSet", "dutyRoot", state["epoch"], member.verifier)
        if root == ZERO32:
            self.say(f"{member.verifier} posted nothing for epoch {state['epoch']}, and has no pay for it")
            return True
        opening = _opening(member, state["epoch"])
        if opening is not None and opening.root() == root:
            result, proof = opening.find(self.plant.provider, state["number"]) or (NO_RESULT, [])
            try:
                self.chain.send(self.planter, "Plants", "answer", self.plant.digest, member.index, opening.signature, result.abi_tuple, proof)
                self.answers[member.verifier] = self._given(member)
                self.say(f"{member.verifier}: {self.answers[member.verifier].name.lower().replace('_', ' ')}")
                return True
            except Reverted as error:
                if error.error not in ("WrongResult", "BadDutySignature"):
                    raise
        return self._press(member)

    def _press(self, member: Member) -> bool:
        """Close the question to a verifier that shows nothing fitting where its time is over, else ask it, once; whether it is over with that."""
        try:
            self.chain.send(self.planter, "Plants", "close", self.plant.digest, member.index)
            self.say(f"{member.verifier}: silent")
            self.answers[member.verifier] = self._given(member)
            return True
        except Reverted as error:
            if error.error != "NotYet":
                raise
        try:
            self.chain.send(self.planter, "Plants", "ask", self.plant.digest, member.index)
            self.say(f"{member.verifier}: asked on chain")
        except Reverted as error:
            if error.error not in ("AlreadyAsked", "WindowOver"):
                raise
            return error.error == "WindowOver"  # too late to ask
        return False

    def _given(self, member: Member) -> Answer:
        return Answer(self.chain.call("Plants", "answerOf", self.plant.digest, member.verifier))


def _opening(member: Member, epoch: int) -> DutyOpening | None:
    """What a verifier shows of its duties, None where it shows nothing."""
    try:
        answer = requests.get(f"{member.endpoint}/v1/duties/{epoch}", timeout=10)
        return DutyOpening.from_json(answer.json()) if answer.status_code == 200 else None
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None
