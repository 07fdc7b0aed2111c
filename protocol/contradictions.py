"""Prove on chain that a provider signed two things that exclude each other. Needs neither a bond nor judges."""

import secrets
import time
from dataclasses import dataclass

from eth_abi import encode as abi_encode
from eth_hash.auto import keccak

from protocol import Reverted
from protocol.batches import ReceiptBatch
from protocol.chain import Chain, Sender
from protocol.receipts import Checkpoint, StageReceipt
from protocol.typed import Signed


@dataclass(frozen=True)
class Accusation:
    """What a provider signed, against the anchored receipt at place ``index`` of its batch ``batch_id``."""

    signed: Signed
    batch: ReceiptBatch
    batch_id: int
    index: int

    @property
    def receipt(self) -> StageReceipt:
        """The anchored one."""
        return self.batch.receipts[self.index]


def prove_receipt(chain: Chain, reporter: Sender, accusation: Accusation) -> str | None:
    """The accusation's ``signed`` is another receipt of the anchored one's number. The transaction, or None where it was proven before, or is too
    late to be. Raises Reverted or Unavailable."""
    return _prove(chain, reporter, "prove", accusation, StageReceipt.from_json(accusation.signed.message))


def prove_checkpoint(chain: Chain, reporter: Sender, accusation: Accusation) -> str | None:
    """The accusation's ``signed`` is a checkpoint that contradicts the one which the anchored receipt names. Answer and errors as of
    ``prove_receipt``."""
    named = accusation.batch.checkpoints[accusation.index]
    return _prove(chain, reporter, "proveCheckpoints", accusation, Checkpoint.from_json(accusation.signed.message), named.abi_tuple())


def _prove(
    chain: Chain, reporter: Sender, method: str, accusation: Accusation, signed: StageReceipt | Checkpoint, *named: tuple[object, ...]
) -> str | None:
    """Note first, prove a second later: a copied proof would be too late."""
    receipt, salt = accusation.receipt, secrets.token_bytes(32)
    note = keccak(abi_encode(["address", "uint64", "address", "bytes32"], [receipt.provider, receipt.number, reporter.address, salt]))
    anchored = (receipt.abi_tuple(), accusation.batch_id, accusation.batch.tree.proof(accusation.index))
    try:
        chain.send(reporter, "Contradictions", "note", note)
        ready = chain.now() + int(chain.call("Contradictions", "NOTE_DELAY"))
        while chain.now() < ready:
            time.sleep(0.5)
        return chain.send(reporter, "Contradictions", method, signed.abi_tuple(), accusation.signed.signature_bytes, *named, anchored, salt)
    except Reverted as error:
        if error.error in ("AlreadyProven", "WindowOver"):
            return None
        raise
