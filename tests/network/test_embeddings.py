"""``/v1/embeddings`` on the shared network: a second kind of offer, with receipts, checks and refusals as any other."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import requests
import torch
from transformers import AutoModel, AutoTokenizer

from funcnet.client import FunctionNetwork
from funcnet.network import Network
from tests.network.asking import ENCODER_PRICE, MODEL, ask, extra, job_once, payer_of_its_own, receipts_of, serve_encoder, wait_for_sellers

TEXTS = ["A cat sits on the mat.", "There is a cat on a rug.", "Interest rates rose again on Monday.", "x " * 120]
PRICE = ENCODER_PRICE


@pytest.fixture(scope="module")
def encoder(network: Network, encoder_dir: Path) -> str:
    """The name of a model that makes vectors, served by a provider of its own."""
    return serve_encoder(network, encoder_dir)


@pytest.fixture
def client(network: Network) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def expected(encoder_dir: Path) -> np.ndarray[Any, Any]:
    """What the model's card says: the mean of the last rows, to length 1."""
    tokenizer: Any = AutoTokenizer.from_pretrained(encoder_dir, local_files_only=True)
    model = AutoModel.from_pretrained(encoder_dir, local_files_only=True).eval()
    with torch.inference_mode():
        rows = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in TEXTS]
    return torch.nn.functional.normalize(torch.stack([row.mean(dim=0) for row in rows])).numpy()


def embed(client: openai.OpenAI, encoder: str, texts: Any = TEXTS, **options: Any) -> Any:
    return client.embeddings.create(model=encoder, input=texts, **options)


def vectors(answer: Any) -> np.ndarray[Any, Any]:
    return np.array([entry.embedding for entry in answer.data])


def test_embeddings__of_several_texts__are_the_models_own_and_have_a_receipt(
    network: Network, client: openai.OpenAI, encoder: str, expected: np.ndarray[Any, Any]
) -> None:
    answer = embed(client, encoder)
    assert vectors(answer) == pytest.approx(expected, abs=1e-5)
    assert [entry.index for entry in answer.data] == [0, 1, 2, 3]
    told = extra(answer)
    (receipt,) = receipts_of(told)
    assert (receipt.provider, receipt.completion_tokens) == (network.address("embedder"), 0)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == receipt.prompt_tokens == receipt.position_count
    assert int(told["cost"]) == receipt.amount == receipt.prompt_tokens * PRICE // 10**6
    assert told["settled"]
    # Anchored and replayed by a verifier that drew it, as any other.
    job_once(network, told["job_id"], "verified")


def test_embeddings__asked_in_each_form__are_the_same(network: Network, client: openai.OpenAI, encoder: str, expected: np.ndarray[Any, Any]) -> None:
    one = embed(client, encoder, TEXTS[0], encoding_format="float")
    assert one.data[0].embedding == pytest.approx(expected[0], abs=1e-5)
    headers = {"authorization": f"Bearer {network.api_key}"}
    body = {"model": encoder, "input": [TEXTS[0]], "encoding_format": "base64", "user": "somebody", "dimensions": 384}
    raw = requests.post(f"{network.gateway_url}/v1/embeddings", json=body, headers=headers, timeout=60).json()
    decoded = np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), dtype="<f4")
    assert decoded == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.slow
def test_embeddings__many_texts_over_several_frames__are_each_as_alone(client: openai.OpenAI, encoder: str, expected: np.ndarray[Any, Any]) -> None:
    found = vectors(embed(client, encoder, TEXTS * 6))
    assert found == pytest.approx(np.concatenate([expected] * 6), abs=1e-5)


def test_embeddings__with_require_verified__bring_a_verifiers_word(network: Network, encoder: str) -> None:
    checked = FunctionNetwork(
        base_url=f"{network.gateway_url}/v1", api_key=network.api_key, deployment=network.deployment_file, rpc_url=network.rpc_url, max_retries=0
    )
    wait_for_sellers(network, encoder)
    answer = embed(checked, encoder, extra_body={"provider": {"require_verified": True}})
    assert [check["verdict"] for check in extra(answer)["checks"]] == ["PASS"]
    assert "has replayed it and passed it" in checked.last_check[-1]


def test_embeddings__text_that_looks_like_a_special_token__is_text(client: openai.OpenAI, encoder: str) -> None:
    (odd, plain) = vectors(embed(client, encoder, ["before [SEP] [CLS] after", "before after"]))
    assert odd @ plain < 0.999
    assert np.linalg.norm(odd) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"input": [1, 2, 3]}, "unsupported_parameter", "token ids"),
        ({"input": [[1, 2], [3]]}, "unsupported_parameter", "token ids"),
        ({"input": ""}, None, "empty"),
        ({"input": ["a", ""]}, None, "empty"),
        ({"input": "word " * 300}, "context_length_exceeded", "takes 256"),
        ({"input": ["word " * 200] * 90}, None, "send several"),
        ({"dimensions": 128}, None, "384 numbers, not of 128"),
        ({"model": MODEL}, "wrong_kind_of_model", "writes text"),
        ({"encoding_format": "hex"}, "invalid_value", "encoding_format"),
    ],
)
def test_embeddings__asked_wrongly__are_refused_by_name(
    client: openai.OpenAI, encoder: str, change: dict[str, Any], code: str | None, words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        client.embeddings.create(**{"model": encoder, "input": "a", **change})
    assert caught.value.code == code


def test_chat__with_a_model_that_makes_vectors__is_refused_by_name(client: openai.OpenAI, encoder: str) -> None:
    with pytest.raises(openai.BadRequestError, match="ask it at /v1/embeddings") as caught:
        ask(client, model=encoder)
    assert caught.value.code == "wrong_kind_of_model"
    told = client.models.retrieve(encoder).model_extra or {}
    assert (told["type"], told["context_length"], told["pricing"]["prompt"]) == ("embedding", 256, "10")


def test_retry__with_the_same_name__is_answered_once_and_paid_once(network: Network, encoder: str) -> None:
    key = payer_of_its_own(network, "vectors")
    headers = {"authorization": f"Bearer {key}", "idempotency-key": "vectors-1"}
    first, again = (
        requests.post(f"{network.gateway_url}/v1/embeddings", json={"model": encoder, "input": "a cat"}, headers=headers, timeout=60)
        for _ in range(2)
    )
    assert (first.status_code, again.content, again.headers["idempotent-replayed"]) == (200, first.content, "true")
    credits = requests.get(f"{network.gateway_url}/v1/credits", headers={"authorization": f"Bearer {key}"}, timeout=10).json()
    assert (int(credits["spent"]), int(credits["reserved"])) == (int(first.json()["function_network"]["cost"]), 0)


@pytest.mark.slow
def test_provider__that_dies__is_told_and_nothing_is_billed(network: Network, encoder: str) -> None:
    key = payer_of_its_own(network, "vectors-in-vain")
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=key, max_retries=0, timeout=120)
    embed(client, encoder, "before")
    headers = {"authorization": f"Bearer {key}"}
    before = requests.get(f"{network.gateway_url}/v1/credits", headers=headers, timeout=10).json()["spent"]
    network.supervisor.kill("embedder")
    with pytest.raises(openai.InternalServerError, match=r"try again|could be opened"):
        embed(client, encoder, "a cat")
    network.heal()
    network.wait_provider("embedder")
    credits = requests.get(f"{network.gateway_url}/v1/credits", headers=headers, timeout=10).json()
    assert (credits["spent"], int(credits["reserved"])) == (before, 0)

    def served() -> bool:
        try:
            return bool(embed(client, encoder, "a cat").data)
        except openai.InternalServerError:
            return False

    network.wait(served, 60, "vectors of the provider that is back")
