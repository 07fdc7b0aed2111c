"""Wires the provider-agent: settings, keys, model, server, loops."""

import asyncio
import contextlib
import fcntl
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO

import grpc
import structlog
import torch
import transformers

from inference.classes import ExecutionClass
from inference.devices import parse_device
from inference.encoder import executor_of, stage_of
from inference.loader import LoadedStage
from inference.portable import ROWS_OUT
from protocol import ProtocolError, SettingsError
from protocol.disputes import DisputeReader
from protocol.keystore import read_account
from protocol.manifest import Manifest
from protocol.settings import ProviderSettings
from protocol.stage_rpc import OPTIONS
from provider import ProviderError
from provider.access import EvidenceAccess
from provider.anchoring import Anchoring
from provider.backing import Backing
from provider.closing import Closing
from provider.evidence import EvidenceStore
from provider.ledger import Ledger
from provider.planting import Planting
from provider.pricing import Pricing
from provider.retention import Retention
from provider.server import StageServer
from provider.session import Signer
from provider.showing import Showing
from provider.standby import Shipper, Standby
from provider.tls import ensure_certificate

log = structlog.get_logger()

SWITCH_SECONDS = 0.0002
"""For how long one thread may keep another from Python. The compute thread lets go at each kernel, and by default would get back in after 5 ms."""


async def serve(settings: ProviderSettings, tamper: Callable[[StageServer], None] = lambda _: None, moved: Callable[[], bool] | None = None) -> bool:
    """Load the stage, listen, anchor and claim until SIGTERM or SIGINT, or until ``moved`` says that other layers are to be served: True then.

    ``tamper`` is for the adversaries of the tests: it is given the server before that listens.
    """
    lock = lock_data_dir(settings.data_dir)
    torch.set_num_threads(settings.threads)
    sys.setswitchinterval(SWITCH_SECONDS)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    account = read_account(settings.require_keystore(), settings.password())
    chain = settings.chain()
    execution, device = ExecutionClass.parse(settings.execution_class), parse_device(settings.device)
    manifest = Manifest.read(settings.model_dir)

    def load() -> LoadedStage:
        return stage_of(settings.model_dir, settings.layer_range, execution.dtype, manifest, execution.attention, execution.int8, device)

    stage = load()

    ledger = Ledger(settings.data_dir / "provider.db")
    evidence = EvidenceStore(settings.data_dir / "evidence", settings.evidence_bytes)
    if swept := evidence.sweep():
        log.info("removed sessions that a restart cut off before their first checkpoint", sessions=swept)
    signer = Signer(chain.receipts_domain, bytes(account.key), settings.owner)
    backing, executor = Backing(chain, ledger, chain.settlement_domain), executor_of(settings.model_dir, stage)
    if settings.compile:
        executor.compile()
    if not executor.pack():
        log.warning("sessions run one after another: this model's state is not kept in plain keys and values", layers=settings.layers)
    row_bytes = executor.hidden_size * execution.dtype.itemsize
    shapes = {name: (tensor.shape[0], tensor.shape[2]) for name, tensor in executor.kv_of_a_row().items()} if executor.forks else {}
    standby = Standby(
        chain=chain,
        signer=signer,
        trusted=settings.trusted,
        model_id=manifest.model_id,
        layers=settings.layer_range,
        dtype=execution.wire_dtype,
        shapes={**shapes, ROWS_OUT: (executor.hidden_size,)},
        budget=settings.standby_bytes,
    )
    shipper = Shipper(chain, signer, settings.standby_address) if settings.standby_address else None
    if shipper is not None and not executor.forks:
        log.warning("nothing is shipped to a standby: this model's state is not kept in plain keys and values", layers=settings.layers)
    disputes = DisputeReader(chain)
    planting = Planting(chain, account, settings.owner, settings.data_dir / "plants", disputes)
    server = StageServer(
        layers=settings.layer_range,
        model_id=manifest.model_id,
        execution=execution,
        executor=executor,
        signer=signer,
        evidence=evidence,
        ledger=ledger,
        backing=backing,
        pricing=Pricing(chain, settings.owner, settings.bulk_percent),
        showing=Showing(evidence, EvidenceAccess(chain, ledger, settings.owner, disputes), ledger, settings.layer_range),
        closing=Closing(signer, evidence, ledger, backing, settings.layer_range.first, row_bytes),
        planting=planting,
        kv_bytes=settings.kv_bytes,
        model_dir=settings.model_dir,
        load=load,
        standby=standby,
        shipper=shipper,
        hands_over=settings.hand_over,
        unload_seconds=settings.unload_seconds,
    )
    tamper(server)
    anchoring = Anchoring(chain, ledger, account, settings.owner)
    retention = Retention(chain, ledger, evidence, settings.owner)

    key_file, cert_file, _ = ensure_certificate(settings.data_dir)
    # Without it a second agent on the same port would take half of the connections, and each would show the wrong certificate.
    listener = grpc.aio.server(options=[*OPTIONS, ("grpc.so_reuseport", 0)])
    listener.add_generic_rpc_handlers((server.handlers(),))
    credentials = grpc.ssl_server_credentials([(key_file.read_bytes(), cert_file.read_bytes())])
    try:
        port = listener.add_secure_port(f"{settings.host}:{settings.port}", credentials)
    except RuntimeError as error:
        raise SettingsError(f"{settings.host}:{settings.port} is taken; stop what listens there, or set another FUNCNET_PORT") from error
    await listener.start()
    log.info("ready", endpoint=f"grpcs://{settings.host}:{port}", layers=settings.layers, device=str(device), tensors=len(stage.loaded_keys))
    loops = [
        asyncio.create_task(_repeat(settings.anchor_seconds, lambda: asyncio.to_thread(anchoring.anchor))),
        asyncio.create_task(_repeat(settings.anchor_seconds * 3, lambda: asyncio.to_thread(anchoring.collect))),
        asyncio.create_task(_repeat(settings.anchor_seconds * 10, lambda: asyncio.to_thread(retention.sweep))),
        asyncio.create_task(_repeat(settings.anchor_seconds, lambda: asyncio.to_thread(planting.open_convicted))),
        asyncio.create_task(_repeat(settings.anchor_seconds, server.unload_idle)),
        *([] if shipper is None else [asyncio.create_task(shipper.run())]),
    ]
    stop, moves = asyncio.Event(), False

    async def follow(moved: Callable[[], bool]) -> None:
        nonlocal moves
        if await asyncio.to_thread(moved):
            log.info("other layers are offered now: ends, to serve those")
            moves = True
            stop.set()

    if moved is not None:
        loops.append(asyncio.create_task(_repeat(settings.anchor_seconds * 10, lambda: follow(moved))))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    log.info("ends once its sessions have", sessions=len(server.sessions), seconds=settings.drain_seconds)
    stop.clear()
    draining = asyncio.create_task(server.drain(settings.drain_seconds))
    again = asyncio.create_task(stop.wait())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    for task in (*loops, draining, again):
        task.cancel()
    with contextlib.suppress(ProtocolError):  # else the next start anchors them
        await asyncio.to_thread(anchoring.anchor)
    if kept := sum(len(ledger.kept_receipts(batch_id)) for batch_id in ledger.kept_batches()):
        log.warning("verifiers may still ask for rows: be back before the draw window ends, or they count as withheld", receipts=kept)
    await listener.stop(grace=2)
    for clients in (server.clients, *([] if shipper is None else [shipper.clients])):
        await clients.close()
    ledger.close()
    lock.close()
    return moves


def lock_data_dir(data_dir: Path) -> IO[str]:
    """Hold the data folder, so that the same key never runs twice. Raises SettingsError where another agent holds it."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (data_dir / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SettingsError(f"another provider-agent runs on {data_dir}; stop it, or set another FUNCNET_DATA_DIR") from None
    return file


async def _repeat(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do the work again and again; what fails is logged and tried again."""
    while True:
        try:
            await work()
        except (ProtocolError, ProviderError) as error:
            log.warning("will try again", reason=str(error))
        except Exception:
            log.exception("will try again")
        await asyncio.sleep(seconds)
