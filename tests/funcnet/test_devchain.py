"""The local chain comes back from a kill with the blocks that belong to its state."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web3 import HTTPProvider, Web3

from funcnet.network import find_anvil
from funcnet.processes import Supervisor, free_ports
from protocol.chain import wait_for_rpc

LOOPS_UNTIL_LITTLE_GAS_IS_LEFT = bytes.fromhex("5b62030d405a11600057")
"""JUMPDEST, then back to it while GAS is above 200,000: a transaction that takes as long as its gas."""


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def supervisor(tmp_path: Path, port: int) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    anvil = [find_anvil(), "--accounts", "1", "--silent", "--gas-limit", "400000000"]
    supervisor.start("chain", [sys.executable, "-m", "funcnet.devchain", "--port", str(port), "--state", str(tmp_path / "chain.json"), "--", *anvil])
    yield supervisor
    supervisor.stop_all()


@pytest.fixture
def web3(supervisor: Supervisor, port: int) -> Web3:
    web3 = Web3(HTTPProvider(f"http://127.0.0.1:{port}"))
    wait_for_rpc(f"http://127.0.0.1:{port}")
    web3.eth.default_account = web3.eth.accounts[0]
    return web3


def mined(web3: Web3) -> int:
    return sum(web3.eth.get_block_transaction_count(number) for number in range(web3.eth.block_number + 1))


def deploy_slow(web3: Web3) -> Any:
    code = LOOPS_UNTIL_LITTLE_GAS_IS_LEFT
    create = bytes.fromhex(f"60{len(code):02x}600c60003960{len(code):02x}6000f3") + code
    return web3.eth.wait_for_transaction_receipt(web3.eth.send_transaction({"data": create, "gas": 1_000_000}))["contractAddress"]


@pytest.mark.slow
def test_devchain__killed_among_slow_blocks__has_the_block_of_every_transaction_that_its_accounts_know(supervisor: Supervisor, web3: Web3) -> None:
    slow = deploy_slow(web3)
    for _ in range(4):
        until = time.monotonic() + 2
        while time.monotonic() < until:
            web3.eth.send_transaction({"to": slow, "gas": 16_000_000})
            time.sleep(0.1)
        supervisor.kill("chain")
        supervisor.revive("chain")
        wait_for_rpc(str(web3.provider.endpoint_uri))  # type: ignore[attr-defined]
        assert web3.eth.get_transaction_count(web3.eth.accounts[0]) == mined(web3) > 0


def test_devchain__stopped__loses_nothing(supervisor: Supervisor, web3: Web3) -> None:
    web3.eth.wait_for_transaction_receipt(web3.eth.send_transaction({"to": web3.eth.accounts[0], "value": 1}))
    head = web3.eth.block_number
    supervisor.stop("chain")
    supervisor.start("chain", *supervisor._commands["chain"])
    wait_for_rpc(str(web3.provider.endpoint_uri))  # type: ignore[attr-defined]
    assert web3.eth.block_number >= head
    assert mined(web3) == 1


def test_devchain__port_in_use__does_not_mine_the_other_chain(supervisor: Supervisor, web3: Web3) -> None:
    supervisor.start("second", supervisor._commands["chain"][0])
    assert supervisor.processes.pop("second").wait(30) != 0
    assert "is in use" in supervisor.tail("second")


def test_devchain__anvil_that_ends__ends_it_with_its_status(tmp_path: Path, port: int) -> None:
    supervisor = Supervisor(tmp_path)
    command = [
        sys.executable,
        "-m",
        "funcnet.devchain",
        "--port",
        str(port),
        "--state",
        str(tmp_path / "chain.json"),
        "--",
        find_anvil(),
        "--no-such",
    ]
    assert supervisor.start("chain", command).wait(60) != 0
    assert "anvil" in supervisor.tail("chain")
