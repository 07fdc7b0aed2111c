"""``require_verified``: verifiers replay every stage before the answer is final, sign what they found, and are paid for it."""

import asyncio
from typing import Any

import msgspec
import openai
import pytest
import requests

from funcnet.client import FunctionNetwork, ReceiptsDoNotHold
from funcnet.network import CHECK_PRICE, Network
from protocol.receipts import CheckOrder, CheckReport, StageReceipt, Voucher
from protocol.typed import Signed
from protocol.units import FUNC
from protocol.wire import ORDERED, CheckRequest, OrderedCheck
from tests.network.asking import ask, extra, payer_of_its_own, receipts_of, wait_for_sellers
from verifier import EvidenceMissing
from verifier.evidence import ROWS_IN, EvidenceClient

VERIFIED = {"provider": {"require_verified": True}}


@pytest.fixture
def checked(network: Network) -> FunctionNetwork:
    """A client that gives no answer out that is not verified as it was asked for."""
    return FunctionNetwork(
        base_url=f"{network.gateway_url}/v1",
        api_key=network.api_key,
        deployment=network.deployment_file,
        rpc_url=network.rpc_url,
        max_retries=0,
        timeout=120,
    )


@pytest.fixture(scope="module", autouse=True)
def verifiers_in_their_seats(network: Network) -> None:
    assert wait_for_sellers(network) == str(CHECK_PRICE)


@pytest.fixture
def client(network: Network) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)


def verifiers_of(network: Network) -> set[str]:
    return {network.address(f"verifier-{i}") for i in (1, 2, 3)}


def test_answer__with_require_verified__brings_a_verifiers_word_on_each_stage_and_its_price(network: Network, checked: FunctionNetwork) -> None:
    told = extra(ask(checked, extra_body=VERIFIED))
    assert [check["verdict"] for check in told["checks"]] == ["PASS"] * 3
    assert {check["report"]["message"]["verifier"] for check in told["checks"]} <= verifiers_of(network)
    receipts = receipts_of(told)
    assert int(told["check_cost"]) == sum(receipt.rows * CHECK_PRICE * FUNC // 10**6 for receipt in receipts)
    assert int(told["cost"]) == int(told["check_cost"]) + sum(receipt.amount for receipt in receipts)
    assert sum("has replayed it and passed it" in line for line in checked.last_check) == 3
    kept = requests.get(
        f"{network.gateway_url}/v1/receipts/{told['job_id']}", headers={"authorization": f"Bearer {network.api_key}"}, timeout=10
    ).json()
    assert sorted(check["receipt_number"] for check in kept["checks"]) == sorted(receipt.number for receipt in receipts)


def test_stream__with_require_verified__ends_only_when_all_is_checked(checked: FunctionNetwork) -> None:
    chunks = list(ask(checked, stream=True, temperature=0.8, seed=4, extra_body=VERIFIED))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    told = next(extra(chunk) for chunk in chunks if "function_network" in (chunk.model_extra or {}))
    assert [check["verdict"] for check in told["checks"]] == ["PASS"] * 3


def test_client__answer_without_reports__is_not_given_out(network: Network, checked: FunctionNetwork) -> None:
    told = extra(ask(checked, extra_body=VERIFIED))
    checked.receipts.check(told, verified=True)
    report = told["checks"][0]["report"]
    forged = {**report, "message": {**report["message"], "verifier": network.address("payer")}}
    others = CheckReport.from_json({**report["message"], "verifier": network.address("payer")})
    key = bytes(network.wallet("payer").account().key)
    outsider = {"message": others.to_json(), "signature": "0x" + others.sign(network.chain.receipts_domain, key).hex()}
    failed = CheckReport.from_json({**report["message"], "verdict": 3})
    with pytest.raises(ReceiptsDoNotHold, match="receipts and checks sum to"):
        checked.receipts.check({**told, "checks": []})
    for wrong, words in (
        ([], "no verifier says"),
        ([{"report": forged}], "not a valid report"),
        ([{"report": outsider}], "is no verifier of this epoch"),
        ([{"report": {**report, "message": failed.to_json()}}], "not a valid report"),
    ):
        with pytest.raises(ReceiptsDoNotHold, match=words):
            checked.receipts.check({**told, "checks": [*wrong, *told["checks"][1:]]}, verified=True)


def test_checks__dearer_than_is_to_be_paid__are_refused_before_any_work(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, extra_body={"provider": {"require_verified": True, "max_price": {"check": CHECK_PRICE - 1}}})
    assert caught.value.status_code == 503
    assert caught.value.body["code"] == "no_verifier"  # type: ignore[index]
    assert "raise provider.max_price.check" in str(caught.value)


def test_verifier__is_paid_on_chain_for_the_checks_that_it_sold(network: Network) -> None:
    key = payer_of_its_own(network, "careful")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=key, max_retries=0, timeout=120)
    told = extra(ask(client, extra_body=VERIFIED))
    (verifier,) = {check["report"]["message"]["verifier"] for check in told["checks"]}
    stream = (network.address("careful"), network.address("gateway"), verifier, network.manifest.model_id)
    network.wait(lambda: network.chain.call("Settlement", "redeemedOf", *stream) == int(told["check_cost"]), 60, "the voucher's redemption")
    network.wait(lambda: not network.chain.call("Settlement", "heldOf", verifier, network.manifest.model_id), 60, "the release")


def order_checks(network: Network, **change: Any) -> requests.Response:
    """What verifier 1 says to an order by the gateway for one receipt of a job, with something changed."""
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    entry = extra(ask(client, max_tokens=2))["receipts"][0]["receipt"]
    receipt, verifier = StageReceipt.from_json(entry["message"]), network.address("verifier-1")
    key = bytes(network.wallet(change.get("by", "gateway")).account().key)
    order = CheckOrder(
        change.get("verifier", verifier),
        receipt.gateway,
        receipt.payer,
        receipt.provider,
        receipt.number,
        change.get("receipt", receipt.struct_hash()),
        change.get("price", CHECK_PRICE * FUNC),
        change.get("expires_at", network.chain.now() + 60),
    )
    voucher = Voucher(receipt.payer, receipt.gateway, change.get("paid", verifier), receipt.model_id, change.get("cumulative", 10**18))
    paying = bytes(network.wallet(change.get("payer", "gateway")).account().key)
    request = CheckRequest(
        [OrderedCheck(Signed.of(order, order.sign(network.chain.receipts_domain, key)), Signed(**entry))],
        Signed.of(voucher, voucher.sign(network.chain.settlement_domain, paying)),
    )
    url = f"http://127.0.0.1:{network.ports['verifier-1']}/v1/checks"
    return requests.post(url, data=msgspec.json.encode(request), timeout=60)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"by": "payer"}, 400, "signed by"),
        ({"payer": "payer"}, 400, "signed by"),
        ({"verifier": "0x" + "11" * 20}, 400, "the order is for verifier"),
        ({"receipt": bytes(32)}, 400, "another receipt"),
        ({"price": 1}, 400, "are asked"),
        ({"expires_at": 1}, 400, "expired"),
        ({"paid": "0x" + "11" * 20}, 400, "another stream"),
        ({"cumulative": 1}, 402, "do not cover"),
        ({"cumulative": 10**30}, 402, "would be promised"),
    ],
)
def test_order__that_is_wrong__is_refused_with_the_reason(network: Network, change: dict[str, Any], status: int, words: str) -> None:
    answer = order_checks(network, **change)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text


def test_rows__of_a_job__go_only_to_whom_its_gateway_ordered_a_check_from(network: Network, client: openai.OpenAI) -> None:
    (receipt, *_) = receipts_of(extra(ask(client, max_tokens=2)))
    stranger, chain = network.wallet("delegator").account(), network.chain

    def rows(by: str, verifier: str = stranger.address, of: bytes = receipt.struct_hash(), lives: int = 60) -> list[bytes]:
        order = CheckOrder(verifier, receipt.gateway, receipt.payer, receipt.provider, receipt.number, of, 1, chain.now() + lives)
        signed = Signed.of(order, order.sign(chain.receipts_domain, bytes(network.wallet(by).account().key)))
        found = EvidenceClient(chain, stranger).rows(receipt.provider, receipt.number, ROWS_IN, b"", ORDERED, order=signed)
        return asyncio.run(found).payloads

    assert len(rows("gateway")) == receipt.rows
    for change, words in (
        ({"by": "delegator"}, "signed by"),
        ({"by": "gateway", "verifier": network.address("verifier-1")}, "another verifier or receipt"),
        ({"by": "gateway", "of": bytes(32)}, "another verifier or receipt"),
        ({"by": "gateway", "lives": -60}, "expired"),
    ):
        with pytest.raises(EvidenceMissing, match=words):
            rows(**change)  # type: ignore[arg-type]
    with pytest.raises(EvidenceMissing, match="needs the order"):
        asyncio.run(EvidenceClient(chain, stranger).rows(receipt.provider, receipt.number, ROWS_IN, b"", ORDERED))


def test_order__that_is_no_order__is_refused(network: Network) -> None:
    url = f"http://127.0.0.1:{network.ports['verifier-1']}/v1/checks"
    for body in (b"", b"{}", b"[" * 100_000, b'{"checks": [], "voucher": {"message": {}, "signature": ""}}'):
        assert requests.post(url, data=body, timeout=10).status_code == 400
