"""Extreme settings, penalties, bias and log-probabilities against their definitions."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.generation.request import Request, Sampling
from groundup.generation.sampler import Sampler, token_logprobs
from groundup.generation.sampling import most_likely, next_token_probabilities

LOGITS = st.lists(
    st.one_of(st.floats(-20, 20, width=32), st.sampled_from([0.0, 1.0, -math.inf])),
    min_size=2,
    max_size=12,
).filter(lambda values: max(values) > -math.inf)


def sampler(prompt: tuple[int, ...] = (), **sampling: Any) -> Sampler:
    return Sampler(Sampling(**sampling), prompt, seed=0)


@settings(max_examples=100, deadline=None)
@given(
    logits=LOGITS,
    temperature=st.sampled_from([0, 1e-300, 1e-30, 1e-4, 1.0, 100.0]),
    top_k=st.sampled_from([None, 1, 3, 1000]),
    top_p=st.sampled_from([None, 1e-9, 0.5, 1.0]),
    min_p=st.sampled_from([None, 0.0, 0.3, 1.0]),
)
def test_any_settings_give_a_distribution_without_excluded_tokens(
    logits: list[float], temperature: float, top_k: Any, top_p: Any, min_p: Any
) -> None:
    z = torch.tensor(logits)
    p = next_token_probabilities(z, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    assert p.isfinite().all()
    assert p.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert (p[z.isneginf()] == 0).all()
    assert p.max() == p[most_likely(z)]
    if temperature < 1e-5 or top_k == 1 or top_p == 1e-9:
        assert p.tolist() == [float(i == most_likely(z)) for i in range(len(z))]
    if min_p == 1.0:
        assert ((p > 0) <= (z >= z.max() - 1e-4)).all()


def naive_nucleus(z: torch.Tensor, top_p: float) -> list[int]:
    order = z.softmax(0).sort(descending=True, stable=True)
    before = order.values.cumsum(0) - order.values
    return sorted(order.indices[before < top_p].tolist())


@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
def test_top_p_of_a_large_vocabulary_is_that_of_a_full_sort(scale: float) -> None:
    z = torch.randn(20_000, generator=torch.Generator().manual_seed(1)) * scale
    for top_p in (1e-9, 0.3, 0.95, 0.9999):
        kept = next_token_probabilities(z, top_p=top_p).nonzero()[:, 0].tolist()
        assert kept == naive_nucleus(z, top_p)


def test_of_equal_logits_the_smallest_ids_are_kept() -> None:
    for n in (5, 3_000, 50_000):
        z = torch.zeros(n)
        z[: n // 2] = -1.0
        best = n // 2
        assert most_likely(z) == best
        assert sampler(temperature=0).draw(z, 1).id == best
        for cut in ({"top_k": 2}, {"top_p": 1.01 / (n - best)}):
            p = next_token_probabilities(z, temperature=1e-2, **cut)  # type: ignore[arg-type]
            assert p.nonzero()[:, 0].tolist() == [best, best + 1]
        assert [i for i, _ in token_logprobs(z, best, 3).top] == [best, best + 1, best + 2]


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize(
    ("logits", "found"),
    [([-math.inf] * 3, "exclude every token"), ([0.0, math.nan], "nan"), ([0, math.inf], "inf")],
)
def test_what_is_no_distribution_is_an_error(temperature: float, logits: Any, found: str) -> None:
    with pytest.raises(UserError, match=found):
        next_token_probabilities(torch.tensor(logits), temperature=temperature)


def test_penalties_follow_their_definitions() -> None:
    z = torch.tensor([2.0, -1.0, 3.0, 0.5])
    penalized = sampler((1, 0), temperature=0, repetition_penalty=2.0)
    assert penalized.draw(z, 1).id == 2  # 1, -2, 3, 0.5
    assert penalized.draw(z, 1).id == 2  # 1, -2, 1.5, 0.5
    # Presence counts once, frequency each time, and neither counts the prompt.
    counted = sampler((2, 2, 2), temperature=0, presence_penalty=0.6, frequency_penalty=0.3)
    assert [counted.draw(z, 1).id for _ in range(5)] == [2, 2, 0, 2, 2]
    # after one 2: 2.1; two: 1.8 < 2.0; then 0: 1.1; three: 1.5; four: 1.2
    assert z.tolist() == [2.0, -1.0, 3.0, 0.5], "the logits of the model are left alone"


def test_a_bias_is_added_and_minus_infinity_excludes_a_token() -> None:
    z = torch.tensor([2.0, -1.0, 3.0, 0.5])
    assert sampler(temperature=0, logit_bias={1: 10}).draw(z, 1).id == 1
    never = sampler(logit_bias={2: -math.inf, 0: -math.inf})
    assert {never.draw(z, 1).id for _ in range(50)} == {1, 3}


def test_log_probabilities_are_those_of_the_model() -> None:
    z = torch.tensor([2.0, -1.0, 3.0, 0.5, -math.inf])
    expected = z.log_softmax(0)
    for temperature in (0.1, 1.5):
        drawn = Sampler(
            Sampling(temperature=temperature, top_k=3, repetition_penalty=2.0, logit_bias={1: 9.0}),
            [2],
            seed=1,
            logprobs=2,
        ).draw(z, 1)
        assert drawn.id == 1
        assert drawn.logprobs is not None
        assert drawn.logprobs.drawn == pytest.approx(float(expected[1]))
        assert [i for i, _ in drawn.logprobs.top] == [2, 0, 1], "and the drawn one"
        assert [p for _, p in drawn.logprobs.top] == pytest.approx(expected[[2, 0, 1]].tolist())
    assert len(token_logprobs(z, 0, 20).top) == 4, "no id without a token"
    assert token_logprobs(z, 0, 0).top == ((0, pytest.approx(float(expected[0]))),)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"min_p": 1.5}, "min_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": math.nan}, "repetition_penalty"),
        ({"presence_penalty": math.inf}, "presence_penalty"),
        ({"frequency_penalty": math.nan}, "frequency_penalty"),
        ({"logit_bias": {1: math.nan}}, "token 1 is nan"),
        ({"logit_bias": {1: math.inf}}, "token 1 is inf"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], found: str) -> None:
    with pytest.raises(UserError, match=found):
        Sampling(**wrong)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"ids": []}, "no tokens"),
        ({"ids": [9]}, "vocabulary ends at 8"),
        ({"ids": [1] * 17}, "prompt has 17 tokens, and the context of the model has 16"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"n": 0}, "n is 0"),
        ({"logprobs": 21}, "logprobs is 21"),
        ({"logprobs": -1}, "logprobs is -1"),
        ({"stop": [""]}, "stop string is empty"),
        (
            {"sampling": Sampling(logit_bias={99_999_999: 1})},
            "logit_bias has the token id 99999999",
        ),
        ({"sampling": Sampling(logit_bias={-1: 1})}, "logit_bias has the token id -1"),
    ],
)
def test_requests_that_do_not_fit_a_model_are_refused(wrong: dict[str, Any], found: str) -> None:
    with pytest.raises(UserError, match=found):
        Request(**{"ids": [1], "max_new_tokens": 3, **wrong}).check(9, 16)


def test_a_fraction_of_a_token_is_refused() -> None:
    pytest.importorskip("jaxtyping", minversion="0.3.11")  # older ones check it in the tests
    with pytest.raises(UserError, match=r"max_new_tokens is 1.5"):
        Request(ids=[1], max_new_tokens=1.5).check(9, 16)  # type: ignore[arg-type]
