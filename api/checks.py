"""``require_verified``: have verifiers replay every stage of a job before its answer is final, at their price.

A verifier is drawn for each job, among those that sell checks of the model for no more than the median, so that no single one can draw all work to
itself. What it decides it signs; what it leaves undecided the next one is asked about.
"""

import asyncio
import random
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import structlog

from api import NoRoute
from api.budget import Budget
from api.signing import Signer
from protocol import BadSignature, ProtocolError, Unavailable
from protocol.chain import Chain
from protocol.duties import VERDICTS
from protocol.members import Member, active_members
from protocol.receipts import CheckOrder, CheckReport, StageReceipt, Voucher, check_cost
from protocol.typed import Signed
from protocol.units import format_func
from protocol.wire import CheckAnswer, CheckRequest, CheckTerms, OrderedCheck

log = structlog.get_logger()

ORDER_SECONDS = 600
TERMS_SECONDS = 3
ANSWER_SECONDS = 90
ANSWER_BYTES = 1 << 20
TRIES = 3
"""Verifiers that are asked about a job at most."""
REFUSALS = (400, 402, 404, 503)
"""What a verifier answers before it has taken an order."""
PASS, INCONCLUSIVE = "PASS", "INCONCLUSIVE"


@dataclass(frozen=True)
class Seller:
    """A verifier that sells checks; ``price`` in wei per million rows."""

    verifier: str
    endpoint: str
    price: int
    models: frozenset[bytes]


@dataclass(frozen=True)
class Finding:
    """What a verifier signed about a receipt."""

    receipt: StageReceipt
    verdict: str
    report: Signed
    detail: dict[str, Any]

    def told(self) -> dict[str, Any]:
        """As the answer carries it."""
        about = {"provider": self.receipt.provider, "layers": str(self.receipt.layers), "receipt_number": self.receipt.number}
        return {**about, "verdict": self.verdict, "report": msgspec.to_builtins(self.report), "detail": self.detail}


class NotTaken(ProtocolError):
    """A verifier takes no such order, and nothing is owed to it."""


@dataclass
class Checks:
    """Orders checks in the gateway's name."""

    chain: Chain
    account: Signer
    budget: Budget
    known: list[Seller] = field(default_factory=list)
    """Those who sold checks when last asked."""

    async def refresh(self) -> None:
        """Ask the verifiers of this epoch what they take."""
        members = await asyncio.to_thread(self._members)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TERMS_SECONDS)) as http:
            found = await asyncio.gather(*(_terms(http, member) for member in members))
        self.known = [seller for seller in found if seller is not None]

    def _members(self) -> Collection[Member]:
        return active_members(self.chain, int(self.chain.call("VerifierSet", "currentEpoch"))).values()

    def price(self, model_id: bytes) -> int | None:
        """The lowest price of a check of the model, in wei per million rows of one stage; None where nobody sells any."""
        return min((seller.price for seller in self.known if model_id in seller.models), default=None)

    async def sellers(self, model_id: bytes, most: int | None) -> tuple[Seller, ...]:
        """Whom to ask in turn. ``most``: wei per million rows that may be paid. Raises NoRoute where nobody sells such checks."""
        if self.price(model_id) is None:
            await self.refresh()
        selling = [seller for seller in self.known if model_id in seller.models]
        if not selling:
            raise NoRoute("no verifier sells checks of this model now; leave out provider.require_verified, or try later", code="no_verifier")
        middle = statistics.median_low(seller.price for seller in selling)
        cheap = [seller for seller in selling if seller.price <= (middle if most is None else min(middle, most))]
        if not cheap:
            words = f"checks cost {format_func(min(seller.price for seller in selling))} for a million rows of a stage"
            raise NoRoute(f"{words}, {format_func(most or 0)} were to be paid at most; raise provider.max_price.check", code="no_verifier")
        return tuple(random.sample(cheap, min(TRIES, len(cheap))))

    async def run(self, job: str, sellers: Sequence[Seller], receipts: Sequence[Signed], authorisation: Signed | None = None) -> list[Finding]:
        """A finding for each receipt that somebody decided about, or did not; nothing more is asked once one is neither passed nor undecided.

        ``authorisation``: of a payer that signs its requests.
        """
        waiting, found = {StageReceipt.from_json(signed.message): signed for signed in receipts}, dict[bytes, Finding]()
        for seller in sellers:
            try:
                findings = await self._ask(job, seller, waiting, authorisation)
            except (ProtocolError, aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("no check", verifier=seller.verifier, job=job[:18], reason=str(error))
                continue
            found |= {finding.receipt.struct_hash(): finding for finding in findings}
            waiting = {one.receipt: waiting[one.receipt] for one in findings if one.verdict == INCONCLUSIVE}
            if not waiting or any(one.verdict not in (PASS, INCONCLUSIVE) for one in findings):
                break
        return list(found.values())

    async def _ask(self, job: str, seller: Seller, receipts: dict[StageReceipt, Signed], authorisation: Signed | None) -> list[Finding]:
        """Pay, and wait for the verdicts. Raises NotTaken, and what a wrong answer or none gives: then the voucher may be redeemed."""
        cost = sum(check_cost(receipt.rows, seller.price) for receipt in receipts)
        expires = await asyncio.to_thread(self.chain.clock) + ORDER_SECONDS
        orders = [await self._order(seller, receipt, signed, expires) for receipt, signed in receipts.items()]
        one = next(iter(receipts))
        cumulative = await self.budget.order_checks(job, seller.verifier, one.model_id, cost)
        try:
            voucher = Voucher(one.payer, one.gateway, seller.verifier, one.model_id, cumulative)
            request = CheckRequest(orders, await self.account.sign(voucher, self.chain.settlement_domain), authorisation)
            raw = await _post(seller, request)
        except (NotTaken, Unavailable):
            await self.budget.refuse_checks(job, seller.verifier)
            raise
        findings = self._read(seller, list(receipts), msgspec.json.decode(raw, type=CheckAnswer))
        await self.budget.note_findings(job, seller.verifier, [finding.told() for finding in findings])
        return findings

    async def _order(self, seller: Seller, receipt: StageReceipt, signed: Signed, expires: int) -> OrderedCheck:
        parties = (seller.verifier, receipt.gateway, receipt.payer, receipt.provider)
        order = CheckOrder(*parties, receipt.number, receipt.struct_hash(), seller.price, expires)
        return OrderedCheck(await self.account.sign(order, self.chain.receipts_domain), signed)

    def _read(self, seller: Seller, receipts: Sequence[StageReceipt], answer: CheckAnswer) -> list[Finding]:
        """Raises BadSignature or ValueError for what the verifier did not sign, or what is not about these receipts."""
        findings = []
        for receipt, finding in zip(receipts, answer.findings, strict=True):
            report = CheckReport.from_json(finding.report.message)
            report.require_signer(self.chain.receipts_domain, finding.report.signature_bytes, seller.verifier)
            if report.receipt != receipt.struct_hash() or not 1 <= report.verdict <= len(VERDICTS):
                raise BadSignature(f"{seller.verifier} reports on another receipt than {receipt.number} of {receipt.provider}")
            findings.append(Finding(receipt, VERDICTS[report.verdict - 1], finding.report, finding.detail))
        return findings


async def _terms(http: aiohttp.ClientSession, member: Member) -> Seller | None:
    """What a verifier takes; None where it sells nothing, or does not say so."""
    try:
        async with http.get(f"{member.endpoint}/v1/checks") as answer:
            if answer.status != 200:
                return None
            terms = msgspec.json.decode(await _bounded(answer), type=CheckTerms)
        models = frozenset(bytes.fromhex(model.removeprefix("0x")) for model in terms.models)
        price = int(terms.price)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    return Seller(member.verifier, member.endpoint, price, models) if price >= 0 else None


async def _post(seller: Seller, request: CheckRequest) -> bytes:
    """Raises NotTaken where the verifier takes no order, aiohttp's errors or ValueError where nobody knows."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=TERMS_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.post(f"{seller.endpoint}/v1/checks", data=msgspec.json.encode(request)) as answer,
        ):
            raw = await _bounded(answer)
    except aiohttp.ClientConnectorError as error:
        raise NotTaken(f"{seller.verifier} cannot be reached: {error}") from error
    if answer.status in REFUSALS:
        raise NotTaken(f"{seller.verifier} takes no order ({answer.status}): {raw[:300].decode(errors='replace')}")
    if answer.status != 200:
        raise ValueError(f"{seller.verifier} answers {answer.status}")
    return raw


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    """Raises ValueError for an answer that is too long."""
    raw = bytearray()
    async for chunk in answer.content.iter_any():
        raw += chunk
        if len(raw) > ANSWER_BYTES:
            raise ValueError(f"an answer of more than {ANSWER_BYTES} bytes")
    return bytes(raw)
