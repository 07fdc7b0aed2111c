"""The replay worker: a Celery worker that holds the model. ``python -m verifier.worker``."""

import asyncio
import os
import sys
import time
from functools import partial
from itertools import starmap
from typing import Any

import msgspec
import structlog
import torch
import transformers
from celery.worker import state

from inference import InferenceError
from inference.compare import Verdict, tolerance_root
from inference.devices import parse_device
from protocol import ProtocolError, Reverted, logs
from protocol.database import open_pool
from protocol.keystore import read_account
from protocol.manifest import ModelShelf
from protocol.settings import VerifierSettings
from protocol.typed import Signed
from protocol.wire import ORDERED
from verifier import EvidenceBad, EvidenceMissing
from verifier.attest import reproduces
from verifier.checks import Ask, Checking, CheckResult, Replayers
from verifier.evidence import EvidenceClient
from verifier.queue import ATTEST_TASK, CHECK_TASK, celery_app
from verifier.store import CheckKey, Store

log = structlog.get_logger()

LEAST_PATIENCE_SECONDS = 120
LIST_PATIENCE_SECONDS = 600
"""Longer than for rows, which a pin on chain has warned of: a provider may be moving to another machine."""
BAD_LIST_SECONDS = 20
"""A provider that shows a list has noticed a reorg by then."""


def main() -> None:
    settings = VerifierSettings.load()
    logs.configure(settings.log_level)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(settings.threads)
    account = read_account(settings.require_keystore(), settings.password())
    store = Store(open_pool(settings.database_url.get_secret_value()), account.address)
    chain = settings.chain()
    client = EvidenceClient(chain, account)
    # Evidence counts as withheld when it was not to be had for half the time that duties may be posted in: hours in production, so that a
    # provider may restart, or move. A devnet's windows are shorter than a restart; nobody is to be accused of that.
    posting = int(chain.call("VerifierSet", "postingEpochs")) * int(chain.call("VerifierSet", "epochLength"))
    patience = max(posting / 2, LEAST_PATIENCE_SECONDS)
    list_patience = max(posting / 2, LIST_PATIENCE_SECONDS)
    replayers = Replayers(ModelShelf(settings.models_dir), parse_device(settings.device))
    app = celery_app(settings)

    @app.task(name=CHECK_TASK)
    def run_checks(keys: list[tuple[str, int, int]]) -> None:
        rows = {key: row for key in starmap(CheckKey, keys) if (row := store.pending(key)) is not None}

        async def run() -> None:
            asks = [ask(key, row) for key, row in rows.items() if not row["of_list"]]
            async for key, result in Checking(client, replayers, store.committed, store.add_shown).run(asks):
                settle(key, result)
            for key, row in rows.items():
                if row["of_list"]:
                    await see_list(key, row)

        def ask(key: CheckKey, row: dict[str, Any]) -> Ask:
            if key.dispute_id == ORDERED:
                return Ask(key, b"", order=msgspec.convert(row["ordered"], Signed))
            return Ask(key, store.epoch_signature(row["epoch"]), partial(store.place, key.provider, row["batch_id"], key.number))

        async def see_list(key: CheckKey, row: dict[str, Any]) -> None:
            """A list once shown is kept, so that it is drawn from; one that has another root may be the provider's of before a reorg."""
            try:
                store.keep_batch(key.provider, row["batch_id"], await client.batch(key.provider, row["batch_id"]))
                store.finish(key, Verdict.PASS, {})
            except Reverted as error:  # the batch itself is gone, by a reorg or by age
                store.finish(key, Verdict.INCONCLUSIVE, {"reason": str(error)})
            except (EvidenceMissing, EvidenceBad) as error:
                enough = BAD_LIST_SECONDS if isinstance(error, EvidenceBad) else list_patience
                if row["waited"] >= enough:
                    store.finish(key, Verdict.WITHHELD, {"reason": str(error)})
                else:
                    store.retry(key, str(error))
                log.warning("no list", provider=key.provider, batch=row["batch_id"], waited=int(row["waited"]), reason=str(error))

        def settle(key: CheckKey, result: CheckResult | EvidenceMissing) -> None:
            if isinstance(result, EvidenceMissing):
                waited, owed = rows[key]["waited"], key.dispute_id >= 0 or rows[key]["pinned"]
                if key.dispute_id == ORDERED:  # a job is waiting
                    store.finish(key, Verdict.WITHHELD, {"reason": str(result)})
                elif waited >= patience:
                    # Rows that nobody pinned in time may be gone by right. A dispute's judges look at what the challenger pinned.
                    store.finish(key, Verdict.WITHHELD if owed else Verdict.INCONCLUSIVE, {"reason": str(result)})
                else:
                    store.retry(key, str(result))
                log.warning("no evidence", provider=key.provider, number=key.number, waited=int(waited), reason=str(result))
                return
            store.finish(key, result.verdict, result.detail)
            said = {"provider": key.provider, "number": key.number, "dispute": key.dispute_id, "together": len(rows)}
            log.info("checked", **said, verdict=result.verdict, **_rounded(result.detail))

        asyncio.run(run())

    @app.task(name=ATTEST_TASK)
    def run_attest(model_id: str, registered_root: str) -> None:
        subject, replayer = f"tolerance/{model_id}", replayers.of(bytes.fromhex(model_id))
        table = [] if replayer is None else list(replayer.tolerances.values())
        try:
            ok = replayer is not None and tolerance_root(table).hex() == registered_root and reproduces(replayer, table)
        except InferenceError as error:
            # Whoever holds only some layers cannot decode, and so vouches for no table.
            log.warning("tolerance table not reproduced", model=model_id[:16], reason=str(error))
            ok = False
        store.add_statement(f"local/{subject}", 0, "yes" if ok else "no", b"")
        log.info("tolerance table", model=model_id[:16], reproduced=ok)

    app.worker_main(["worker", "--pool", "solo", "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"])
    if state.should_stop is None and state.should_terminate is None:
        # kombu's filesystem transport can fetch a message that is half written, upon which Celery gives up, without having been asked to. What
        # the message rang for is in PostgreSQL and is queued again when its lease runs out, so the worker begins anew, in the same process.
        log.warning("the worker gave up and begins anew")
        time.sleep(1)
        os.execv(sys.executable, [sys.executable, "-m", "verifier.worker"])


def _rounded(detail: dict[str, Any] | None) -> dict[str, Any]:
    return {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in (detail or {}).items()}


if __name__ == "__main__":
    try:
        main()
    except (ProtocolError, InferenceError) as error:
        sys.exit(f"verifier: {error}")
