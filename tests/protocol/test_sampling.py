"""Seeded sampling: reproducible, distributed as the softmax, checkable."""

import msgspec
import numpy as np
import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from protocol.sampling import History, SamplingParameters, gumbel_noise, kept_set, logprobs_of, sample, session_seed, token_margin

LOGITS = np.array([2.0, 1.0, 0.5, -1.0, 1.5], dtype=np.float32)


def test_sample__temperature_zero__is_the_argmax_and_ties_go_low() -> None:
    assert sample(LOGITS, SamplingParameters(), 0) == 0
    assert sample(np.array([1, 3, 3], dtype=np.float32), SamplingParameters(), 0) == 1


def test_sample__same_seed_and_position__same_token() -> None:
    parameters = SamplingParameters(temperature=1.0, seed=session_seed(7, b"m", 0))
    first = [sample(LOGITS, parameters, i) for i in range(50)]
    assert first == [sample(LOGITS, parameters, i) for i in range(50)]
    assert first != [sample(LOGITS, SamplingParameters(temperature=1.0, seed=session_seed(8, b"m", 0)), i) for i in range(50)]


def test_sample__many_positions__follow_the_softmax() -> None:
    parameters = SamplingParameters(temperature=0.8, seed=session_seed(1, b"m", 0))
    drawn = np.bincount([sample(LOGITS, parameters, i) for i in range(4000)], minlength=5)
    weights = np.exp(LOGITS / 0.8)
    expected = 4000 * weights / weights.sum()
    # Chi-squared with four degrees of freedom passes 30 once in 200,000; the seed is fixed, so this holds always or never.
    assert ((drawn - expected) ** 2 / expected).sum() < 30


def test_gumbel_noise__longer_vocabulary__keeps_each_tokens_noise() -> None:
    assert np.array_equal(gumbel_noise(5, 3, 100)[:10], gumbel_noise(5, 3, 10))
    assert not np.array_equal(gumbel_noise(5, 4, 10), gumbel_noise(5, 3, 10))


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        (SamplingParameters(temperature=1.0, top_k=2), [0, 4]),
        (SamplingParameters(temperature=1.0, top_p=0.5), [0, 4]),
        (SamplingParameters(temperature=1.0, top_p=1e-9), [0]),
        (SamplingParameters(temperature=1.0, min_p=0.5), [0, 4]),
        (SamplingParameters(temperature=1.0), [0, 1, 2, 3, 4]),
    ],
)
def test_kept_set__each_filter__keeps_the_likely_ones(parameters: SamplingParameters, kept: list[int]) -> None:
    assert np.flatnonzero(kept_set(LOGITS, parameters)).tolist() == kept


def test_sample__penalty_and_bias__change_the_choice() -> None:
    assert sample(LOGITS, SamplingParameters(frequency_penalty=1.0), 0, History([0])) == 4
    assert sample(LOGITS, SamplingParameters(logit_bias={3: 100.0}), 0) == 3


def test_digest__biases__are_in_it_whatever_their_order_and_come_back_from_json() -> None:
    biased = SamplingParameters(logit_bias={2: -100.0, 10: 1.5})
    assert biased.digest() == SamplingParameters(logit_bias={10: 1.5, 2: -100.0}).digest()
    assert len({biased.digest(), SamplingParameters(logit_bias={2: -100.0}).digest(), SamplingParameters().digest()}) == 3
    assert SamplingParameters.from_json(msgspec.json.decode(msgspec.json.encode(biased))) == biased


def test_sample__repetition_penalty__is_that_of_transformers() -> None:
    prompt, generated = [3, 1], [4, 4, 0]
    expected = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([prompt + generated]), torch.from_numpy(LOGITS.copy())[None])[0]
    parameters = SamplingParameters(repetition_penalty=1.7, temperature=1.0, seed=3)
    for position in range(50):
        assert sample(LOGITS, parameters, position, History(generated, prompt)) == sample(
            expected.numpy(), SamplingParameters(temperature=1.0, seed=3), position
        )


def test_sample__grammar__leaves_the_likeliest_of_what_it_allows__whatever_the_bias() -> None:
    allowed = np.array([False, True, False, True, False])
    history = History(allowed=allowed)
    assert sample(LOGITS, SamplingParameters(), 0, history) == int(np.where(allowed, LOGITS, -np.inf).argmax())
    assert sample(LOGITS, SamplingParameters(logit_bias={0: 100.0}), 0, history) in (1, 3)
    parameters = SamplingParameters(temperature=1.5, top_p=0.95, seed=4)
    drawn = {sample(LOGITS, parameters, position, history) for position in range(200)}
    assert drawn == {1, 3}
    token = sample(LOGITS, parameters, 9, history)
    assert token_margin(LOGITS, parameters, 9, token, history) == 0.0
    assert token_margin(LOGITS, parameters, 9, 0, history) == float("inf")


def test_token_margin__the_sampled_one__is_zero_and_others_positive() -> None:
    parameters = SamplingParameters(temperature=0.9, top_k=3, seed=11)
    for position in range(20):
        token = sample(LOGITS, parameters, position)
        assert token_margin(LOGITS, parameters, position, token) == 0.0
        assert all(token_margin(LOGITS, parameters, position, other) > 0 for other in range(5) if other != token)
    assert token_margin(LOGITS, parameters, 0, 99) == float("inf")


@pytest.mark.parametrize(
    "given", [{"temperature": "nan"}, {"temperature": -1}, {"top_p": "inf"}, {"seed": -1}, {"seed": 2**128}, {"top_k": -1}, {"top_k": "x"}]
)
def test_from_json__what_sampling_is_not_defined_for__is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"sampling is not defined|Expected"):
        SamplingParameters.from_json(given)


@pytest.mark.parametrize("count", [0, 3])
def test_logprobs__of_token_and_likeliest__are_torchs_log_softmax(count: int) -> None:
    expected = torch.log_softmax(torch.tensor(LOGITS).double(), dim=0)
    best = expected.topk(count)
    found = logprobs_of(LOGITS, 3, count)
    assert found.chosen == pytest.approx(float(expected[3]))
    assert [token for token, _ in found.top] == best.indices.tolist()
    assert [logprob for _, logprob in found.top] == pytest.approx(best.values.tolist())


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_kept_set__many_ties_and_signs__orders_them_as_a_stable_sort_does(digits: int) -> None:
    source = np.random.default_rng(digits)
    scores = source.normal(size=3000).astype(np.float32).round(digits)
    scores[source.integers(0, 3000, 40)] = -np.inf
    scores[source.integers(0, 3000, 40)] = -0.0
    order = np.argsort(-scores, kind="stable")
    for top_k in (1, 7, 500, 2999):
        assert set(np.flatnonzero(kept_set(scores, SamplingParameters(top_k=top_k)))) == set(order[:top_k].tolist())
