"""Fetch a receipt's rows and check them against what was signed. Design section 4, "Evidence"."""

from dataclasses import dataclass

import msgspec
from eth_account.signers.local import LocalAccount

from protocol import BadSignature, Reverted
from protocol.chain import Chain, struct_values
from protocol.receipts import EXECUTION_CLASSES, Checkpoint, EvidenceRequest, RouteUpdate, SessionOffer, StageReceipt, wire_dtype_of
from protocol.rows import CHECKPOINT_EVERY, TOKEN_DTYPE, prompt_root, row_leaf
from protocol.sampling import SamplingParameters
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.trees import BatchTree, RowTree, row_tree_root, verify_batch_proof
from protocol.typed import ZERO32, Signed
from protocol.wire import EvidenceAsk, EvidenceHead, route_hash
from verifier import EvidenceBad, EvidenceMissing

REQUEST_SECONDS = 120
ROWS_IN, ROWS_OUT = 0, 1
STREAMS, STREAM_SECONDS = 8, 60
"""How often a stream that breaks off is resumed, and how long each may take: a slow provider must not hold a worker up for ever."""
MOST_ROW_BYTES = 1 << 20
"""A row of 2^17 channels in float64: more than any model has."""


@dataclass(frozen=True)
class Evidence:
    """One part of a receipt's evidence, checked. ``payloads``: each row's bytes as sent; ``before``: completion tokens before the session."""

    receipt: StageReceipt
    checkpoint: Checkpoint
    offer: SessionOffer
    sampling: SamplingParameters
    payloads: list[bytes]
    before: list[int]


@dataclass
class EvidenceClient:
    """Asks providers in one verifier's name."""

    chain: Chain
    account: LocalAccount

    async def batch(self, provider: str, batch_id: int) -> list[StageReceipt]:
        """The receipts of an anchored batch, which must have its root. Raises EvidenceMissing or EvidenceBad."""
        client = await self._connect(provider)
        try:
            receipts = await client.batch(batch_id)
        except (StageUnavailable, StageRefused) as error:
            raise EvidenceMissing(str(error)) from error
        finally:
            await client.close()
        anchored = self.chain.call("CommitmentLog", "batch", provider, batch_id)
        if not receipts or BatchTree([receipt.struct_hash() for receipt in receipts]).root != anchored[0]:
            raise EvidenceBad(f"the receipts that {provider} gives for batch {batch_id} do not have its root")
        return receipts

    async def rows(self, provider: str, number: int, part: int, duty_signature: bytes, dispute_id: int, commitment: bytes = ZERO32) -> Evidence:
        """Rows in or out of a receipt; a stream that breaks off is resumed where it stopped. Raises EvidenceMissing or EvidenceBad."""
        request = EvidenceRequest(self.account.address, provider, number, part, commitment, self.chain.now() + REQUEST_SECONDS)
        signed = Signed.of(request, request.sign(self.chain.receipts_domain, bytes(self.account.key)))
        raw, broke_off = bytearray(), ""
        for _ in range(STREAMS):
            had = len(raw)
            try:
                head = await self._stream(provider, EvidenceAsk(signed, "0x" + duty_signature.hex(), dispute_id, had), raw)
                return self._check(provider, number, part, head, bytes(raw))
            except StageUnavailable as error:
                broke_off = str(error)
                if len(raw) == had:
                    break
            except StageRefused as error:
                raise EvidenceMissing(str(error)) from error
            except (BadSignature, Reverted, ValueError) as error:
                raise EvidenceBad(str(error)) from error
        raise EvidenceMissing(broke_off)

    async def _stream(self, provider: str, ask: EvidenceAsk, raw: bytearray) -> EvidenceHead:
        """Append what a stream gives to ``raw``, never more than its head announces. Raises StageUnavailable, StageRefused or EvidenceBad."""
        client = await self._connect(provider)
        head: EvidenceHead | None = None
        try:
            async for message in client.stream("Evidence", ask, STREAM_SECONDS):
                if head is None:
                    head = _head(message)
                    continue
                raw += message
                if len(raw) > head.row_count * head.row_bytes:
                    raise EvidenceBad(f"{provider} sends more than the {head.row_count} rows of {head.row_bytes} bytes that it announced")
        finally:
            await client.close()
        if head is None:
            raise StageUnavailable(f"{provider} served nothing")
        return head

    def _check(self, provider: str, number: int, part: int, head: EvidenceHead, raw: bytes) -> Evidence:
        """Everything from the anchored root down to the rows. Raises EvidenceBad, BadSignature or ValueError."""
        domain = self.chain.receipts_domain
        receipt, point = StageReceipt.from_json(head.receipt.message), Checkpoint.from_json(head.checkpoint.message)
        offer, sampling = SessionOffer.from_json(head.offer.message), SamplingParameters.from_json(head.sampling)
        batch = struct_values("CommitmentLog", "batch", self.chain.call("CommitmentLog", "batch", provider, head.batch_id))
        proof = [bytes.fromhex(sibling.removeprefix("0x")) for sibling in head.proof]
        operator = point.signer(domain, head.checkpoint.signature_bytes)
        offer.require_signer(domain, head.offer.signature_bytes, receipt.gateway)
        wrong = {
            "the receipt is another": (receipt.provider, receipt.number) != (provider, number),
            "the receipt is not under the anchored root": not verify_batch_proof(batch["root"], receipt.struct_hash(), proof),
            "the checkpoint is not the receipt's": point.struct_hash() != receipt.checkpoint,
            "the checkpoint is not by the provider": self.chain.call("ProviderRegistry", "providerOf", operator) != provider,
            "the offer is for another stage": (offer.job_id, offer.provider, offer.layers) != (receipt.job_id, provider, receipt.layers),
            "the first position is not the one that was ordered": len({offer.first_position, point.first_position, receipt.first_position}) > 1,
            "the tokens before it are not the offer's": bool(head.prompt) and prompt_root(offer.salt, head.prompt) != offer.prompt_root,
            "the sampling parameters are not the offer's": sampling.digest() != offer.sampling_hash,
            "the execution class is not known": offer.execution_class not in EXECUTION_CLASSES,
            "the rows do not divide": head.row_count * head.row_bytes != len(raw) or not raw,
        }
        for words, is_wrong in wrong.items():
            if is_wrong:
                raise EvidenceBad(f"receipt {number} of {provider}: {words}")
        payloads = [raw[i : i + head.row_bytes] for i in range(0, len(raw), head.row_bytes)]
        boundary = offer.first_layer if part == ROWS_IN else offer.end_layer
        dtype = TOKEN_DTYPE if boundary == 0 else wire_dtype_of(EXECUTION_CLASSES[offer.execution_class])
        first = 0 if part == ROWS_IN else offer.first_position
        tree = RowTree()
        for position, payload in enumerate(payloads, first):
            tree.append(row_leaf(offer.salt, boundary, position, dtype, payload))
        if tree.root() != (point.root_in if part == ROWS_IN else point.root_out):
            raise EvidenceBad(f"receipt {number} of {provider}: the rows do not have the signed root")
        if part == ROWS_IN and boundary:
            self._require_sent(head, offer, [row_leaf(offer.salt, boundary, position, dtype, payload) for position, payload in enumerate(payloads)])
        return Evidence(receipt, point, offer, sampling, payloads, head.prompt[offer.prompt_tokens :])

    def _require_sent(self, head: EvidenceHead, offer: SessionOffer, leaves: list[bytes]) -> None:
        """Rows in are those that the stages before signed for, in turn: else a stage could answer for the rows of another job.

        Rows after a stage's last checkpoint are bound by nothing, CHECKPOINT_EVERY of them at most; nor are those before a replacement's own first
        position, where the stage before it was a replacement too. Raises EvidenceBad or BadSignature.
        """
        senders, at = self._senders(head, offer), 0
        for signed, point in sorted(((s, Checkpoint.from_json(s.message)) for s in head.upstream), key=lambda item: item[1].first_position):
            first, end = point.first_position, point.first_position + point.count
            operator = point.signer(self.chain.receipts_domain, signed.signature_bytes)
            if operator not in senders or (point.job_id, point.end_layer) != (offer.job_id, offer.first_layer):
                raise EvidenceBad(f"a checkpoint by {operator} is given for the rows in, who was not the stage before")
            if (
                not at <= first <= max(at + CHECKPOINT_EVERY, offer.first_position)
                or end > len(leaves)
                or row_tree_root(leaves[first:end]) != point.root_out
            ):
                raise EvidenceBad(f"rows {first} to {end} are not those that {operator} signed for")
            at = end
        if len(leaves) > at + CHECKPOINT_EVERY:
            raise EvidenceBad(f"rows {at} to {len(leaves)} are not bound to what the stage before sent")

    def _senders(self, head: EvidenceHead, offer: SessionOffer) -> set[str]:
        """Operators that the gateway put before the offer's stage. Raises EvidenceBad or BadSignature."""
        if route_hash(head.route) != offer.route_hash:
            raise EvidenceBad("the route is not the one that the offer names")
        routes = [head.route]
        for request in head.updates:
            update = RouteUpdate.from_json(request.update.message)
            update.require_signer(self.chain.receipts_domain, request.update.signature_bytes, offer.gateway)
            if update.job_id != offer.job_id or update.route_hash != route_hash(request.route):
                raise EvidenceBad("a route update is for another job or route")
            routes.append(request.route)
        return {stop.operator for route in routes for stop in route if stop.end_layer == offer.first_layer}

    async def _connect(self, provider: str) -> StageClient:
        info = struct_values("ProviderRegistry", "providerInfo", self.chain.call("ProviderRegistry", "providerInfo", provider))
        try:
            return await StageClient.connect(info["endpoint"], info["tlsCertHash"])
        except StageUnavailable as error:
            raise EvidenceMissing(str(error)) from error


def _head(raw: bytes) -> EvidenceHead:
    """Decode an evidence stream's head and hold it to what rows of a job can be. Raises EvidenceBad."""
    try:
        head = msgspec.json.decode(raw, type=EvidenceHead)
        rows = StageReceipt.from_json(head.receipt.message)
    except (msgspec.MsgspecError, ValueError) as error:
        raise EvidenceBad(f"the evidence has no head: {error}") from error
    if not 0 < head.row_bytes <= MOST_ROW_BYTES or not 0 < head.row_count <= rows.first_position + rows.position_count:
        raise EvidenceBad(f"{head.row_count} rows of {head.row_bytes} bytes are announced for {rows.position_count} positions")
    return head
