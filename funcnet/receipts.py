"""What a receipt has to hold to: signatures, amounts, checkpoints, Merkle paths, the chain. For `funcnet verify` and `funcnet.client`."""

from typing import Any

from funcnet import FuncnetError
from protocol import BadSignature
from protocol.chain import Chain, struct_values
from protocol.duties import VERDICTS
from protocol.members import active_members
from protocol.receipts import Checkpoint, CheckReport, Countersignature, StageReceipt
from protocol.trees import verify_batch_proof
from protocol.typed import Domain, Signed


def signer_of(entry: dict[str, Any], domain: Domain) -> str | None:
    """Who signed a receipt; None where nobody did."""
    try:
        raw = entry.get("receipt", entry)
        return StageReceipt.from_json(raw["message"]).signer(domain, Signed(**raw).signature_bytes)
    except (BadSignature, ValueError, KeyError, TypeError, AttributeError):
        return None


def check(entry: dict[str, Any], domain: Domain, chain: Chain | None, others: set[str]) -> str:
    """One line of what holds. Raises FuncnetError with the first thing that does not. ``others`` signed the receipts beside this one: one of
    them must have countersigned."""
    try:
        raw, anchor = entry.get("receipt", entry), entry.get("anchor")
        receipt = StageReceipt.from_json(raw["message"])
        signer = receipt.signer(domain, Signed(**raw).signature_bytes)
        told = [_check_amount(receipt), *_check_checkpoint(entry, receipt, domain, signer, others)]
        root = None if anchor is None else _hex(anchor["root"])
        if anchor is not None:
            if not verify_batch_proof(_hex(anchor["root"]), receipt.struct_hash(), [_hex(sibling) for sibling in anchor["proof"]]):
                raise FuncnetError(f"receipt {receipt.number}: the Merkle path does not lead to the root {anchor['root']}")
            told.append(f"Merkle path of batch {anchor['batch_id']}")
    except (BadSignature, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FuncnetError(f"not a valid receipt: {error}") from error
    words = f"receipt {receipt.number} of {receipt.provider}, layers {receipt.layers}: {', '.join(told)} hold"
    if chain is None:
        return f"{words}; signer {signer} not compared with the chain (give --rpc)"
    return f"{words}; {_check_chain(chain, receipt, signer, anchor, root)}"


def check_bound(entries: list[dict[str, Any]]) -> str:
    """Whether each stage's rows in are bound to what the stage before it signed at the end; a line that says so, empty for less than two stages.

    Raises FuncnetError. Stages that were replaced, or that another number of rows had reached, say nothing about each other.
    """
    points = [Checkpoint.from_json(entry["checkpoint"]["message"]) for entry in entries if entry.get("checkpoint") is not None]
    pairs = [(a, b) for a in points for b in points if (a.job_id, a.epoch, a.end_layer, a.end) == (b.job_id, b.epoch, b.first_layer, b.end)]
    for before, after in pairs:
        if after.upstream != before.struct_hash():
            raise FuncnetError(f"layers {after.first_layer}-{after.end_layer} answer for other rows than layers up to {before.end_layer} signed for")
    return f"{len(pairs)} boundaries between stages: the rows of each are bound to those of the one before" if pairs else ""


def check_reports(found: list[dict[str, Any]], receipts: list[StageReceipt], domain: Domain, chain: Chain | None) -> list[str]:
    """A line for each receipt that a verifier has passed, which has to be all of them. ``found``: an answer's ``checks``. Raises FuncnetError."""
    passed: dict[bytes, str] = {}
    try:
        for entry in found:
            report = CheckReport.from_json(entry["report"]["message"])
            report.require_signer(domain, Signed(**entry["report"]).signature_bytes, report.verifier)
            if report.verdict == VERDICTS.index("PASS") + 1:
                passed[report.receipt] = report.verifier
    except (BadSignature, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FuncnetError(f"not a valid report: {error}") from error
    members = None if chain is None else active_members(chain, int(chain.call("VerifierSet", "currentEpoch")))
    lines = []
    for receipt in receipts:
        if (verifier := passed.get(receipt.struct_hash())) is None:
            raise FuncnetError(f"receipt {receipt.number} of {receipt.provider}: no verifier says that it passed a check")
        if members is not None and verifier not in members:
            raise FuncnetError(f"receipt {receipt.number} of {receipt.provider}: {verifier}, who passed it, is no verifier of this epoch")
        lines.append(f"receipt {receipt.number} of {receipt.provider}: verifier {verifier} has replayed it and passed it")
    return lines


def _check_amount(receipt: StageReceipt) -> str:
    if receipt.due != receipt.amount:
        raise FuncnetError(f"receipt {receipt.number}: the amount is {receipt.amount} wei, its tokens and prices give {receipt.due}")
    return "signature, amount"


def _check_checkpoint(entry: dict[str, Any], receipt: StageReceipt, domain: Domain, signer: str, others: set[str]) -> list[str]:
    """The checkpoint that the receipt names, and the next stage's countersignature on it."""
    if entry.get("checkpoint") is None:
        return []
    point = Checkpoint.from_json(entry["checkpoint"]["message"])
    point.require_signer(domain, Signed(**entry["checkpoint"]).signature_bytes, signer)
    if point.struct_hash() != receipt.checkpoint:
        raise FuncnetError(f"receipt {receipt.number}: the checkpoint is not the one that the receipt names")
    if entry.get("countersignature") is None or not others:
        return ["checkpoint"]
    word = Countersignature.from_json(entry["countersignature"]["message"])
    if (word.checkpoint, word.root) != (point.struct_hash(), point.root_out):
        raise FuncnetError(f"receipt {receipt.number}: the countersignature is for another checkpoint")
    if (by := word.signer(domain, Signed(**entry["countersignature"]).signature_bytes)) not in others - {signer}:
        raise FuncnetError(f"receipt {receipt.number}: the countersignature is by {by}, who signed no receipt of this job")
    return ["checkpoint", "countersignature"]


def _check_chain(chain: Chain, receipt: StageReceipt, signer: str, anchor: dict[str, Any] | None, root: bytes | None) -> str:
    if chain.call("ProviderRegistry", "providerOf", signer) != receipt.provider:
        raise FuncnetError(f"receipt {receipt.number} is signed by {signer}, which is no operator of {receipt.provider}")
    if anchor is None:
        anchored = chain.call("CommitmentLog", "lastNumber", receipt.provider) >= receipt.number
        return f"signed by the provider's operator; {'anchored' if anchored else 'not anchored yet'}"
    batch = struct_values("CommitmentLog", "batch", chain.call("CommitmentLog", "batch", receipt.provider, anchor["batch_id"]))
    if batch["root"] != root:
        raise FuncnetError(f"receipt {receipt.number}: batch {anchor['batch_id']} has another root on chain")
    return f"signed by the provider's operator; anchored in batch {anchor['batch_id']}"


def _hex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
