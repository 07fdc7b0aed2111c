"""CommitmentLog, VerifierSet, Plants, Disputes, Contradictions: batches, verifiers and their records, accusations."""

from indexer.facts import Args, Place, Value, add, count, on

OPEN, JUDGED = 1, 2
COMMITTEE, APPEAL, FULL_SET = 0, 1, 2
NOT_DRAWN, FOUND, UNDECIDED = 1, 2, 3


@on("CommitmentLog.BatchAnchored", batch="provider batchId", work="provider", network="")
def _anchored(e: Args, _: Place, batch: Value, work: Value, network: Value) -> None:
    told = e["batch"]
    batch.update(told, tip=e["tip"])
    work["batches"], work["receipts"] = e["batchId"] + 1, told["lastNumber"]
    for value in (work, network):
        count(value, "tokens", told["tokens"])
        add(value, "amount", told["amount"])
    count(network, "batches")
    count(network, "receipts", told["lastNumber"] - told["firstNumber"] + 1)


@on("CommitmentLog.BatchMatured", work="provider")
def _matured(e: Args, _: Place, work: Value) -> None:
    work["maturedAmount"], work["record"] = e["cumulativeAmount"], e["record"]


@on("CommitmentLog.RecordReset", work="provider")
def _reset(_: Args, __: Place, work: Value) -> None:
    work["record"] = 0


@on("VerifierSet.VerifierRegistered", verifier="verifier", network="")
def _registered(e: Args, _: Place, verifier: Value, network: Value) -> None:
    verifier.update(publicKey=e["publicKey"], endpoint=e["endpoint"], joined=True)
    count(network, "verifiers")


@on("VerifierSet.VerifierExited", verifier="verifier", network="")
def _exited(_: Args, __: Place, verifier: Value, network: Value) -> None:
    verifier["joined"] = False
    count(network, "verifiers", -1)


@on("VerifierSet.SetBuilt", set="setId")
def _set(e: Args, _: Place, built: Value) -> None:
    built.update(fromEpoch=e["fromEpoch"], verifiers=e["verifiers"], weights=e["weights"])


@on("VerifierSet.CommitteeDrawn", committee="epoch")
def _committee(e: Args, _: Place, committee: Value) -> None:
    committee.update(setId=e["setId"], seats=e["seats"])


@on("VerifierSet.DutiesPosted", duty="epoch verifier", verifier="verifier", network="")
def _duties(e: Args, _: Place, duty: Value, verifier: Value, network: Value) -> None:
    duty.update(root=e["root"], count=e["count"])
    count(verifier, "epochs")
    count(verifier, "checks", e["count"])
    count(network, "checks", e["count"])


@on("Settlement.VerifierPaid", verifier="verifier")
def _paid(e: Args, _: Place, verifier: Value) -> None:
    add(verifier, "paid", e["amount"])


@on("Plants.PlantNoted", plant="hash")
def _noted(e: Args, place: Place, plant: Value) -> None:
    plant.update(planter=e["planter"], notedAt=place.timestamp)


@on("Plants.PlantRevealed", plant="hash")
def _revealed(e: Args, place: Place, plant: Value) -> None:
    plant.update(provider=e["provider"], number=e["number"], challenger=e["challenger"], bounty=e["bounty"], revealedAt=place.timestamp)


@on("Plants.PlantWithdrawn", plant="hash")
def _plant_withdrawn(_: Args, place: Place, plant: Value) -> None:
    plant["withdrawnAt"] = place.timestamp


@on("Plants.PlantAnswered", plant="hash", verifier="verifier")
def _answered(e: Args, _: Place, plant: Value, verifier: Value) -> None:
    plant["answers"] = {**plant.get("answers", {}), e["verifier"]: e["answer"]}
    add(verifier, "fined", e["fined"])
    if e["answer"] == NOT_DRAWN:
        return
    count(verifier, "plantsDrawn")
    count(verifier, {FOUND: "plantsFound", UNDECIDED: "plantsUndecided"}.get(e["answer"], "plantsMissed"))


@on("Disputes.DisputeOpened", dispute="disputeId", network="")
def _opened(e: Args, place: Place, dispute: Value, network: Value) -> None:
    dispute.update(e["dispute"], evidenceId=e["evidenceId"], claim=e["claim"], openedBlock=place.block, openedLog=place.log)
    count(network, "disputes")


@on("Disputes.VerdictGiven", dispute="disputeId")
def _verdict(e: Args, _: Place, dispute: Value) -> None:
    dispute.update(status=JUDGED, round=e["round"], outcome=e["outcome"], deadline=e["deadline"])


@on("Disputes.Appealed", dispute="disputeId")
def _appealed(e: Args, _: Place, dispute: Value) -> None:
    dispute.update(status=OPEN, round=APPEAL, deadline=e["deadline"], appellant=e["appellant"])


@on("Disputes.Escalated", dispute="disputeId")
def _escalated(e: Args, _: Place, dispute: Value) -> None:
    dispute.update(round=FULL_SET, deadline=e["deadline"])


@on("Disputes.DisputeClosed", dispute="disputeId", network="")
def _closed(e: Args, place: Place, dispute: Value, network: Value) -> None:
    dispute.update(status=e["status"], slashed=e["slashed"], refundOrdered=e["refundOrdered"], closedBlock=place.block, closedLog=place.log)
    count(network, "disputes_closed")


@on("Disputes.Owed", owed="account")
def _owed(e: Args, _: Place, owed: Value) -> None:
    add(owed, "awarded", e["amount"])


@on("Disputes.Paid", owed="account")
def _owed_paid(e: Args, _: Place, owed: Value) -> None:
    # A judge's fee for a round is paid by the same event and was never owed to anybody by name, so what is left cannot be told from these two.
    add(owed, "paid", e["amount"])


@on("Contradictions.ContradictionProven", contradiction="provider number")
def _contradiction(e: Args, _: Place, contradiction: Value) -> None:
    contradiction.update(reporter=e["reporter"], signedHash=e["signedHash"], slashed=e["slashed"])
