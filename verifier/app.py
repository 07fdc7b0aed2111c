"""Wires the verifier service: one loop, and a page of statements for the other verifiers. Needs no torch."""

import asyncio
import signal
from collections.abc import Awaitable
from itertools import groupby, islice

import msgspec
import requests
import structlog
from aiohttp import web
from psycopg import Error as DatabaseError

from protocol import BadSignature, ProtocolError, SettingsError, Unavailable, logs
from protocol.chain import struct_values
from protocol.database import migrate, open_pool
from protocol.disputes import DisputeReader
from protocol.keystore import read_account, read_keystore
from protocol.manifest import ModelShelf
from protocol.settings import VerifierSettings, read_password
from protocol.units import FUNC
from protocol.wire import CheckAnswer, CheckRequest
from verifier import NotCovered, SaleRefused, VerifierError
from verifier.duty import Duties
from verifier.evidence import EvidenceClient
from verifier.judging import Judging
from verifier.queue import ATTEST_TASK, CHECK_TASK, celery_app
from verifier.sales import Sales
from verifier.store import CheckKey, Store

log = structlog.get_logger()

PAUSE_SECONDS = 1.0
BATCH_CHECKS = 8
"""Checks in one task of a worker: what they fetch is in memory at the same time."""


class Service:
    """The loop's steps in order; each can be repeated."""

    def __init__(self, settings: VerifierSettings) -> None:
        if settings.bls_keystore is None:
            raise SettingsError("no BLS keystore is set; set FUNCNET_BLS_KEYSTORE")
        url = settings.database_url.get_secret_value()
        migrate(url, "verifier")
        self.chain = settings.chain()
        self.account = read_account(settings.require_keystore(), settings.password())
        bls_password = read_password(settings.bls_keystore_password_file, "FUNCNET_BLS_KEYSTORE_PASSWORD_FILE")
        secret = read_keystore(settings.bls_keystore, bls_password)
        self.store = Store(open_pool(url), self.account.address)
        self.shelf = ModelShelf(settings.models_dir)
        self.evidence = EvidenceClient(self.chain, self.account)
        posting = int(self.chain.call("VerifierSet", "postingEpochs"))
        window = int(struct_values("Disputes", "parameters", self.chain.call("Disputes", "parameters"))["disputeWindow"])
        self.duties = Duties(self.chain, self.account, secret, self.store, self.evidence, posting, window)
        # Payouts must still be held when the wait is over. A devnet's challenge window is too short for that.
        waits = posting * int(self.chain.call("VerifierSet", "epochLength")) < int(self.chain.call("CommitmentLog", "challengeWindow"))
        self.judging = Judging(self.chain, self.account, secret, self.store, self.evidence, DisputeReader(self.chain), waits)
        price = None if settings.check_price is None else int(settings.check_price * FUNC)
        self.sales = Sales(self.chain, self.account, self.store, self.shelf, price)
        self.queue = celery_app(settings)
        self.head: tuple[int, bytes | None] = (-1, None)
        self.attested: set[bytes] = set()
        self.attest_sent: set[bytes] = set()

    def step(self) -> None:
        """Everything once. A step that fails is logged and does not keep the others from running."""
        for work in (
            self._notice_reorg,
            self._attest,
            self.duties.draw,
            self._dispatch,
            self.duties.pin,
            self.judging.open_disputes,
            self.judging.prove_contradictions,
            self.judging.take_seats,
            self.judging.carry_on,
            self.duties.post,
            self.duties.claim,
            self.sales.collect,
        ):
            try:
                work()
            except (ProtocolError, VerifierError, DatabaseError, requests.RequestException) as error:
                log.warning("will try again", step=getattr(work, "__name__", "step"), reason=str(error))
            except Exception:
                # What providers send passes through here: nothing of it may stop the other steps.
                log.exception("step failed", step=getattr(work, "__name__", "step"))

    def _notice_reorg(self) -> None:
        """Whether the block that was the head at the last look is still there."""
        number, digest = self.head
        if number >= 0 and self.chain.block_hash(number) != digest:
            log.warning("reorg", block=number)
            self.duties.review()
        newest = self.chain.head()
        self.head = (newest, self.chain.block_hash(newest))

    def _dispatch(self) -> None:
        # Of one provider together: most offer one stage, and checks of a stage are replayed in one pass.
        for _, keys in groupby(sorted(self.store.lease(), key=lambda key: key.provider), key=lambda key: key.provider):
            while chunk := list(islice(keys, BATCH_CHECKS)):
                self.ring(chunk)

    def ring(self, keys: list[CheckKey]) -> None:
        """Have a worker carry out checks that are leased."""
        self.queue.send_task(CHECK_TASK, ([(key.provider, key.number, key.dispute_id) for key in keys],))

    async def sell(self, raw: bytes) -> CheckAnswer:
        """Check what a gateway orders, now. Raises SaleRefused, BadSignature or ValueError."""
        request = msgspec.json.decode(raw, type=CheckRequest)
        keys = await asyncio.to_thread(self.sales.take, request)
        for key in keys:  # one by one, so that several workers share them
            await asyncio.to_thread(self.ring, [key])
        return await self.sales.answer(keys, request)

    def _attest(self) -> None:
        for model_id in self.shelf.folders().keys() - self.attested:
            model = self.chain.call("ModelRegistry", "model", model_id)
            if model[1] == bytes(32):
                continue
            if self.judging.attest(model_id):
                self.attested.add(model_id)
                continue
            if model_id not in self.attest_sent:
                self.queue.send_task(ATTEST_TASK, (model_id.hex(), model[4].hex()))
                self.attest_sent.add(model_id)


async def serve(settings: VerifierSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    service = await asyncio.to_thread(Service, settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def statement(request: web.Request) -> web.Response:
        said = await asyncio.to_thread(service.store.statement, request.match_info["subject"])
        if said is None or not said["signature"]:
            return web.json_response({"error": "nothing said yet"}, status=404)
        return web.json_response({"epoch": said["epoch"], "value": said["value"], "signature": "0x" + bytes(said["signature"]).hex()})

    async def duties(request: web.Request) -> web.Response:
        epoch = int(request.match_info["epoch"])
        if not await asyncio.to_thread(service.duties.may_open, epoch):
            # Before that a lazy verifier could copy from it.
            return web.json_response({"error": f"duties of epoch {epoch} are not posted, or others may still post theirs"}, status=404)
        opening = await asyncio.to_thread(service.store.opening, epoch)
        return web.json_response({"epoch": epoch, **opening.to_json()})

    async def terms(_: web.Request) -> web.Response:
        return await _told(asyncio.to_thread(service.sales.terms))

    async def sell(request: web.Request) -> web.Response:
        return await _told(service.sell(await request.read()))

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    page = web.Application()
    page.router.add_get("/v1/statements/{subject:.+}", statement)
    page.router.add_get(r"/v1/duties/{epoch:\d{1,9}}", duties)
    page.router.add_get("/v1/checks", terms)
    page.router.add_post("/v1/checks", sell)
    page.router.add_get("/livez", livez)
    runner = web.AppRunner(page, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, settings.host, settings.port).start()
    log.info("ready", verifier=service.account.address)
    while not stop.is_set():
        await asyncio.to_thread(service.step)
        try:
            await asyncio.wait_for(stop.wait(), PAUSE_SECONDS)
        except TimeoutError:
            continue
    await runner.cleanup()


async def _told(work: Awaitable[msgspec.Struct]) -> web.Response:
    """An answer, or why there is none."""
    try:
        return web.Response(body=msgspec.json.encode(await work), content_type="application/json")
    except (SaleRefused, BadSignature, ValueError) as error:
        return web.json_response({"error": str(error)}, status=402 if isinstance(error, NotCovered) else 400)
    except (Unavailable, DatabaseError) as error:
        log.warning("no check is sold", reason=str(error))
        return web.json_response({"error": "the chain or the database cannot be reached; try again"}, status=503)


def main() -> None:
    settings = VerifierSettings.load()
    logs.configure(settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
