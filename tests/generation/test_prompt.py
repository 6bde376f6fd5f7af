"""Prompts as tensors, arrays, lists and batches, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from groundup.base.errors import UserError
from groundup.generation.generate import generate, stream
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT

CONFIG = GPTConfig(vocab_size=20, context_length=8, d_model=16, n_layers=1, n_heads=2, init="torch")
MODEL = GPT(CONFIG, seed=3)
ROWS = [[1, 2, 3], [4, 5, 6]]
WAYS: dict[str, Any] = {
    "tensor": torch.tensor,
    "int32 tensor": lambda ids: torch.tensor(ids, dtype=torch.int32),
    "array": np.array,
    "uint16 array": lambda ids: np.array(ids, dtype=np.uint16),
    "read-only array": lambda ids: np.frombuffer(np.array(ids).tobytes(), dtype=np.int64),
    "tuple": tuple,
    "range": lambda ids: range(ids[0], ids[-1] + 1),
    "numpy integers": lambda ids: list(np.array(ids)),
    "scalars of torch": lambda ids: list(torch.tensor(ids)),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_prompt(way: str) -> None:
    alone = generate(MODEL, ROWS[0], 5)
    new = generate(MODEL, WAYS[way](ROWS[0]), 5)
    assert new == alone
    assert all(type(i) is int for i in new)
    assert list(stream(MODEL, WAYS[way](ROWS[0]), 5)) == alone


BATCHES: dict[str, Any] = {
    "tensor": torch.tensor,
    "array": np.array,
    "lists": list,
    "tuple of tuples": lambda rows: tuple(map(tuple, rows)),
    "list of tensors": lambda rows: [torch.tensor(row) for row in rows],
}


@pytest.mark.parametrize("way", BATCHES)
def test_a_batch_is_generated_row_by_row(way: str) -> None:
    new = generate(MODEL, BATCHES[way](ROWS), 5, seed=2)
    assert new == [generate(MODEL, row, 5, seed=2) for row in ROWS]


def test_rows_may_have_different_lengths_and_stop_alone() -> None:
    rows = [[1], [2, 3, 4]]
    stop = generate(MODEL, rows[1], 6)[2]
    new = generate(MODEL, rows, 6, stop_ids=[stop])
    assert new == [generate(MODEL, row, 6, stop_ids=[stop]) for row in rows]
    assert len(new[1]) < 6
    assert generate(MODEL, torch.empty(0, 3, dtype=torch.long), 4) == []


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("Hello", r"The prompt is text: 'Hello'.*load\(run\)\.generate\(text\)"),
        (b"Hello", "The prompt is text"),
        (["Hello"], "has 'Hello' as a token id"),
        (None, "The prompt is None"),
        (5, "The prompt is 5"),
        (torch.tensor(5), r"shape \(\)"),
        (torch.ones(1, 1, 2, dtype=torch.long), r"shape \(1, 1, 2\)"),
        (torch.tensor([1.0, 2.0]), "has 1.0 as a token id"),
        (np.array([1.5]), "has 1.5 as a token id"),
        (torch.tensor([True]), "has True as a token id"),
        ([True], "has True as a token id"),
        ([1, None], "has None as a token id"),
        ({1, 2}, "an object of type set"),
        ([], "no tokens"),
        (torch.tensor([]), "no tokens"),
        ([1, 20], "token id 20, and the vocabulary ends at 19"),
        (torch.tensor([-1]), "token id -1"),
        ([[1], [20]], "token id 20"),
        (iter([1]), "The prompt is an object"),
    ],
)
def test_what_is_no_prompt_is_refused(prompt: Any, found: str) -> None:
    with pytest.raises(UserError, match=found):
        generate(MODEL, prompt, 4)


@pytest.mark.parametrize("count", [-1, 2.5, None, "4"])
def test_counts_that_are_none_are_refused(count: Any) -> None:
    with pytest.raises(UserError, match=r"max_new_tokens is .*at least 0"):
        generate(MODEL, [1], count)
    assert generate(MODEL, [1], np.int64(2)) == generate(MODEL, [1], 2)  # type: ignore[call-overload]


def test_a_batch_is_no_stream() -> None:
    with pytest.raises(UserError, match=r"shape \(2, 3\).*\(T,\) for one prompt"):
        stream(MODEL, torch.tensor(ROWS), 4)
