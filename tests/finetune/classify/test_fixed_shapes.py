"""The hidden states of a text are the same whatever else is computed."""

import peers
import pytest
import torch
from decoder_models import CONFIGS, lively
from decoder_models import text as ids_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from groundup.evaluation.load import load
from groundup.evaluation.pretrained import import_pretrained
from groundup.finetune.classify.fixed_shapes import (
    BATCH_TOKENS,
    fixed_batches,
    padded_length,
    run_texts,
)
from groundup.model.gpt import GPT


def states_of(model: GPT, rows: list[list[int]], dtype: torch.dtype) -> list[Tensor]:
    found: list[Tensor] = [torch.empty(0)] * len(rows)

    def take(numbers: list[int], hidden: Tensor, lengths: Tensor) -> None:
        for row, number in enumerate(numbers):
            assert int(lengths[row]) == len(rows[number])
            found[number] = hidden[row, : len(rows[number])].clone()

    run_texts(
        model.hidden, rows, take,
        device=model.device, dtype=dtype, limit=model.config.context_length,
    )  # fmt: skip
    return found


@given(lengths=st.lists(st.integers(1, 700), max_size=60), limit=st.sampled_from([700, 1024]))
def test_every_row_is_in_one_batch_that_its_length_alone_decides(
    lengths: list[int], limit: int
) -> None:
    seen: list[int] = []
    for rows, B, T in fixed_batches(lengths, limit):
        assert 1 <= len(rows) <= B == max(1, BATCH_TOKENS // T)
        assert all(lengths[row] <= T == padded_length(lengths[row], limit) for row in rows)
        seen += rows
    assert sorted(seen) == list(range(len(lengths)))


@pytest.mark.parametrize("name", ["ours", "llama", "gpt2", "n-grams", "window"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_order_and_company_change_no_bit(name: str, dtype: torch.dtype) -> None:
    model = lively(CONFIGS[name])
    rows = [ids_of(n, seed=n) for n in (3, 8, 9, 20, 33, 5, 47, 1)]
    alone = [states_of(model, [row], dtype)[0] for row in rows]
    many = states_of(model, [*(ids_of(7, seed=k) for k in range(90)), *reversed(rows)], dtype)
    for state, other in zip(alone, reversed(many[90:]), strict=True):
        assert torch.equal(state, other)


def test_they_are_those_of_the_model() -> None:
    model = lively(CONFIGS["llama"])
    rows = [ids_of(n, seed=n) for n in (3, 20, 33)]
    for row, state in zip(rows, states_of(model, rows, torch.float32), strict=True):
        torch.testing.assert_close(state, model.hidden(torch.tensor([row]))[0])


@pytest.mark.slow
def test_with_a_real_model_in_bfloat16(tmp_path) -> None:
    import_pretrained(peers.smollm2(), out=tmp_path / "run")
    loaded = load(tmp_path / "run")
    texts = [f"Call {n} now to claim your prize {'!' * n}" for n in range(12)]
    rows = [loaded.tokenizer.encode(text) for text in texts]
    alone = [states_of(loaded.model, [row], torch.bfloat16)[0] for row in rows[::4]]
    together = states_of(loaded.model, rows, torch.bfloat16)[::4]
    for state, other in zip(alone, together, strict=True):
        assert torch.equal(state, other)
