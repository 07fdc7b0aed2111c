"""What developers' clients rely on: idempotency, responses, money, keys, checked receipts, on the shared network."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from funcnet import FuncnetError
from funcnet.client import FunctionNetwork, ReceiptsDoNotHold
from funcnet.network import Network
from tests.network.asking import MODEL, QUESTION, ask, extra, payer_of_its_own


@pytest.fixture
def client(network: Network) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120) as client:
        yield client


def post(network: Network, body: dict[str, Any], name: str, path: str = "/v1/chat/completions", key: str = "") -> requests.Response:
    headers = {"authorization": f"Bearer {key or network.api_key}", "idempotency-key": name}
    return requests.post(f"{network.gateway_url}{path}", json=body, headers=headers, timeout=120)


def spent(network: Network, key: str) -> int:
    told = requests.get(f"{network.gateway_url}/v1/credits", headers={"authorization": f"Bearer {key}"}, timeout=10).json()
    return int(told["spent"])


BODY = {"model": MODEL, "messages": QUESTION, "max_tokens": 4, "temperature": 0}


@pytest.mark.parametrize("stream", [False, True])
def test_idempotency__retry__gets_the_same_bytes_and_pays_once(network: Network, stream: bool) -> None:
    key = payer_of_its_own(network, f"careful-{stream}")
    first = post(network, {**BODY, "stream": stream}, "once", key=key)
    assert first.status_code == 200, first.text
    network.wait(lambda: spent(network, key) > 0, 20, "the first answer's cost")
    before = spent(network, key)
    again = post(network, {**BODY, "stream": stream}, "once", key=key)
    assert (again.status_code, again.content, again.headers["idempotent-replayed"]) == (200, first.content, "true")
    assert again.headers["content-type"] == first.headers["content-type"]
    assert spent(network, key) == before
    other = post(network, {**BODY, "stream": stream, "max_tokens": 5}, "once", key=key)
    assert (other.status_code, other.headers["x-should-retry"], other.json()["error"]["code"]) == (409, "false", "idempotency_conflict")


def test_idempotency__request_that_failed__runs_again(network: Network) -> None:
    wrong = {**BODY, "model": "no-such-model"}
    assert post(network, wrong, "failed").status_code == 404
    assert post(network, {**BODY, "max_tokens": 10**9, "provider": {"only": [network.address("payer")]}}, "nobody").status_code == 503
    assert post(network, BODY, "nobody").status_code == 200


def test_idempotency__client_that_went_away__runs_again(network: Network) -> None:
    headers = {"authorization": f"Bearer {network.api_key}", "idempotency-key": "impatient"}
    body = {**BODY, "max_tokens": 60, "stream": True}
    with requests.post(f"{network.gateway_url}/v1/chat/completions", json=body, headers=headers, stream=True, timeout=60) as answer:
        next(answer.iter_lines())

    def runs() -> bool:
        answer = post(network, body, "impatient")
        return answer.status_code == 200 and "idempotent-replayed" not in answer.headers

    network.wait(runs, 30, "the second run")


@pytest.mark.parametrize("stream", [False, True])
def test_choices__three_of_a_seed__differ_and_are_each_what_that_seed_gives(network: Network, client: openai.OpenAI, stream: bool) -> None:
    asked = {"max_tokens": 8, "temperature": 1.5, "seed": 11, "stream": stream}
    if not stream:
        answer = ask(client, n=3, **asked)
        texts, told, usage = [choice.message.content for choice in answer.choices], extra(answer), answer.usage
    else:
        texts, told, usage = ["", "", ""], {}, None
        for chunk in ask(client, n=3, **asked):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
            told, usage = (chunk.model_extra or {}).get("function_network", told), chunk.usage or usage
    assert len(set(texts)) == 3
    assert texts[0] == ask(client, **{**asked, "stream": False}).choices[0].message.content
    assert [len(choice["token_ids"]) for choice in told["choices"]] == [8, 8, 8]
    assert int(told["cost"]) == sum(int(choice["cost"]) for choice in told["choices"])
    assert usage.completion_tokens == 24
    assert len(told["receipts"]) == 9


def test_responses__whole_and_streamed__are_what_chat_says(network: Network, client: openai.OpenAI) -> None:
    said = ask(client, max_tokens=10).choices[0].message.content
    whole = client.responses.create(model=MODEL, input="Name three colours.", max_output_tokens=10, temperature=0)
    assert whole.output_text == said
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")  # type: ignore[union-attr]
    assert whole.usage is not None
    assert whole.usage.output_tokens == 10
    with client.responses.stream(model=MODEL, input=[{"role": "user", "content": "Name three colours."}], max_output_tokens=10, temperature=0) as s:
        events = [event.type for event in s]
    assert events[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert events[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"]
    with client.responses.stream(model=MODEL, input="Name three colours.", max_output_tokens=10, temperature=0) as s:
        assert "".join(event.delta for event in s if event.type == "response.output_text.delta") == said


def test_responses__schema_and_instructions__hold(network: Network, client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "name": "answer", "schema": {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"]}}
    told = client.responses.create(
        model=MODEL,
        instructions="Answer in JSON.",
        input="Which number?",
        text={"format": form},
        max_output_tokens=30,
        temperature=0,  # type: ignore[typeddict-item]
    )
    assert json.loads(told.output_text)["n"] == 7


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"text": {"format": {"type": "grammar"}}}, "response_format"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_responses__what_is_not_served__is_refused_by_name(client: openai.OpenAI, change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**{"model": MODEL, "input": "Hello", **change})
    assert param in str(refused.value.body)


def test_generation_and_usage__of_an_answer__are_its_own_payers_alone(network: Network, client: openai.OpenAI) -> None:
    key = payer_of_its_own(network, "bookkeeper")
    own = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=key, max_retries=0)
    answer = ask(own, max_tokens=3)
    headers = {"authorization": f"Bearer {key}"}
    told = requests.get(f"{network.gateway_url}/v1/generation/{answer.id}", headers=headers, timeout=10).json()
    assert (told["cost"], told["completion_tokens"], told["state"]) == (extra(answer)["cost"], 3, "done")
    assert [stage["layers"] for stage in told["stages"]] == ["0-10", "10-20", "20-30"]
    rows = requests.get(f"{network.gateway_url}/v1/usage?by=model", headers=headers, timeout=10).json()["data"]
    assert rows == [{"model": MODEL, "jobs": 1, "prompt_tokens": told["prompt_tokens"], "completion_tokens": 3, "cost": told["cost"]}]
    stranger = requests.get(f"{network.gateway_url}/v1/generation/{answer.id}", headers={"authorization": f"Bearer {network.api_key}"}, timeout=10)
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (404, "no_such_generation")
    bad = requests.get(f"{network.gateway_url}/v1/usage?since=2026-01-01T00:00:00", headers=headers, timeout=10)
    assert "time zone" in bad.json()["error"]["message"]


def test_credits__say_what_is_on_chain_and_when_it_is_free(network: Network) -> None:
    key = payer_of_its_own(network, "saver")
    told: dict[str, Any] = {}

    def known() -> bool:
        told.update(requests.get(f"{network.gateway_url}/v1/credits", headers={"authorization": f"Bearer {key}"}, timeout=10).json())
        return bool(told["on_chain"] and told["on_chain"].get("limit_per_period"))

    network.wait(known, 20, "the indexer's word on the deposit")
    assert int(told["available"]) == int(told["on_chain"]["limit_per_period"])
    assert told["on_chain"]["limit_ends_at"] > told["on_chain"]["period_ends_at"]
    assert (told["reserved"], told["pending"], told["key"]["budget"]) == ("0", "0", None)


def test_key__with_a_price_and_a_rate__is_held_to_both(network: Network) -> None:
    admin = {"authorization": f"Bearer {network.secrets['admin']}"}
    body = {"payer": network.address("payer"), "max_price": {"completion": "1"}, "requests_per_minute": 2}
    made = requests.post(f"{network.gateway_url}/v1/keys", json=body, headers=admin, timeout=10).json()
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=made["key"], max_retries=0)
    with pytest.raises(openai.InternalServerError, match="the key's own limit"):
        ask(client, max_tokens=1)
    changed = requests.patch(f"{network.gateway_url}/v1/keys/{made['id']}", json={"max_price": None}, headers=admin, timeout=10).json()
    assert changed["most_output"] is None
    ask(client, max_tokens=1)
    with pytest.raises(openai.RateLimitError, match="2 times a minute"):
        ask(client, max_tokens=1)


@pytest.fixture
def checked(network: Network) -> Iterator[FunctionNetwork]:
    url = f"{network.gateway_url}/v1"
    options = {"base_url": url, "api_key": network.api_key, "max_retries": 0}
    with FunctionNetwork(deployment=network.deployment_file, rpc_url=network.rpc_url, **options) as checked:
        yield checked


def test_client__honest_answers__pass_its_checks(checked: FunctionNetwork) -> None:
    answer = ask(checked, max_tokens=3)
    assert answer.choices[0].message.content
    assert len(checked.last_check) == 4
    assert "signed by the provider's operator" in checked.last_check[0]
    checked.last_check = []
    text = "".join(chunk.choices[0].delta.content or "" for chunk in ask(checked, max_tokens=3, stream=True))
    assert text == answer.choices[0].message.content
    assert len(checked.last_check) == 4


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda told: told["receipts"].pop(1), "do not hold|sum to"),
        (lambda told: told.update(cost=str(int(told["cost"]) + 1)), "sum to"),
        (lambda told: told.update(token_ids=[]), "tokens"),
        (lambda told: told.update(job_id="0x" + "00" * 32), "is of job"),
        (lambda told: told.update(receipts=[]), "0 receipts"),
        (lambda told: told["receipts"][0]["receipt"]["message"].update(amount="1"), "do not hold"),
        (lambda told: told["receipts"][0].update(receipt=told["receipts"][1]["receipt"]), "do not hold|sum to"),
    ],
)
def test_client__answer_that_was_tampered_with__is_not_given_out(checked: FunctionNetwork, client: openai.OpenAI, spoil: Any, words: str) -> None:
    told = json.loads(json.dumps(extra(ask(client, max_tokens=3))))
    assert checked.receipts.check(told)
    spoil(told)
    with pytest.raises(ReceiptsDoNotHold, match=words):
        checked.receipts.check(told)
    assert issubclass(ReceiptsDoNotHold, FuncnetError)


def test_management_key__of_one_payer__reaches_no_other(network: Network, tmp_path: Path) -> None:
    url, admin = network.gateway_url, {"authorization": f"Bearer {network.secrets['admin']}"}
    out = tmp_path / "manager.key"
    wallet = network.wallet("payer")
    funcnet = [str(Path(sys.executable).parent / "funcnet"), "key"]
    keystore = ["--keystore", str(wallet.path), "--password-file", str(wallet.password_file)]
    login = [*funcnet, "login", *keystore, "--out", str(out), "--gateway", url]
    told = json.loads(subprocess.run(login, capture_output=True, text=True, check=True).stdout)
    assert (told["payer"], out.stat().st_mode & 0o777) == (network.address("payer"), 0o600)
    own = {"authorization": f"Bearer {out.read_text()}"}
    other = requests.post(f"{url}/v1/keys", json={"payer": network.address("provider-1")}, headers=admin, timeout=10).json()
    mine = requests.post(f"{url}/v1/keys", json={"name": "mine"}, headers=own, timeout=10).json()
    assert mine["payer"] == network.address("payer")
    listed = {key["id"] for key in requests.get(f"{url}/v1/keys", headers=own, timeout=10).json()["data"]}
    assert mine["id"] in listed
    assert other["id"] not in listed
    refused = [
        requests.get(f"{url}/v1/keys/{other['id']}", headers=own, timeout=10),
        requests.patch(f"{url}/v1/keys/{other['id']}", json={"budget": "1"}, headers=own, timeout=10),
        requests.post(f"{url}/v1/keys/{other['id']}/rotate", json={}, headers=own, timeout=10),
        requests.delete(f"{url}/v1/keys/{other['id']}", headers=own, timeout=10),
        requests.post(f"{url}/v1/keys", json={"payer": other["payer"]}, headers=own, timeout=10),
        requests.post(f"{url}/v1/sponsorships", json={"payer": other["payer"], "keys": 1, "budget": "1"}, headers=own, timeout=10),
        requests.post(f"{url}/v1/management-keys", json={"payer": other["payer"]}, headers=own, timeout=10),
        requests.post(f"{url}/v1/models", json={"name": "x", "folder": "/"}, headers=own, timeout=10),
        requests.get(f"{url}/metrics", headers=own, timeout=10),
        requests.get(f"{url}/v1/keys", headers={"authorization": f"Bearer {mine['key']}"}, timeout=10),
    ]
    assert [answer.status_code for answer in refused] == [404, 404, 404, 404, 401, 401, 401, 401, 401, 401]
    given = [*funcnet, "sponsor", network.address("payer"), "--token-file", str(out), "--keys", "1", "--budget", str(10**18), "--gateway", url]
    code = json.loads(subprocess.run(given, capture_output=True, text=True, check=True).stdout)["code"]
    claimed = json.loads(subprocess.run([*funcnet, "claim", code, "--gateway", url], capture_output=True, text=True, check=True).stdout)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=claimed["key"], max_retries=0) as client:
        assert ask(client, max_tokens=1)
