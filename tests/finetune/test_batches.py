"""Padded batches and the loss on the answer only."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batches import RowBatches, language_row, pad_rows
from groundup.finetune.instruct.synthetic import Record
from groundup.finetune.training import mean_loss
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.special import END

TOKENIZER = CharacterTokenizer.from_text("abcdefghijklmnopqrstuvwxyz \n")


def model() -> GPT:
    config = GPTConfig(
        vocab_size=TOKENIZER.vocab_size, context_length=32, d_model=16, n_layers=2, n_heads=2
    )
    gpt = GPT(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return gpt


def conversation(record: Record) -> tuple[list[int], list[int]]:
    return render_ids(record.messages, TOKENIZER)


def batch(row: tuple[list[int], list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([row[0]]), torch.tensor([row[1]])


def test_only_the_answer_and_its_end_are_targets() -> None:
    ids, mask = conversation(Record("say it\nnow", "yes"))
    row = language_row(ids, mask, 32)
    assert row is not None
    trained = [target for target in row[1] if target != IGNORE_INDEX]
    assert trained == [*TOKENIZER.encode("yes"), TOKENIZER.special_tokens[END]]
    # Every target is the token after its input.
    assert all(t in (IGNORE_INDEX, ids[i + 1]) for i, t in enumerate(row[1]))


def test_prompt_targets_get_no_gradient() -> None:
    """The gradient on the logits is zero at every prompt position and nowhere else."""
    ids, mask = conversation(Record("say it", "yes"))
    row = language_row(ids, mask, 32)
    assert row is not None
    inputs, targets = batch(row)
    logits = model()(inputs).detach().requires_grad_()
    counted = targets.flatten()
    loss = torch.nn.functional.cross_entropy(logits[0], counted, ignore_index=IGNORE_INDEX)
    loss.backward()
    assert logits.grad is not None
    moved = logits.grad[0].abs().sum(dim=1) > 0
    assert moved.tolist() == [target != IGNORE_INDEX for target in row[1]]
    # The model's own loss is that loss.
    assert model().loss(inputs, targets).item() == pytest.approx(float(loss.detach()), rel=1e-5)


def test_another_prompt_target_changes_no_gradient_of_the_weights() -> None:
    """What the prompt's next tokens are is not part of the loss."""
    ids, mask = conversation(Record("say it", "yes"))
    row = language_row(ids, mask, 32)
    assert row is not None
    first, second = model(), model()
    first.loss(*batch(row)).backward()
    kept = [i for i, target in enumerate(row[1]) if target != IGNORE_INDEX]
    logits = second(torch.tensor([row[0]]))[0, kept]
    answer = torch.tensor([row[1][i] for i in kept])
    torch.nn.functional.cross_entropy(logits, answer).backward()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_padding_changes_neither_loss_nor_gradient() -> None:
    rows = []
    for record in (Record("say it", "yes"), Record("go", "no no no"), Record("x", "y")):
        row = language_row(*conversation(record), 32)
        assert row is not None
        rows.append(row)
    together = model()
    ids = pad_rows([row[0] for row in rows], pad=0)
    targets = pad_rows([row[1] for row in rows], pad=IGNORE_INDEX)
    together.loss(ids, targets).backward()
    apart = model()
    n_all = sum(t != IGNORE_INDEX for row in rows for t in row[1])
    for row in rows:
        n = sum(t != IGNORE_INDEX for t in row[1])
        (apart.loss(*batch(row)) * n / n_all).backward()
    for a, b in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)
    one_by_one = mean_loss(model(), rows, batch_size=1)
    assert mean_loss(model(), rows, batch_size=3) == pytest.approx(one_by_one, rel=1e-5)


def test_an_answer_beyond_the_context_is_left_out() -> None:
    ids, mask = conversation(Record("a" * 40, "b"))
    assert language_row(ids, mask, 32) is None
    assert language_row(*conversation(Record("a", "b" * 40)), 32) is None


@given(question=st.integers(1, 40), answer=st.integers(1, 40), context_length=st.integers(4, 60))
def test_an_answer_is_never_cut_and_its_end_is_trained(
    question: int, answer: int, context_length: int
) -> None:
    ids, mask = conversation(Record("a" * question, "b" * answer))
    row = language_row(ids, mask, context_length)
    if row is None:
        assert question + answer + 4 > context_length + 1
        return
    assert len(row[0]) <= context_length
    trained = [target for target in row[1] if target != IGNORE_INDEX]
    assert trained == [*TOKENIZER.encode("b" * answer), TOKENIZER.special_tokens[END]]


@given(n_rows=st.integers(1, 30), batch_size=st.integers(1, 8), seed=st.integers(0, 99))
def test_an_epoch_shows_every_row_once(n_rows: int, batch_size: int, seed: int) -> None:
    rows = [([i], [i]) for i in range(n_rows)]
    loader = RowBatches(rows, batch_size, seed=seed)
    n_batches = n_rows * 2  # exactly 2 * batch_size epochs
    seen = Counter(i for k in range(n_batches) for i in loader.batch(k)[0].flatten().tolist())
    assert seen == dict.fromkeys(range(n_rows), 2 * batch_size)


def test_iterating_yields_the_batches_in_order() -> None:
    rows = [([i] * (i + 1), [i] * (i + 1)) for i in range(7)]
    loader = RowBatches(rows, 3, seed=4)
    for k, (ids, targets) in zip(range(6), loader, strict=False):
        assert torch.equal(ids, loader.batch(k)[0])
        assert torch.equal(targets, loader.batch(k)[1])
    orders = [RowBatches(rows, 7, seed=seed).batch(0)[0].tolist() for seed in (4, 4, 5)]
    assert orders[0] == orders[1] != orders[2]


def test_an_epoch_is_ordered_once_and_a_batch_depends_on_its_number_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [([i] * (1 + i % 5), [i] * (1 + i % 5)) for i in range(10)]
    alone = [RowBatches(rows, 4, seed=4, sort_by_length=True).row_numbers(k) for k in range(15)]
    real, epochs = RowBatches._order, []
    monkeypatch.setattr(RowBatches, "_order", lambda self, e: epochs.append(e) or real(self, e))
    loader = RowBatches(rows, 4, seed=4, sort_by_length=True)
    assert [loader.row_numbers(k) for k in range(15)] == alone
    assert epochs == [*range(6)]
    assert loader.row_numbers(2) == alone[2]
