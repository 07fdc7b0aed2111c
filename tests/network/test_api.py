"""The gateway as its users meet it: the official client against the shared network."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import openai
import psycopg
import pytest
import requests
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from funcnet.network import Network
from protocol.bls import sign
from protocol.chain import struct_values
from protocol.receipts import EvidenceRequest, RouteUpdate, StageReceipt
from protocol.rows import FRAME_ROWS
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.trees import verify_batch_proof
from protocol.typed import ZERO32, Signed
from protocol.wire import CloseReply, CloseRequest, EvidenceAsk, RelinkRequest, SessionProgress, route_hash
from tests.network.asking import MODEL, QUESTION, ask, extra, job_once, receipts_of, reference, replaying, verify


@pytest.fixture(scope="module")
def client(network: Network) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0)


def test_chat__greedy__is_token_identical_to_generate_past_a_checkpoint(network: Network, client: openai.OpenAI) -> None:
    # More tokens than lie between two checkpoints, so that countersigned ones are on the way.
    answer, expected = ask(client, max_tokens=70), reference(network, 70)
    assert extra(answer)["token_ids"] == expected["tokens"]
    assert answer.choices[0].message.content == expected["text"]
    assert answer.usage.prompt_tokens == len(expected["prompt"])
    assert answer.usage.completion_tokens == len(expected["tokens"])


def test_chat__streamed__gives_the_same_text_usage_and_receipts(client: openai.OpenAI) -> None:
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert len(extra(chunks[-1])["receipts"]) == 3
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason


def test_chat__receipts__sum_to_the_cost_and_name_consecutive_layers(client: openai.OpenAI) -> None:
    told = extra(ask(client))
    receipts = receipts_of(told)
    assert sum(receipt.amount for receipt in receipts) == int(told["cost"])
    assert [(r.first_layer, r.end_layer) for r in receipts] == [(0, 10), (10, 20), (20, 30)]
    assert all(entry["countersignature"] for entry in told["receipts"][:2])


def test_chat__seeded__repeats_and_another_seed_differs(client: openai.OpenAI) -> None:
    first = extra(ask(client, temperature=1.2, seed=5))["token_ids"]
    assert extra(ask(client, temperature=1.2, seed=5))["token_ids"] == first
    assert extra(ask(client, temperature=1.2, seed=6))["token_ids"] != first


def test_chat__stop_string__ends_before_it_and_later_tokens_are_not_billed(client: openai.OpenAI) -> None:
    whole = ask(client, max_tokens=30)
    word = whole.choices[0].message.content.split()[2]
    stopped = ask(client, max_tokens=30, stop=word)
    assert word not in stopped.choices[0].message.content
    assert whole.choices[0].message.content.startswith(stopped.choices[0].message.content)
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.usage.completion_tokens < whole.usage.completion_tokens


def test_chat__several_at_once__each_gets_its_own_answer(network: Network, client: openai.OpenAI) -> None:
    alone = extra(ask(client))["token_ids"]

    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0) as many:
            return list(await asyncio.gather(*(ask(many) for _ in range(4))))

    for _ in range(2):
        answers = [extra(answer) for answer in asyncio.run(run())]
        assert [answer["token_ids"] for answer in answers] == [alone] * 4
        # Jobs that end together bring their vouchers to a stage in any order; refusing one once made the stream refuse all that followed.
        assert [len(answer["receipts"]) for answer in answers] == [3] * 4


@pytest.mark.slow
def test_chat__many_of_any_length__each_gets_the_text_that_it_gets_alone(network: Network, client: openai.OpenAI) -> None:
    """They share the stages' passes from step to step; one prompt comes in several frames, and one client goes away in the middle."""
    questions = [
        [{"role": "user", "content": f"Say something about the number {i}." + " It is a nice number." * words}]
        for i, words in enumerate((0, 150, 3, 30, 9, 0))
    ]
    limits = [30, 8, 20, 10, 25, 40]
    alone = [extra(ask(client, messages=question, max_tokens=limit))["token_ids"] for question, limit in zip(questions, limits, strict=True)]
    expected = reference(network, limits[1], questions[1])
    assert len(expected["prompt"]) > 2 * FRAME_ROWS
    assert alone[1] == expected["tokens"]

    async def leave(many: openai.AsyncOpenAI) -> None:
        stream = await ask(many, messages=questions[0], max_tokens=60, stream=True)
        await anext(aiter(stream))
        await stream.close()

    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0) as many:
            asks = [ask(many, messages=question, max_tokens=limit) for question, limit in zip(questions, limits, strict=True)]
            return list(await asyncio.gather(*asks, leave(many)))[:-1]

    answers = [extra(answer) for answer in asyncio.run(run())]
    assert [answer["token_ids"] for answer in answers] == alone
    assert [len(answer["receipts"]) for answer in answers] == [3] * len(answers)


def test_chat__logprobs__are_the_models_own_and_come_with_each_token(network: Network, client: openai.OpenAI) -> None:
    whole = ask(client, max_tokens=8, logprobs=True, top_logprobs=3)
    found, tokens = whole.choices[0].logprobs.content, extra(whole)["token_ids"]
    expected = reference(network, 8)
    model = AutoModelForCausalLM.from_pretrained(network.model_dir, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([expected["prompt"] + tokens])).logits[0, len(expected["prompt"]) - 1 : -1]
    own = torch.log_softmax(logits.double(), dim=1)
    assert [entry.logprob for entry in found] == pytest.approx([float(row[token]) for row, token in zip(own, tokens, strict=True)], abs=1e-3)
    assert [[top.logprob for top in entry.top_logprobs] for entry in found] == [pytest.approx(row.topk(3).values.tolist(), abs=1e-3) for row in own]
    assert "".join(entry.token for entry in found) == whole.choices[0].message.content
    assert all(bytes(entry.bytes).decode() == entry.token == entry.top_logprobs[0].token for entry in found)
    streamed = [chunk.choices[0].logprobs for chunk in ask(client, max_tokens=8, logprobs=True, top_logprobs=0, stream=True) if chunk.choices]
    flat = [entry for logprobs in streamed if logprobs for entry in logprobs.content]
    assert [(entry.token, entry.top_logprobs) for entry in flat] == [(entry.token, []) for entry in found]
    assert whole.choices[0].logprobs.content[0].logprob == pytest.approx(flat[0].logprob, abs=1e-5)
    assert ask(client).choices[0].logprobs is None
    with pytest.raises(openai.BadRequestError, match="needs 'logprobs'"):
        ask(client, top_logprobs=2)


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 30}, "people": {"type": "integer", "minimum": 0}, "by_the_sea": {"type": "boolean"}},
    "required": ["city", "people", "by_the_sea"],
    "additionalProperties": False,
}


def test_chat__json_schema__the_answer_fits_it_and_a_verifier_reads_it_alike(network: Network, client: openai.OpenAI, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Describe Lisbon."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}},
        "max_tokens": 100,
        "temperature": 0.8,
        "seed": 5,
        "extra_body": {"repetition_penalty": 1.1},
    }
    answer = ask(client, **options)
    found = json.loads(answer.choices[0].message.content)
    assert list(found) == ["city", "people", "by_the_sea"]
    assert answer.choices[0].finish_reason == "stop"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in ask(client, stream=True, **options) if chunk.choices)
    assert json.loads(text) == found
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job_once(network, extra(answer)["job_id"], "anchored")))
    done = verify(network, file, *replaying(network))
    assert done.stdout.count(": PASS, prompt ") == 3, done.stdout + done.stderr


def test_chat__json_object__is_an_object_whatever_it_was_asked(client: openai.OpenAI) -> None:
    answer = ask(client, response_format={"type": "json_object"}, max_tokens=200, temperature=1.2, seed=3)
    text = answer.choices[0].message.content
    assert text.startswith("{")
    assert answer.choices[0].finish_reason == "length" or isinstance(json.loads(text), dict)


def test_chat__repetition_penalty__is_pinned_and_changes_the_text(client: openai.OpenAI) -> None:
    plain, penalised = (extra(ask(client, max_tokens=40, extra_body={"repetition_penalty": value}))["token_ids"] for value in (1.0, 2.0))
    assert plain != penalised
    assert len(set(penalised)) == len(penalised)


def test_chat__logit_bias__is_pinned_and_forbids_a_token(client: openai.OpenAI) -> None:
    first = extra(ask(client))["token_ids"][0]
    told = extra(ask(client, logit_bias={str(first): -100}))
    assert first not in told["token_ids"]
    assert len(told["receipts"]) == 3


def test_chat__wrong_key__is_401(network: Network) -> None:
    stranger = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key="fn-00000000-x-00000000", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="well-formed"):
        ask(stranger)


def test_chat__unknown_model__is_404_and_names_the_known(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=MODEL) as caught:
        ask(client, model="gpt-4")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"n": 9}, "n"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"extra_body": {"repetition_penalty": 0}}, "repetition_penalty"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "banana"}}}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}}, "response_format.json_schema.name"),
    ],
)
def test_chat__bad_field__is_400_and_names_it(client: openai.OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **options)
    assert caught.value.param == param


def test_chat__prompt_too_long__is_400_with_the_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="takes 8192"):
        ask(client, messages=[{"role": "user", "content": "word " * 9_000}])


def test_chat__budget_used_up__is_402_and_nothing_stays_reserved(network: Network) -> None:
    poor = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.create_key("poor", budget=1)["key"], max_retries=0)
    with pytest.raises(openai.APIStatusError, match="budget") as caught:
        ask(poor)
    assert caught.value.status_code == 402
    keys = requests.get(f"{network.gateway_url}/v1/keys", headers={"authorization": f"Bearer {network.secrets['admin']}"}, timeout=10).json()["data"]
    assert next(key for key in keys if key["name"] == "poor")["reserved"] == "0"


def test_chat__key_for_another_model__is_404(network: Network) -> None:
    key = network.create_key("other", models=["something-else"])["key"]
    with pytest.raises(openai.NotFoundError):
        ask(openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=key, max_retries=0))


def test_keys__without_the_admin_token__are_refused(network: Network) -> None:
    assert requests.post(f"{network.gateway_url}/v1/keys", json={"payer": "0x" + "1" * 40}, timeout=10).status_code == 401


def test_models__listed__with_prices_royalty_and_what_they_take(network: Network, client: openai.OpenAI) -> None:
    (listed,) = (model for model in client.models.list() if model.id == MODEL)
    assert listed.owned_by == network.address("creator")
    told = listed.model_extra or {}
    assert told["context_length"] == 8192
    # The cheapest three stages ask 100 each for input and 200 for output, and a quarter of the former for what they have run before.
    assert told["pricing"] == {"prompt": "300", "input_cache_read": "75", "completion": "600"}
    assert told["royalty_bps"] == 500
    assert told["quantizations"] == ["float32"]
    assert told["providers"] == sum(plan.model_dir is None for plan in network.plans)
    assert told["type"] == "text"
    assert client.models.retrieve(MODEL).model_extra is not None
    with pytest.raises(openai.NotFoundError, match=MODEL):
        client.models.retrieve("gpt-4")


def providers_of(network: Network, answer: Any) -> list[str]:
    names = {network.address(plan.name): plan.name for plan in network.plans}
    return [names[entry["receipt"]["message"]["provider"]] for entry in extra(answer)["receipts"]]


def test_provider__asked_for__serves_and_the_others_do_not(network: Network, client: openai.OpenAI) -> None:
    address = network.address

    def served(**wish: Any) -> list[str]:
        return providers_of(network, ask(client, max_tokens=1, extra_body={"provider": wish}))

    assert served() == ["provider-1", "provider-2", "provider-3"]
    assert served(order=[address("spare")]) == ["provider-1", "spare", "provider-3"]
    assert served(ignore=[address("provider-1")]) == ["spare-first", "provider-2", "provider-3"]
    assert served(only=[address(name) for name in ("spare-first", "spare", "spare-last")]) == ["spare-first", "spare", "spare-last"]
    assert served(max_price={"prompt": 300, "completion": "600.0"}, quantizations=["fp32"], sort="latency") == [
        "provider-1",
        "provider-2",
        "provider-3",
    ]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"max_price": {"prompt": 299}}, "prompt tokens cost 300"),
        ({"quantizations": ["bf16"]}, "no provider offers any layers"),
        ({"only": ["0x" + "11" * 20]}, r"6 provider\(s\) are left out"),
    ],
)
def test_provider__nobody_fits__is_503_with_the_reason(network: Network, client: openai.OpenAI, wish: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.InternalServerError, match=words) as caught:
        ask(client, extra_body={"provider": wish})
    assert caught.value.code == "no_route"


def test_completions__text_or_ids__are_gone_on_with(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": MODEL, "max_tokens": 8, "temperature": 0}
    answer = client.completions.create(prompt="The capital of France is", logprobs=2, **options)
    assert "Paris" in answer.choices[0].text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 8
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.tokens is not None and logprobs.text_offset is not None
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert [answer.choices[0].text[at:].startswith(token) for token, at in zip(logprobs.tokens, logprobs.text_offset, strict=True)] == [True] * 8
    assert all(len(top) == 2 for top in logprobs.top_logprobs or [])
    chunks = list(client.completions.create(prompt=["The capital of France is"], stream=True, **options))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == answer.usage.total_tokens
    # Token ids of the same words, as the tokenizer gives them.
    ids = list(Tokenizer.from_file(".funcnet/models/smollm2-135m-instruct/tokenizer.json").encode("The capital of France is").ids)
    assert client.completions.create(prompt=ids, **options).choices[0].text == answer.choices[0].text
    with pytest.raises(openai.BadRequestError, match="holds token 99999999"):
        client.completions.create(prompt=[99_999_999], **options)


def test_client_gone__before_an_answer_that_is_not_streamed__stops_the_work(network: Network, client: openai.OpenAI) -> None:
    with psycopg.connect(network.database_url, autocommit=True) as connection:

        def newest() -> tuple[Any, ...]:
            found = connection.execute("SELECT id, state, completion_tokens FROM api.job ORDER BY created_at DESC LIMIT 1").fetchone()
            assert found is not None
            return found

        before = newest()[0]
        with pytest.raises(openai.APITimeoutError):
            ask(client.with_options(timeout=5), messages=[{"role": "user", "content": "Tell me a very long story."}], max_tokens=2000)
        network.wait(lambda: newest()[0] != before and newest()[1] == "failed", 20, "the end of the work")
        assert 0 < newest()[2] < 1000


def test_client_gone__job_ends_and_is_billed_for_what_came(network: Network, client: openai.OpenAI) -> None:
    stream = ask(client, max_tokens=400, stream=True, messages=[{"role": "user", "content": "Tell me a very long story."}])
    job_id = next(iter(stream)).id.removeprefix("chatcmpl-")
    for _ in range(5):
        next(iter(stream))
    stream.close()

    def settled() -> Any:
        answer = requests.get(f"{network.gateway_url}/v1/receipts/{job_id}", headers={"authorization": f"Bearer {network.api_key}"}, timeout=10)
        body = answer.json()
        return body if body.get("state") == "failed" else None

    job = network.wait(settled, 30, "the end of the cancelled job")
    assert 0 < job["completion_tokens"] < 400
    assert len(job["receipts"]) == 3
    assert int(job["charged"]) > 0


@pytest.fixture(scope="module")
def verified_job(network: Network, client: openai.OpenAI) -> dict[str, Any]:
    """What the gateway says of a job once it is verified."""
    return job_once(network, extra(ask(client))["job_id"], "verified")


def test_receipt__anchored__comes_with_its_merkle_path_and_transaction(network: Network, verified_job: dict[str, Any]) -> None:
    assert [stage["status"] for stage in verified_job["stages"]] == ["verified"] * 3
    for entry in verified_job["receipts"]:
        receipt = StageReceipt.from_json(entry["receipt"]["message"])
        anchor = entry["anchor"]
        proof = [bytes.fromhex(sibling.removeprefix("0x")) for sibling in anchor["proof"]]
        root = network.chain.call("CommitmentLog", "batch", receipt.provider, anchor["batch_id"])[0]
        assert verify_batch_proof(root, receipt.struct_hash(), proof)
        assert network.chain.web3.eth.get_transaction_receipt(anchor["tx"])["status"] == 1


def test_receipt__of_another_payer__is_404(network: Network) -> None:
    headers = {"authorization": f"Bearer {network.api_key}"}
    assert requests.get(f"{network.gateway_url}/v1/receipts/0x00", headers=headers, timeout=10).status_code == 404


def test_url__unknown__is_404_in_the_same_shape(network: Network) -> None:
    answer = requests.get(f"{network.gateway_url}/v1/nothing", timeout=10)
    assert answer.status_code == 404
    assert "GET /v1/nothing" in answer.json()["error"]["message"]


def test_chat__too_often__is_429_with_the_headers(network: Network, client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=1)
    assert int(answer.headers["x-ratelimit-limit-requests"]) == 600
    assert 0 <= int(answer.headers["x-ratelimit-remaining-requests"]) < 600


def test_receipt__verify_command__holds_offline_on_chain_and_by_replay(network: Network, verified_job: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps(verified_job))
    offline = verify(network, file)
    assert offline.stdout.count("signature, amount, checkpoint") == 3, offline.stderr
    assert offline.stdout.count("Merkle path of batch") == 3
    assert "2 boundaries between stages" in offline.stdout
    done = verify(network, file, *replaying(network))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("signed by the provider's operator; anchored in batch") == 3
    assert done.stdout.count(": PASS, prompt ") == 3


def test_receipt__verify_command__names_what_was_changed(network: Network, verified_job: dict[str, Any], tmp_path: Path) -> None:
    def changed(**values: Any) -> dict[str, Any]:
        entry = json.loads(json.dumps(verified_job["receipts"][0]))
        for path, value in values.items():
            *parents, last = path.split("__")
            target = entry
            for parent in parents:
                target = target[parent]
            target[last] = value
        return dict(entry)

    forged: dict[str, Any] = {
        "its tokens and prices give": changed(receipt__message__amount=1),
        "the Merkle path does not lead to the root": changed(anchor__proof=["0x" + "11" * 32]),
        "the countersignature is for another checkpoint": [changed(countersignature__message__root="0x" + "11" * 32), verified_job["receipts"][1]],
        "who signed no receipt of this job": [verified_job["receipts"][0], verified_job["receipts"][2]],
        "not a valid receipt": changed(receipt__message={}),
    }
    file = tmp_path / "forged.json"
    for words, entry in forged.items():
        file.write_text(json.dumps(entry))
        done = verify(network, file)
        assert done.returncode == 1
        assert words in done.stderr
    file.write_text("[]")
    assert "holds no receipt" in verify(network, file).stderr
    file.write_text(json.dumps(verified_job))
    assert "give --rpc and --keystore" in verify(network, file, "--replay").stderr


def test_replay__by_a_stranger__is_refused(network: Network, verified_job: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps(verified_job))
    done = verify(network, file, *replaying(network, "creator"))
    assert done.returncode == 1
    assert "not replayed" in done.stderr


def evidence_ask(network: Network, requester: str, provider: str, part: int = 0, duty: bytes = b"", number: int = 1) -> EvidenceAsk:
    account = network.wallet(requester).account()
    request = EvidenceRequest(account.address, provider, number, part, ZERO32, network.chain.now() + 60)
    return EvidenceAsk(Signed.of(request, request.sign(network.chain.receipts_domain, bytes(account.key))), "0x" + duty.hex())


async def fetch(network: Network, provider: str, ask: EvidenceAsk) -> list[bytes]:
    info = struct_values("ProviderRegistry", "providerInfo", network.chain.call("ProviderRegistry", "providerInfo", provider))
    client = await StageClient.connect(info["endpoint"], info["tlsCertHash"])
    try:
        return [message async for message in client.stream("Evidence", ask)]
    finally:
        await client.close()


async def test_evidence__stranger_or_forged_duty__is_refused(network: Network, client: openai.OpenAI) -> None:
    ask(client)
    provider = network.address("provider-1")
    network.wait(lambda: network.chain.call("CommitmentLog", "batchCount", provider), 30, "anchoring")
    with pytest.raises(StageRefused, match="no verifier"):
        await fetch(network, provider, evidence_ask(network, "creator", provider))
    forged = sign((5).to_bytes(32, "big"), b"not the tip")
    with pytest.raises(StageRefused, match=r"duty signature|no verifier"):
        await fetch(network, provider, evidence_ask(network, "verifier-1", provider, duty=forged))
    # Rows out are a verifier's answer key: without a commitment to its own replay it does not get them.
    with pytest.raises(StageRefused, match="commitment"):
        await fetch(network, provider, evidence_ask(network, "verifier-1", provider, part=1, duty=forged))


async def test_evidence__payer__gets_its_own(network: Network) -> None:
    provider = network.address("provider-1")
    messages = await fetch(network, provider, evidence_ask(network, "payer", provider))
    assert len(b"".join(messages[1:])) > 0


@pytest.mark.slow
async def test_client_gone__at_any_step__leaves_receipts_over_equal_counts(network: Network, client: openai.OpenAI) -> None:
    """A close that raced a step once signed 42 rows in and 41 out, for which an honest stage was convicted."""
    jobs = []
    for count in range(2, 10):
        stream = ask(client, max_tokens=200, stream=True, messages=[{"role": "user", "content": "Tell me a very long story."}])
        for _ in range(count):
            chunk = next(iter(stream))
        stream.close()
        jobs.append(chunk.id.removeprefix("chatcmpl-"))

    def receipts(job_id: str) -> Any:
        headers = {"authorization": f"Bearer {network.api_key}"}
        job = requests.get(f"{network.gateway_url}/v1/receipts/{job_id}", headers=headers, timeout=10).json()
        return job["receipts"] if job.get("state") == "failed" else None

    for job_id in jobs:
        entries = await asyncio.to_thread(network.wait, lambda job_id=job_id: receipts(job_id), 30, "the cancelled job's receipts")
        assert len(entries) == 3
        for entry in entries:
            receipt = StageReceipt.from_json(entry["receipt"]["message"])

            def anchored(receipt: StageReceipt = receipt) -> bool:
                return bool(network.chain.call("CommitmentLog", "lastNumber", receipt.provider) >= receipt.number)

            await asyncio.to_thread(network.wait, anchored, 30, "anchoring")
            await asyncio.sleep(0.1)  # the agent notes the batch just after the chain has it
            heads = [
                msgspec.json.decode(
                    (await fetch(network, receipt.provider, evidence_ask(network, "payer", receipt.provider, part, number=receipt.number)))[0]
                )
                for part in (0, 1)
            ]
            assert heads[0]["row_count"] == heads[1]["row_count"] == receipt.position_count


async def test_close__asked_again_with_an_older_voucher__gives_the_same_receipt(network: Network, client: openai.OpenAI) -> None:
    entry = extra(ask(client))["receipts"][0]
    receipt = StageReceipt.from_json(entry["receipt"]["message"])
    info = struct_values("ProviderRegistry", "providerInfo", network.chain.call("ProviderRegistry", "providerInfo", receipt.provider))
    stage = await StageClient.connect(info["endpoint"], info["tlsCertHash"])
    try:
        voucher = Signed({}, "0x")  # not looked at: the work is paid for already
        again = await stage.call("Close", CloseRequest(receipt.job_id.hex(), receipt.epoch, receipt.completion_tokens, voucher), CloseReply)
        assert msgspec.to_builtins(again) == {name: entry[name] for name in ("receipt", "checkpoint", "countersignature")}
        with pytest.raises(StageRefused, match="no session"):
            await stage.call("Close", CloseRequest("00" * 32, 0, 1, voucher), CloseReply)
    finally:
        await stage.close()


async def test_relink__by_somebody_else_than_the_gateway__is_refused(network: Network, client: openai.OpenAI) -> None:
    """Whoever could redirect a stage's rows would read them."""
    stream = ask(client, max_tokens=200, stream=True, messages=[{"role": "user", "content": "Tell me a very long story."}])
    job_id = bytes.fromhex(next(iter(stream)).id.removeprefix("chatcmpl-0x"))
    provider = network.address("provider-1")
    info = struct_values("ProviderRegistry", "providerInfo", network.chain.call("ProviderRegistry", "providerInfo", provider))
    stage = await StageClient.connect(info["endpoint"], info["tlsCertHash"])
    try:
        update = RouteUpdate(job_id, 1, route_hash([]))
        signed = Signed.of(update, update.sign(network.chain.receipts_domain, bytes(network.wallet("creator").account().key)))
        with pytest.raises(StageRefused, match="signed by"):
            await stage.call("Relink", RelinkRequest(job_id.hex(), 0, signed, []), SessionProgress)
    finally:
        await stage.close()
        stream.close()


async def test_stage__other_certificate_than_registered__is_not_trusted(network: Network) -> None:
    with pytest.raises(StageUnavailable, match="another certificate"):
        await StageClient.connect(f"grpcs://127.0.0.1:{network.ports['provider-1']}", bytes(32))


def test_indexer__receipt_signed_by_a_stranger__is_refused(network: Network, client: openai.OpenAI) -> None:
    entry = extra(ask(client))["receipts"][0]["receipt"]
    forged = StageReceipt.from_json(entry["message"])
    signed = Signed.of(forged, forged.sign(network.chain.receipts_domain, bytes(network.wallet("creator").account().key)))
    body = {"message": signed.message, "signature": signed.signature}
    answer = requests.post(f"{network.indexer_url}/v1/receipts", json=body, timeout=10)
    assert answer.status_code == 400
    assert "no operator" in answer.text


def test_gateway__readyz_and_headers(network: Network) -> None:
    answer = requests.get(f"{network.gateway_url}/readyz", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"].startswith("req_")
