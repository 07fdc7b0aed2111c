"""A gateway whose key is at a signer apart: it serves as any other, and a thief of the gateway gets no further than the ceilings."""

import secrets
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from api.signing import RemoteSigner
from funcnet.network import Network
from funcnet.processes import free_ports
from protocol import SettingsError, Unavailable
from protocol.receipts import Checkpoint, SessionOffer, Voucher
from protocol.units import FUNC
from protocol.vectors import counted
from tests.network.asking import MODEL, QUESTION, ask, extra, payer_of_its_own
from tests.network.test_gateways import client_of

pytestmark = pytest.mark.slow

TOKEN = secrets.token_urlsafe(32)


@pytest.fixture(scope="module")
def signer(network: Network) -> Iterator[str]:
    """Its address. It signs for the network's gateway, 5 FUNC an hour."""
    (port,) = free_ports(1)
    data_dir = network.root / "signer"
    environment = network.environment("gateway", port=port, signer_token=TOKEN, most_per_hour=5, data_dir=data_dir)
    network.supervisor.start("signer", [sys.executable, "-m", "api.signer"], environment)
    url = f"http://127.0.0.1:{port}"
    network.supervisor.wait("signer", lambda: reachable(url), 20, "an answer")
    yield url
    network.supervisor.stop("signer")


def reachable(url: str) -> bool:
    try:
        return requests.get(f"{url}/address", headers={"authorization": f"Bearer {TOKEN}"}, timeout=2).status_code == 200
    except requests.RequestException:
        return False


@pytest.fixture(scope="module")
def apart(network: Network, signer: str) -> Iterator[str]:
    """The address of a gateway that has no key."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    network.start_gateway("gateway-3", port, signer_url=signer, signer_token=TOKEN, keystore="", keystore_password_file="")
    network.wait(lambda: requests.get(f"{url}/readyz", timeout=10).status_code == 200, 30, "the gateway")
    yield url
    network.supervisor.stop("gateway-3")


@pytest.fixture
def remote(signer: str) -> RemoteSigner:
    return RemoteSigner(signer, TOKEN)


def test_gateway__with_a_signer_apart__serves_and_has_no_key(network: Network, apart: str) -> None:
    answer = ask(client_of(apart, payer_of_its_own(network, "apart")), max_tokens=4)
    assert len(extra(answer)["receipts"]) == 3
    assert extra(answer)["settled"]


def test_signer__gone_in_mid_stream__receipts_are_taken_once_it_is_back(network: Network, signer: str, apart: str) -> None:
    key = payer_of_its_own(network, "patient")
    told: dict[str, Any] = {}
    for count, chunk in enumerate(ask(client_of(apart, key), max_tokens=20, stream=True)):
        if count == 3:
            network.supervisor.kill("signer")
        told = (chunk.model_extra or {}).get("function_network") or told
    assert (len(told["token_ids"]), told["settled"], told["receipts"]) == (20, False, [])
    refused = requests.post(
        f"{apart}/v1/chat/completions", json={"model": MODEL, "messages": QUESTION}, headers={"authorization": f"Bearer {key}"}, timeout=60
    )
    assert (refused.status_code, "signer" in refused.json()["error"]["message"]) == (503, True)
    network.supervisor.revive("signer")
    network.supervisor.wait("signer", lambda: reachable(signer), 20, "an answer")

    def settled() -> bool:
        job = requests.get(f"{apart}/v1/receipts/{told['job_id']}", headers={"authorization": f"Bearer {key}"}, timeout=10).json()
        return len(job["receipts"]) == 3 and not job["unsettled"]

    network.wait(settled, 60, "the receipts")


def offer_of(network: Network, **changes: Any) -> SessionOffer:
    modest = {"gateway": network.address("gateway"), "input_price": FUNC, "cached_price": FUNC, "output_price": FUNC}
    return replace(counted(SessionOffer, 1), **{**modest, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_price": 1_001 * FUNC}, "input_price is 1,001"),
        ({"cached_price": 1_001 * FUNC}, "cached_price is 1,001"),
        ({"output_price": 2_001 * FUNC}, "output_price is 2,001"),
        ({"gateway": "0x" + "11" * 20}, "this signer is"),
    ],
)
async def test_offer__past_a_ceiling__is_not_signed(network: Network, remote: RemoteSigner, changes: dict[str, Any], words: str) -> None:
    domain = network.chain.receipts_domain
    await remote.sign(offer_of(network), domain)
    with pytest.raises(Unavailable, match=words):
        await remote.sign(offer_of(network, **changes), domain)
    with pytest.raises(Unavailable, match="'Checkpoint' is not signed here"):
        await remote.sign(counted(Checkpoint, 1), domain)
    await remote.close()


async def test_vouchers__past_the_hours_limit__are_not_signed_also_after_a_restart(network: Network, signer: str, remote: RemoteSigner) -> None:
    def voucher(cumulative: int, provider: str = "0x" + "22" * 20) -> Voucher:
        return Voucher(network.address("payer"), network.address("gateway"), provider, bytes(32), cumulative)

    domain = network.chain.settlement_domain
    await remote.sign(voucher(2 * FUNC), domain)
    await remote.sign(voucher(FUNC), domain)  # less than was promised already costs nothing more
    await remote.sign(voucher(2 * FUNC), domain)
    with pytest.raises(Unavailable, match=r"5\.0+ FUNC are the most"):
        await remote.sign(voucher(8 * FUNC), domain)
    with pytest.raises(Unavailable, match=r"5\.0+ FUNC are the most"):
        await remote.sign(voucher(4 * FUNC, "0x" + "33" * 20), domain)
    await remote.close()
    network.supervisor.kill("signer")
    network.supervisor.revive("signer")
    network.supervisor.wait("signer", lambda: reachable(signer), 20, "an answer")
    again = RemoteSigner(signer, TOKEN)
    with pytest.raises(Unavailable, match=r"5\.0+ FUNC are the most"):
        await again.sign(voucher(6 * FUNC), domain)
    await again.close()


def test_transaction__other_than_the_gateways_own__is_not_signed(network: Network, remote: RemoteSigner) -> None:
    chain, own = network.chain, network.address("gateway")

    def built(contract: str, function: str, *arguments: Any, **changes: Any) -> dict[str, Any]:
        call = getattr(chain[contract].functions, function)(*arguments)
        return {**call.build_transaction({"from": own, "nonce": 0, "gas": 200_000}), **changes}

    assert remote.sign_transaction(built("PaymentEscrow", "allocate", network.address("provider-1"), FUNC)).raw_transaction
    for transaction, words in (
        (built("PaymentEscrow", "allocate", network.address("provider-1"), 101 * FUNC), r"100\.0+ FUNC are the most"),
        (built("FuncToken", "transfer", network.address("payer"), 1), "FuncToken.transfer is not signed here"),
        (built("PaymentEscrow", "allocate", network.address("provider-1"), 1, value=1), "with value 1"),
        (built("PaymentEscrow", "allocate", network.address("provider-1"), 1, chainId=1), "on chain 1"),
        (built("PaymentEscrow", "allocate", network.address("provider-1"), 1, to=own), "not known here"),
    ):
        with pytest.raises(Unavailable, match=words):
            remote.sign_transaction(transaction)


def test_token__wrong_or_none__gets_nothing(signer: str) -> None:
    assert requests.get(f"{signer}/address", timeout=5).status_code == 401
    with pytest.raises(SettingsError, match="FUNCNET_SIGNER_TOKEN"):
        RemoteSigner(signer, "wrong")
    with pytest.raises(SettingsError, match="no signer answers"):
        RemoteSigner("http://127.0.0.1:1", TOKEN)
