"""Channels to stages that are kept: one for all calls, and a new one once the stage's process was another."""

import asyncio
from pathlib import Path

import grpc
import msgspec
import pytest

from protocol.stage_rpc import StageClients, StageUnavailable
from protocol.wire import SERVICE, RouteStop, StageStatus, StatusRequest
from provider.tls import ensure_certificate


async def serve(folder: Path, port: int, sessions: int) -> tuple[grpc.aio.Server, int]:
    """A stage that answers one question, under the folder's certificate."""

    async def status(_: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return msgspec.json.encode(StageStatus(sessions, 0, 0))

    key_file, cert_file, _ = ensure_certificate(folder)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {"Status": grpc.unary_unary_rpc_method_handler(status)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    credentials = grpc.ssl_server_credentials([(key_file.read_bytes(), cert_file.read_bytes())])
    port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    return server, port


async def ask(clients: StageClients, stop: RouteStop) -> int:
    return (await (await clients.to(stop)).call("Status", StatusRequest(), StageStatus, timeout=5)).sessions


async def test_clients__same_stage__is_one_channel_and_a_restarted_one_is_found_at_once(tmp_path: Path) -> None:
    clients = StageClients()
    server, port = await serve(tmp_path, 0, 1)
    stop = RouteStop("p", "o", f"grpcs://127.0.0.1:{port}", "0x" + ensure_certificate(tmp_path)[2].hex(), 0, 10)
    assert await clients.to(stop) is await clients.to(stop)
    assert await ask(clients, stop) == 1
    await server.stop(0)
    for _ in range(3):  # the channel breaks, and waits longer each time before it tries again
        with pytest.raises(StageUnavailable):
            await ask(clients, stop)
    server, _ = await serve(tmp_path, port, 2)
    assert await ask(clients, stop) == 2
    await server.stop(0)
    await clients.close()


async def test_broken__stage_ends__is_done_for_all_who_wait_and_not_before(tmp_path: Path) -> None:
    clients = StageClients()
    server, port = await serve(tmp_path, 0, 1)
    stop = RouteStop("p", "o", f"grpcs://127.0.0.1:{port}", "0x" + ensure_certificate(tmp_path)[2].hex(), 0, 10)
    assert await ask(clients, stop) == 1
    client = await clients.to(stop)
    watch = client.broken()
    assert client.broken() is watch
    await ask(clients, stop)
    assert not watch.done()
    await server.stop(0)
    await asyncio.wait_for(watch, 20)
    server, _ = await serve(tmp_path, port, 2)
    client = await clients.to(stop)
    await client.call("Status", StatusRequest(), StageStatus, timeout=5)
    watch = client.broken()  # of the connection that came after
    await asyncio.sleep(0)
    assert not watch.done()
    await clients.close()
    await asyncio.wait({watch})
    assert watch.cancelled()
    await server.stop(0)


async def test_clients__another_certificate_than_was_registered__is_not_spoken_to(tmp_path: Path) -> None:
    clients = StageClients()
    server, port = await serve(tmp_path, 0, 1)
    with pytest.raises(StageUnavailable, match="another certificate"):
        await ask(clients, RouteStop("p", "o", f"grpcs://127.0.0.1:{port}", "0x" + "11" * 32, 0, 10))
    await server.stop(0)
    await clients.close()
