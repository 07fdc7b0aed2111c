"""Requests signed by the payer's wallet: no key, and on chain no gateway takes more than was signed for."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest
import requests

from funcnet import actors
from funcnet.client import FunctionNetwork, ReceiptsDoNotHold, SigningWallet
from funcnet.network import Network
from protocol.receipts import Authorisation, signed_request_hash
from protocol.typed import Signed
from protocol.units import FUNC
from tests.network.asking import MODEL, QUESTION, ask, extra, receipts_of, sign_for_each, wait_for_sellers

pytestmark = pytest.mark.slow

MOST = FUNC // 10
NAME = "signer-payer"


@pytest.fixture(scope="module")
def payer(network: Network) -> str:
    """A payer that has required signatures before it set its limit."""
    wallet, chain = network.wallet(NAME).account(), network.chain
    actors.give_gas(chain, wallet.address)
    actors.give_func(chain, network.wallet("treasury").account(), wallet.address, 100)
    done = sign_for_each(network, NAME, "--signed")
    assert done.stdout == f"{network.address('gateway')} may spend 50.000000 FUNC a day of {wallet.address}, as it signs for\n", done.stderr
    return wallet.address


def test_pay__signatures_required_over_a_limit_that_holds__says_what_to_do(network: Network) -> None:
    done = sign_for_each(network, "payer", "--signed")
    assert (done.returncode, "only before one is set" in done.stderr, len(done.stderr.splitlines())) == (1, True, 1), done.stderr


@pytest.fixture
def book(network: Network) -> Path:
    return network.root / "signer-payer.spent"


@pytest.fixture
def client(network: Network, payer: str, book: Path) -> Iterator[FunctionNetwork]:
    wallet = SigningWallet(network.wallet(NAME).account(), network.address("gateway"), network.deployment_file, MOST, book)
    options = {"base_url": f"{network.gateway_url}/v1", "deployment": network.deployment_file, "rpc_url": network.rpc_url}
    with FunctionNetwork(wallet=wallet, timeout=120, **options) as client:  # type: ignore[arg-type]
        yield client


def authorisation_of(network: Network, payer: str) -> tuple[bool, int, int]:
    required, cumulative, taken = network.chain.call("PaymentEscrow", "authorisationOf", payer, network.address("gateway"))
    return required, cumulative, taken


def test_signed__chat_and_stream__are_answered_and_paid_for_by_what_was_signed(
    network: Network, client: FunctionNetwork, payer: str, book: Path
) -> None:
    assert client.wallet is not None
    first = ask(client)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in ask(client, stream=True) if chunk.choices)
    assert text == first.choices[0].message.content
    receipts = receipts_of(extra(first))
    assert {receipt.payer for receipt in receipts} == {payer}
    assert int(book.read_text()) == client.wallet.spent >= 2 * int(extra(first)["cost"]) * 3 // 4  # the second one may reuse rows
    # The providers show the escrow what was signed before they redeem, and it lets them have that.
    network.wait(lambda: authorisation_of(network, payer)[2] == client.wallet.spent, 60, "the redemption of all of it")  # type: ignore[union-attr]
    required, cumulative, taken = authorisation_of(network, payer)
    assert required
    assert taken <= cumulative <= client.wallet.spent + MOST


def test_signed__with_require_verified__pays_the_verifier_from_what_was_signed(network: Network, client: FunctionNetwork, payer: str) -> None:
    wait_for_sellers(network)
    told = extra(ask(client, extra_body={"provider": {"require_verified": True}}))
    assert [check["verdict"] for check in told["checks"]] == ["PASS"] * 3
    (verifier,) = {check["report"]["message"]["verifier"] for check in told["checks"]}
    stream = (payer, network.address("gateway"), verifier, network.manifest.model_id)
    network.wait(lambda: network.chain.call("Settlement", "redeemedOf", *stream) == int(told["check_cost"]), 60, "the verifier's pay")


def test_signed__what_is_read__needs_no_more_money(network: Network, client: FunctionNetwork, payer: str) -> None:
    assert client.models.retrieve(MODEL).id == MODEL
    told = client.get("/credits", cast_to=dict[str, Any])
    assert told["payer"] == payer


def test_signed__for_less_than_the_request_may_cost__is_refused_with_the_numbers(client: FunctionNetwork) -> None:
    assert client.wallet is not None
    spent, client.wallet.most = client.wallet.spent, 1
    with pytest.raises(openai.APIStatusError, match="sign for more") as caught:
        ask(client, messages=[{"role": "user", "content": "Tell me a very long story."}], max_tokens=4_000)
    assert (caught.value.status_code, caught.value.code, client.wallet.spent) == (402, "insufficient_credit", spent)


def test_wallet__answer_dearer_than_was_signed_for__is_not_given_out(network: Network, tmp_path: Path) -> None:
    wallet = SigningWallet(network.wallet(NAME).account(), network.address("gateway"), network.deployment_file, 5, tmp_path / "book")
    wallet.owe(5)
    with pytest.raises(ReceiptsDoNotHold, match="6 wei, 5 were signed for"):
        wallet.owe(6)
    again = SigningWallet(network.wallet(NAME).account(), network.address("gateway"), network.deployment_file, 5, tmp_path / "book")
    assert again.spent == 5


def header(network: Network, body: bytes, **change: Any) -> dict[str, str]:
    account = network.wallet(change.get("by", NAME)).account()
    given = Authorisation(
        network.address(NAME),
        change.get("gateway", network.address("gateway")),
        change.get("cumulative", 5 * FUNC),
        signed_request_hash(change.get("target", "/v1/chat/completions"), change.get("signed_body", body)),
    )
    signed = Signed.of(given, given.sign(network.chain.escrow_domain, bytes(account.key)))
    raw = json.dumps({"message": signed.message, "signature": signed.signature}).encode()
    return {"authorization": f"Wallet {base64.urlsafe_b64encode(raw).decode()}", "content-type": "application/json"}


BODY = json.dumps({"model": MODEL, "messages": QUESTION, "max_tokens": 3}).encode()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"by": "payer"}, "invalid_signature"),
        ({"gateway": "0x" + "11" * 20}, "wrong_gateway"),
        ({"signed_body": b"{}"}, "invalid_signature"),
        ({"target": "/v1/completions"}, "invalid_signature"),
    ],
)
def test_signed__something_else_than_came__is_refused(network: Network, payer: str, change: dict[str, Any], code: str) -> None:
    answer = requests.post(f"{network.gateway_url}/v1/chat/completions", data=BODY, headers=header(network, BODY, **change), timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)


@pytest.mark.parametrize("value", ["Wallet", "Wallet !!!", "Wallet e30=", "Wallet " + "A" * 5_000, "wallet W10="])
def test_signed__header_that_holds_no_signature__is_refused(network: Network, value: str) -> None:
    headers = {"authorization": value, "content-type": "application/json"}
    answer = requests.post(f"{network.gateway_url}/v1/chat/completions", data=BODY, headers=headers, timeout=30)
    assert answer.status_code == 401, answer.text


def test_signed__sent_again_by_whoever_saw_it__is_the_same_answer_and_costs_nothing(network: Network, payer: str) -> None:
    headers = header(network, BODY)
    first, again = (requests.post(f"{network.gateway_url}/v1/chat/completions", data=BODY, headers=headers, timeout=60) for _ in range(2))
    assert (first.status_code, again.content, again.headers["idempotent-replayed"]) == (200, first.content, "true"), first.text


def test_bearer_key__of_a_payer_that_requires_signatures__spends_nothing_that_it_has_not_signed_for(network: Network, payer: str) -> None:
    """What a gateway could do with the payer's limit alone: nothing. Its own bond would pay."""
    stranger = "unsigned-payer"
    wallet, chain = network.wallet(stranger).account(), network.chain
    actors.give_gas(chain, wallet.address)
    actors.give_func(chain, network.wallet("treasury").account(), wallet.address, 20)
    chain.send(wallet, "PaymentEscrow", "requireSignatures", network.address("gateway"), True)
    actors.fund_payer(chain, wallet, network.address("gateway"), 10 * FUNC, 10 * FUNC)
    key = network.create_key(stranger, payer=stranger)["key"]
    with pytest.raises(openai.APIStatusError) as caught:
        ask(openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=key, max_retries=0))
    assert (caught.value.status_code, caught.value.code) == (402, "insufficient_credit")


def test_signed__by_a_wallet_that_has_deposited_nothing__is_refused_and_leaves_no_trace(network: Network, tmp_path: Path) -> None:
    stranger = network.wallet("penniless").account()
    wallet = SigningWallet(stranger, network.address("gateway"), network.deployment_file, MOST, tmp_path / "book")
    with (
        FunctionNetwork(base_url=f"{network.gateway_url}/v1", deployment=network.deployment_file, wallet=wallet) as client,
        pytest.raises(openai.APIStatusError, match="funcnet wallet pay") as caught,
    ):
        ask(client)
    assert caught.value.status_code == 402
    with psycopg.connect(network.database_url) as connection:
        assert connection.execute("SELECT FROM api.payer WHERE address = %s", (stranger.address,)).fetchone() is None
