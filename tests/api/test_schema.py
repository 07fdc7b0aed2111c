"""What a request may ask for, and how what it may not is named."""

from typing import Any

import pytest

from api import BadRequest
from api.routing import DEFAULT_WISH
from api.schema import ChatRequest, ProviderWish, TextRequest
from protocol.receipts import EXECUTION_CLASSES, execution_class_id
from protocol.units import FUNC

ONE, TWO = "0x" + "ab" * 20, "0x" + "12" * 20
HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def test_wish__left_out__is_the_cheapest_in_float32() -> None:
    assert ChatRequest(**HELLO).provider.to_wish() == DEFAULT_WISH
    assert ChatRequest(**HELLO, provider=None, stop=None, seed=None).provider.to_wish() == DEFAULT_WISH


def test_wish__given__reads_addresses_prices_and_precisions() -> None:
    wish = ProviderWish(
        order=[ONE], ignore=[TWO], sort="latency", max_price={"prompt": "0.5", "completion": 2}, quantizations=["int8", "bfloat16"]
    ).to_wish()
    assert [name.lower() for name in wish.order] == [ONE]
    assert wish.ignore == {TWO}
    assert (wish.sort, wish.most_input, wish.most_output) == ("latency", FUNC // 2, 2 * FUNC)
    assert {EXECUTION_CLASSES[digest] for digest in wish.classes} == {f"{p}/{k}" for p in ("bfloat16", "bfloat16+int8") for k in ("sdpa", "eager")}


def test_wish__no_fallbacks__leaves_those_of_the_order_alone() -> None:
    wish = ProviderWish(order=[ONE, TWO], only=[TWO], allow_fallbacks=False).to_wish()
    assert wish.only == {TWO}
    assert ProviderWish(allow_fallbacks=False).to_wish().only is None


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ({"only": ["0x12"]}, "provider.only", "'0x12', which is no address"),
        ({"order": [ONE, "openai"]}, "provider.order", "'openai', which is no address"),
        ({"quantizations": ["int4"]}, "provider.quantizations", "'int4'; known are fp32, bf16, int8"),
    ],
)
def test_wish__what_names_nothing__is_refused_by_name(given: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        ProviderWish(**given).to_wish()
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("prompt", "found"),
    [("Hello", "Hello"), (["Hello"], "Hello"), ([1, 2], [1, 2]), ([[1, 2]], [1, 2])],
)
def test_text_request__one_prompt_in_any_form__is_it(prompt: Any, found: Any) -> None:
    assert TextRequest(model="m", prompt=prompt).one_prompt() == found


@pytest.mark.parametrize("prompt", ["", [], [""], ["a", "b"], [[1], [2]], [[]]])
def test_text_request__none_or_several__is_refused(prompt: Any) -> None:
    with pytest.raises(BadRequest, match="'prompt'"):
        TextRequest(model="m", prompt=prompt).one_prompt()


@pytest.mark.parametrize("field", ["suffix", "echo"])
def test_text_request__what_is_not_served__is_refused_by_name(field: str) -> None:
    with pytest.raises(BadRequest, match=field):
        TextRequest(model="m", prompt="a", **{field: "x"})
    TextRequest(model="m", prompt="a", **{field: None})


def test_chat_request__bytes_that_are_no_object__are_a_validation_error() -> None:
    with pytest.raises(ValueError, match="valid dictionary"):
        ChatRequest.model_validate([1])


def test_execution_classes__default__is_known() -> None:
    assert DEFAULT_WISH.classes == (execution_class_id("float32/sdpa"),)
