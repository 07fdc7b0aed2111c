"""Sell checks: of a job's stages, before its answer is final, to the gateway that ordered them. Paid by voucher, as stages are."""

import asyncio
from dataclasses import dataclass, field

import structlog
from eth_account.signers.local import LocalAccount

from protocol import authorisations
from protocol.chain import Chain
from protocol.duties import VERDICTS
from protocol.manifest import ModelShelf
from protocol.receipts import CheckOrder, CheckReport, StageReceipt, Voucher, check_cost
from protocol.typed import Signed
from protocol.wire import ORDERED, CheckAnswer, CheckFinding, CheckRequest, CheckTerms, OrderedCheck
from verifier import NotCovered, SaleRefused
from verifier.store import CheckKey, Sold, Store

log = structlog.get_logger()

CHECK_SECONDS = 60
"""After so long a check that has come to no end decides nothing."""
LOOK_SECONDS = 0.05


@dataclass
class Sales:
    """One verifier's. ``price``: wei per million rows replayed; none is sold where it is None."""

    chain: Chain
    account: LocalAccount
    store: Store
    shelf: ModelShelf
    price: int | None
    _collected: int = field(default=-1, init=False)

    def terms(self) -> CheckTerms:
        """Raises SaleRefused where no checks are sold."""
        return CheckTerms(str(self._price()), ["0x" + model_id.hex() for model_id in self._models()])

    def _models(self) -> set[bytes]:
        """Those whose table of tolerances has been reproduced here: before that the worker is busy with it, and its word would be worth little."""
        return {model_id for model_id in self.shelf.folders() if self.store.vouches(model_id)}

    def _price(self) -> int:
        if self.price is None:
            raise SaleRefused("this verifier sells no checks")
        return self.price

    def take(self, request: CheckRequest) -> list[CheckKey]:
        """Take the orders, paid for. Raises SaleRefused, BadSignature or ValueError."""
        sold = [self._order(check) for check in request.checks]
        receipts = [StageReceipt.from_json(check.receipt.message) for check in request.checks]
        voucher = Voucher.from_json(request.voucher.message)
        for receipt in receipts:
            expected = (receipt.payer, receipt.gateway, self.account.address, receipt.model_id)
            if (voucher.payer, voucher.gateway, voucher.provider, voucher.model_id) != expected:
                raise SaleRefused("the voucher is for another stream than the receipts, or for another verifier")
        voucher.require_signer(self.chain.settlement_domain, request.voucher.signature_bytes, voucher.gateway)
        stream, signed_for = (voucher.payer, voucher.gateway, voucher.provider, voucher.model_id), 0
        if request.authorisation is not None:
            signed_for = authorisations.read(self.chain, request.authorisation, voucher.payer, voucher.gateway).cumulative
        redeemed = int(self.chain.call("Settlement", "redeemedOf", *stream))
        there = sum(self.chain.call("PaymentEscrow", "availableWith", *stream, signed_for))
        if voucher.cumulative - redeemed > there:
            raise NotCovered(f"{there} wei are there for vouchers of {voucher.gateway}, {voucher.cumulative - redeemed} would be promised")
        self.store.sell(voucher, request.voucher, sold, request.authorisation)
        return [one.key for one in sold]

    def _order(self, check: OrderedCheck) -> Sold:
        order, receipt = CheckOrder.from_json(check.order.message), StageReceipt.from_json(check.receipt.message)
        domain, price = self.chain.receipts_domain, self._price()
        order.require_signer(domain, check.order.signature_bytes, receipt.gateway)
        signer = receipt.signer(domain, check.receipt.signature_bytes)
        faults = {
            f"the order is for verifier {order.verifier}, this is {self.account.address}": order.verifier != self.account.address,
            "the order is for another receipt than is shown": order.receipt != receipt.struct_hash(),
            f"{order.price} wei for a million rows are offered, {price} are asked": order.price < price,
            f"the order expired at {order.expires_at}": order.expires_at < self.chain.clock(),
            f"checks of model 0x{receipt.model_id.hex()} are not sold here": receipt.model_id not in self._models(),
            f"{signer} is no operator of {receipt.provider}": self.chain.call("ProviderRegistry", "providerOf", signer) != receipt.provider,
        }
        for words, wrong in faults.items():
            if wrong:
                raise SaleRefused(words)
        return Sold(CheckKey(receipt.provider, receipt.number, ORDERED), check.order, check_cost(receipt.rows, price))

    async def answer(self, keys: list[CheckKey], request: CheckRequest) -> CheckAnswer:
        """Wait for the verdicts and sign them."""
        found = await asyncio.gather(*(self._verdict(key) for key in keys))
        findings = []
        for (verdict, detail), check in zip(found, request.checks, strict=True):
            report = CheckReport(self.account.address, CheckOrder.from_json(check.order.message).receipt, VERDICTS.index(verdict) + 1)
            signature = report.sign(self.chain.receipts_domain, bytes(self.account.key))
            findings.append(CheckFinding(Signed.of(report, signature), detail))
        return CheckAnswer(findings)

    async def _verdict(self, key: CheckKey) -> tuple[str, dict[str, object]]:
        end = asyncio.get_running_loop().time() + CHECK_SECONDS
        while (found := await asyncio.to_thread(self.store.found, key)) is None:
            if asyncio.get_running_loop().time() > end:
                await asyncio.to_thread(self.store.finish, key, "INCONCLUSIVE", {"reason": f"no end within {CHECK_SECONDS} s"})
            await asyncio.sleep(LOOK_SECONDS)
        return found["verdict"], found["detail"] or {}

    def collect(self) -> None:
        """Redeem and take what checks have earned, once an epoch."""
        epoch = int(self.chain.call("VerifierSet", "currentEpoch"))
        if epoch == self._collected:
            return
        for authorisation in self.store.authorisations():
            authorisations.show(self.chain, self.account, authorisation)
        signed = self.store.sales()
        vouchers = [Voucher.from_json(one.message) for one in signed]
        structs, signatures = [voucher.abi_tuple() for voucher in vouchers], [one.signature_bytes for one in signed]
        _, deltas = self.chain.call("Settlement", "preview", structs, signatures) if structs else ((), ())
        worth = [i for i, delta in enumerate(deltas) if delta]
        if worth:
            self.chain.send(self.account, "Settlement", "redeem", [structs[i] for i in worth], [signatures[i] for i in worth])
        held = [m for m in {v.model_id for v in vouchers} if self.chain.call("Settlement", "heldOf", self.account.address, m)]
        if held:
            digest = self.chain.send(self.account, "Settlement", "releaseChecks", self.account.address, held)
            log.info("paid for checks", streams=len(worth), tx=digest)
        self._collected = epoch
