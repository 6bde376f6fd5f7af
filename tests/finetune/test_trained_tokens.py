"""The same tokens are trained, with the same gradients, padded, packed, sorted and accumulated."""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from decoder_models import CONFIGS, lively
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.base.errors import UserError
from groundup.finetune.batches import (
    Row,
    RowBatches,
    sequence_loss,
    spread,
    token_log_probabilities,
)
from groundup.model import loss as loss_module
from groundup.model.gpt import GPT
from groundup.train.loop import train_steps
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.precision import MixedPrecision
from groundup.train.schedule import Schedule

END = 2
MODEL = CONFIGS["ours"]


@functools.cache
def a_model(kind: str = "ours") -> GPT:
    """In float64, so that only a wrong sum differs, not another order of the same sum."""
    return lively(CONFIGS[kind]).double()


def row(prompt: Sequence[int], answer: Sequence[int]) -> Row:
    """A prompt that is not trained, and an answer that is, with its end."""
    ids = [*prompt, *answer, END]
    return ids[:-1], [-100] * (len(prompt) - 1) + ids[len(prompt) :]


@st.composite
def rows(draw: Any, max_rows: int = 7) -> list[Row]:
    some = st.lists(st.integers(0, 59), min_size=1, max_size=20)
    pairs = draw(st.lists(st.tuples(some, some), min_size=1, max_size=max_rows))
    return [row(prompt, answer) for prompt, answer in pairs]


def n_trained(batch: Sequence[Tensor]) -> int:
    return int((batch[1] != -100).sum())


def gradients(model: GPT, batches: Sequence[Sequence[Tensor]]) -> tuple[float, list[Tensor]]:
    """Loss and gradients, accumulated over micro-batches: each is weighted by its tokens."""
    model.zero_grad()
    n, total = sum(map(n_trained, batches)), 0.0
    for batch in batches:
        loss = sequence_loss(model, *batch) * (n_trained(batch) / n)
        loss.backward()
        total += loss.item()
    return total, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def same(found: tuple[float, list[Tensor]], wanted: tuple[float, list[Tensor]]) -> None:
    assert found[0] == pytest.approx(wanted[0], abs=1e-10)
    for one, other in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


def by_all_logits(model: GPT, batch: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
    """Padded, with logits at every position: what the definition says."""
    model.zero_grad()
    logits = model(batch[0]).flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits, batch[1].flatten())
    loss.backward()
    return loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@settings(max_examples=40, deadline=None)
@given(rows=rows(), n_parts=st.integers(1, 4), kind=st.sampled_from(["ours", "n-grams", "gpt2"]))
def test_every_layout_trains_the_same_tokens_with_the_same_gradients(rows, n_parts, kind):
    """Also that of `packing` which loses the mask (a packed chat trained on its prompts)."""
    model, n_rows = a_model(kind), len(rows)
    padded = RowBatches(rows, n_rows, seed=1).batch(0)
    packed = RowBatches(rows, n_rows, seed=1, layout="packed").batch(0)
    parts = RowBatches(rows, n_rows, seed=1, layout="packed", n_parts=n_parts).batch(0)
    in_parts = list(zip(*(tensor.chunk(n_parts) for tensor in parts), strict=True))
    n = sum(target != -100 for _, targets in rows for target in targets)
    assert n_trained(padded) == n_trained(packed) == sum(map(n_trained, in_parts)) == n
    wanted = by_all_logits(model, padded)
    for batches in ([padded], [packed], in_parts):
        same(gradients(model, batches), wanted)


@settings(max_examples=40, deadline=None)
@given(rows=rows(), size=st.integers(1, 4))
def test_micro_batches_give_the_gradient_of_the_batch(rows, size):
    """The last one may be shorter than the others."""
    batch = RowBatches(rows, len(rows)).batch(0)
    parts = list(zip(*(tensor.split(size) for tensor in batch), strict=True))
    same(gradients(a_model(), parts), gradients(a_model(), [batch]))


def test_one_and_nine_tokens_in_two_micro_batches_weigh_as_ten():
    """A mean of two means would give the single token nine times the weight of each other."""
    some = [row([5, 6], []), row([7], range(10, 18))]
    assert [len([t for t in targets if t != -100]) for _, targets in some] == [1, 9]
    batch = RowBatches(some, 2).batch(0)
    parts = list(zip(*(tensor.split(1) for tensor in batch), strict=True))
    same(gradients(a_model(), parts), by_all_logits(a_model(), batch))
    means = [sequence_loss(a_model(), *part).item() for part in parts]
    assert abs(sum(means) / 2 - sequence_loss(a_model(), *batch).item()) > 0.01


def test_a_short_last_window_is_not_divided_by_the_full_size():
    """Two of four micro-batches are left at the end of the data."""
    some = [row([5], [6]), row([7, 8], [9, 10, 11])]
    batch = RowBatches(some, 2).batch(0)
    chunks = list(zip(*(tensor.chunk(4) for tensor in batch), strict=True))
    assert len(chunks) == 2
    same(gradients(a_model(), chunks), by_all_logits(a_model(), batch))


@pytest.mark.parametrize("pad", [0, END, 7])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_end_of_each_answer_is_trained_once_for_any_padding(pad, layout):
    """Also if the padding is the end token, and if it stands in the prompt."""
    some = [row([7, END, 5], [9, 9]), row([END], [4]), row([7, 7, 7, END, 1, 1, 3], [END, 8])]
    targets = RowBatches(some, 3, pad=pad, layout=layout).batch(0)[1].flatten().tolist()
    answers = [t for t in targets if t != -100]
    assert Counter(answers) == Counter([9, 9, END, 4, END, END, 8, END])


@pytest.mark.parametrize("pad", [0, END, 7])
def test_the_padding_changes_nothing(pad):
    some = [row([7, END, 5], [9, 9]), row([END], [4]), row([7, 7, 7, END, 1, 1, 3], [END, 8])]
    found = RowBatches(some, 3, seed=2, pad=pad).batch(0)
    wanted = RowBatches(some, 3, seed=2, pad=11).batch(0)
    same(gradients(a_model(), [found]), by_all_logits(a_model(), wanted))
    log_p = token_log_probabilities(a_model(), *found)
    torch.testing.assert_close(log_p, token_log_probabilities(a_model(), *wanted))
    longer = [
        torch.nn.functional.pad(x, (0, 5), value=v) for x, v in ((found[0], pad), (found[1], -100))
    ]
    torch.testing.assert_close(token_log_probabilities(a_model(), *longer)[:, :-5], log_p)


@settings(max_examples=30, deadline=None)
@given(rows=rows(), layout=st.sampled_from(["padded", "packed"]), at_once=st.sampled_from([1, 200]))
def test_log_probabilities_and_their_gradients(rows, layout, at_once):
    """By all logits at once, and in parts of at most `at_once` logits."""
    model, n_rows = a_model(), len(rows)
    batch = RowBatches(rows, n_rows, seed=1, layout=layout, n_parts=2).batch(0)
    ids, targets = RowBatches(rows, n_rows, seed=1).batch(0)
    model.zero_grad()
    log_p = model(ids).log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
    wanted = log_p[targets != -100]
    weights = torch.linspace(-1, 2, len(wanted), dtype=torch.float64)
    (wanted * weights).sum().backward()
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_module, "LOGITS_AT_ONCE", at_once)
        found = token_log_probabilities(model, *batch)
        assert found.shape == batch[1].shape
        assert not found[batch[1] == -100].any()
        some = found[batch[1] != -100]
        torch.testing.assert_close(some.sort()[0], wanted.sort()[0], atol=1e-5, rtol=1e-5)
        if layout == "padded":
            (some * weights).sum().backward()
            for p, gradient in zip(model.parameters(), expected, strict=True):
                torch.testing.assert_close(p.grad, gradient, atol=1e-5, rtol=1e-4)


def test_log_probabilities_in_bfloat16_are_near_the_exact_ones():
    batch = RowBatches([row([5, 6], [7, 8, 9]), row([1], [2])], 2).batch(0)
    exact = token_log_probabilities(lively(MODEL), *batch)
    found = token_log_probabilities(MixedPrecision(lively(MODEL), torch.bfloat16), *batch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0.02)


def test_untrained_positions_have_no_logits(monkeypatch):
    """The head sees the hidden states of the trained positions, and no padding is computed."""
    seen: dict[str, tuple[int, ...]] = {}
    model = lively(MODEL)
    monkeypatch.setattr(
        "groundup.finetune.batches.head_cross_entropy",
        lambda hidden, head, targets, reduction: seen.update(head=hidden.shape) or hidden.sum(),
    )
    model.blocks[0].register_forward_hook(lambda block, args, out: seen.update(block=out.shape))
    sequence_loss(model, *RowBatches([row([1] * 9, [5]), row([1], [4])], 2).batch(0))
    assert seen == {"head": (1, 4, MODEL.d_model), "block": (1, 12, MODEL.d_model)}


@given(rows=rows(max_rows=12), batch_size=st.integers(1, 5), seed=st.integers(0, 9))
def test_sorted_batches_visit_every_row_once_per_epoch(rows, batch_size, seed):
    batches = RowBatches(rows, batch_size, seed=seed, sort_by_length=True)
    n_batches = 3 * len(rows)  # exactly 3 * batch_size epochs
    numbers = [i for k in range(n_batches) for i in batches.row_numbers(k)]
    for start in range(0, len(numbers), len(rows)):
        assert sorted(numbers[start : start + len(rows)]) == list(range(len(rows)))
    assert batches.n_batches(1) == -(-len(rows) // batch_size)


def test_sorting_saves_padding():
    some = [row([1] * (i % 19 + 1), [2]) for i in range(95)]

    def n_positions(**settings: Any) -> int:
        batches = RowBatches(some, 8, seed=3, **settings)
        return sum(batches.batch(k)[0].numel() for k in range(batches.n_batches(3)))

    n_tokens = 3 * sum(len(ids) for ids, _ in some)  # no epoch ends with a batch
    assert n_positions(sort_by_length=True) < 1.1 * n_tokens < 1.3 * n_tokens < n_positions()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 6))
def test_texts_are_spread_evenly(lengths, n_parts):
    parts = spread(lengths, n_parts)
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    totals = [sum(lengths[i] for i in part) for part in parts]
    assert min(totals) > 0
    assert max(totals) - min(totals) <= max(lengths)


def test_a_batch_without_a_trained_token_is_refused():
    ids, targets = torch.tensor([[1, 2]]), torch.tensor([[-100, -100]])
    with pytest.raises(UserError, match="no trained token"):
        sequence_loss(a_model(), ids, targets)
    with pytest.raises(UserError, match="no rows"):
        RowBatches([], 2)


def test_batches_are_those_of_the_seed():
    some = [row([i], [i]) for i in range(9)]

    def first(seed: int) -> Iterator[list[int]]:
        batches = RowBatches(some, 3, seed=seed, sort_by_length=True)
        return (batches.row_numbers(k) for k in range(7))

    assert list(first(1)) == list(first(1)) != list(first(2))


@pytest.mark.parametrize("n_parts", [1, 2, 3, 5])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_training_loop_accumulates_the_gradient_of_the_batch(layout, n_parts):
    """Eight rows in three parts are 3, 3 and 2 rows; their numbers of trained tokens differ."""
    some = [row([i] * (i % 3 + 1), range(10, 11 + 2 * i)) for i in range(8)]
    model = lively(MODEL).double()
    wanted = by_all_logits(model, RowBatches(some, 8, seed=4).batch(0))
    batches = RowBatches(some, 8, seed=4, layout=layout, n_parts=n_parts)
    steps = train_steps(
        iter(batches),
        functools.partial(sequence_loss, model),
        Optimizer(model, OptimizerConfig(name="adamw", learning_rate=1e-3)),
        Schedule(n_steps=2),
        grad_accumulation_steps=n_parts,
    )
    step = next(steps)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert step.n_targets == sum(2 * i + 2 for i in range(8))
    same((step.loss_nats, found), wanted)
