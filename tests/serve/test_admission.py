"""Admission: limits of one request, and how many fit and wait."""

import dataclasses
from typing import Any

import pytest
from decoder_models import CONFIGS, lively

from groundup.base.errors import UserError
from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine, Handle
from groundup.generation.request import Request
from groundup.serve.admission import Admission, Busy, Limits, fitting

DECODER = Decoder(lively(dataclasses.replace(CONFIGS["ours"], context_length=1000)))


def request(n_prompt: int, n_new: int, **settings: Any) -> Request:
    return Request(ids=[1] * n_prompt, max_new_tokens=n_new, **settings)


def test_requests_are_taken_while_memory_and_places_to_wait_last() -> None:
    row = DECODER.row_bytes(500)
    engine = Engine(DECODER, max_rows=10, max_cache_bytes=3 * row)
    admission = Admission(Limits(n_waiting=2))
    opened: list[Handle] = []
    for n_new in (400, 300, 400, 400, 400):  # three fit, two wait
        admission.check(request(100, n_new), opened, engine, step_s=0.1)
        opened.append(engine.submit(request(100, n_new)))
    with pytest.raises(Busy, match=r"generates 3 texts, and 2 wait.*again in 30 s") as refused:
        admission.check(request(100, 400), opened, engine, step_s=0.1)
    assert refused.value.retry_after_s == 30, "the shortest answer has 300 tokens left"
    while engine.n_running != 3 or opened[1].sequences[0].finish_reason is None:
        engine.step()
    admission.check(request(100, 400), opened, engine, step_s=0.1)
    with pytest.raises(Busy, match="again in 20 s"):  # two ends are needed
        admission.check(request(100, 400, n=2), opened, engine, step_s=0.2)
    assert fitting(engine, [500, 100, 1000, 1]) == 2
    engine = Engine(DECODER, max_rows=10, max_cache_bytes=3 * row)
    with pytest.raises(Busy, match="generates 1 texts, and 0 wait"):
        admission.check(request(100, 400, n=5), [engine.submit(request(100, 400))], engine, 0.1)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request(101, 10), "prompt has 101 tokens, and the server takes prompts of up to 100"),
        (request(10, 51), "max_new_tokens is 51, and the server generates up to 50"),
        (request(10, 10, n=9), "n is 9. The server has room for 8 texts of this length"),
    ],
)
def test_what_never_fits_is_refused_as_a_mistake(asked: Request, said: str) -> None:
    limits = Limits(prompt_tokens=100, answer_tokens=50, n_waiting=5)
    with pytest.raises(UserError, match=said):
        Admission(limits).check(asked, [], Engine(DECODER, max_rows=3), step_s=0.0)


def test_limits_have_a_range() -> None:
    for wrong in ({"time_s": 0}, {"answer_tokens": 0}, {"n_waiting": -1}, {"prompt_tokens": 0}):
        with pytest.raises(UserError, match="is expected"):
            Limits(**wrong)
