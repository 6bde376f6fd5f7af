"""Reference log-probabilities: those of the base, stored, and never those of something else."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from groundup.alignment.prefer.batches import PairBatches, n_pairs, pair_batch
from groundup.alignment.prefer.losses import n_answer_tokens, pair_log_probabilities
from groundup.alignment.prefer.reference import (
    FILE,
    log_probabilities,
    reference_key,
    reference_log_probabilities,
)
from groundup.finetune.plan import count_tokens
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, lora_parameters
from groundup.model.lora_config import LoRAConfig
from groundup.train.precision import MixedPrecision

ROWS = [
    (([1, 2, 3, 4], [-100, -100, 4, 5]), ([1, 2, 3], [-100, -100, 6])),
    (([7, 8], [-100, 1]), ([7, 8, 2, 3, 9], [-100, 2, 3, 9, 5])),
    (([3], [4]), ([3, 3], [3, 1])),
]
KEY = reference_key("base", "template", torch.float32, ROWS)


@pytest.fixture
def model() -> GPT:
    config = GPTConfig(vocab_size=11, context_length=8, d_model=16, n_layers=2, n_heads=2)
    model = GPT(config, seed=3)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    add_lora(model, LoRAConfig(rank=2), seed=1)
    return model


def one_by_one(model: GPT) -> torch.Tensor:
    """The log-probabilities from the logits of each row alone."""
    found = torch.zeros(len(ROWS), 2)
    for i, pair in enumerate(ROWS):
        for side, (ids, targets) in enumerate(pair):
            logits = model(torch.tensor([ids]))[0].log_softmax(-1)
            found[i, side] = sum(logits[t, y] for t, y in enumerate(targets) if y >= 0)
    return found.detach()


def test_they_are_those_of_each_row_alone(model: GPT, tmp_path: Path) -> None:
    alone = one_by_one(model)
    for batch_size in (1, 2, 16):
        found = log_probabilities(model, ROWS, batch_size=batch_size)
        torch.testing.assert_close(found, alone)
    for parameter in lora_parameters(model).values():  # as after training
        parameter.data += 0.5
    assert not torch.allclose(log_probabilities(model, ROWS), alone)
    reference = reference_log_probabilities(model, ROWS, tmp_path, KEY)
    torch.testing.assert_close(reference.nats, alone)
    assert reference.cached_in is None


def test_they_are_read_again_and_only_if_everything_is_the_same(
    model: GPT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = reference_log_probabilities(model, ROWS, tmp_path, KEY)
    again = reference_log_probabilities(model, ROWS, tmp_path, KEY)
    assert again.cached_in == tmp_path / FILE
    torch.testing.assert_close(again.nats, first.nats, rtol=0, atol=0)
    other_rows = [*ROWS[:2], (ROWS[2][1], ROWS[2][0])]
    others: dict[str, dict[str, str]] = {
        "model": reference_key("another", "template", torch.float32, ROWS),
        "template": reference_key("base", "another", torch.float32, ROWS),
        "number format": reference_key("base", "template", torch.bfloat16, ROWS),
        "data": reference_key("base", "template", torch.float32, other_rows),
    }
    for name, key in others.items():
        caplog.clear()
        found = reference_log_probabilities(model, ROWS, tmp_path, key)
        assert found.cached_in is None, name
        assert f"are of another {name} and are not used" in caplog.text
        reference_log_probabilities(model, ROWS, tmp_path, KEY)


def test_an_interrupted_pass_goes_on_where_it_was(model: GPT, tmp_path: Path) -> None:
    whole = reference_log_probabilities(model, ROWS, tmp_path / "a", KEY, batch_size=1).nats
    done: list[int] = []

    def interrupt(n_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reference_log_probabilities(
            model, ROWS, tmp_path / "b", KEY, batch_size=1, on_pair=interrupt
        )
    for parameter in model.parameters():  # what is done is not computed again
        parameter.data *= 2.0
    found = reference_log_probabilities(
        model, ROWS, tmp_path / "b", KEY, batch_size=1, on_pair=done.append
    )
    assert (done, found.cached_in) == ([1, 2, 3], None)
    same = (found.nats == whole).all(dim=1)
    assert int(same.sum()) == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "shape"])
def test_a_damaged_file_is_not_used(
    model: GPT, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = reference_log_probabilities(model, ROWS, tmp_path, KEY)
    content = bytearray((tmp_path / FILE).read_bytes())
    if damage == "cut":
        content = content[:-3]
    elif damage == "flip":
        content[-1] ^= 1
    else:  # of another number of pairs
        reference_log_probabilities(model, ROWS[:2], tmp_path, KEY)
        content = bytearray((tmp_path / FILE).read_bytes())
    (tmp_path / FILE).write_bytes(bytes(content))
    caplog.set_level(logging.WARNING)
    found = reference_log_probabilities(model, ROWS, tmp_path, KEY)
    assert found.cached_in is None
    assert "not used" in caplog.text
    torch.testing.assert_close(found.nats, first.nats)


def test_another_run_folder_may_have_them(model: GPT, tmp_path: Path) -> None:
    old, new = tmp_path / "preferred", tmp_path / "preferred-2"
    for folder in (old, new):
        folder.mkdir()
    reference_log_probabilities(model, ROWS, old, KEY)
    found = reference_log_probabilities(model, ROWS, new, KEY, also_in=[old, new])
    assert found.cached_in == old / FILE
    (old / FILE).unlink()
    assert reference_log_probabilities(model, ROWS, new, KEY).cached_in == new / FILE


def test_a_batch_holds_complete_pairs_and_their_references() -> None:
    reference = torch.arange(6.0).view(3, 2)
    batches = PairBatches(ROWS, reference, 2, seed=1)
    seen = []
    for k in range(3):  # two epochs
        ids, targets, nats = batches.batch(k)
        assert n_pairs((ids, targets, nats)) == 2
        for i in range(2):
            number = int(nats[i, 0]) // 2
            seen.append(number)
            for side, (row, row_targets) in enumerate(ROWS[number]):
                assert ids[i, side, : len(row)].tolist() == row
                assert targets[i, side, : len(row)].tolist() == row_targets
                assert set(targets[i, side, len(row) :].tolist()) <= {-100}
    assert sorted(seen[:3]) == sorted(seen[3:]) == [0, 1, 2]


def test_the_plan_counts_the_tokens_of_both_answers_without_padding() -> None:
    assert count_tokens(pair_batch(ROWS)) == 4 + 3 + 2 + 5 + 1 + 2


def test_gradients_do_not_depend_on_how_a_batch_is_split(model: GPT) -> None:
    ids, targets = pair_batch(ROWS)
    model.double()

    def gradients(n_parts: int) -> Any:
        model.zero_grad()
        parts = zip(ids.chunk(n_parts), targets.chunk(n_parts), strict=True)
        for some_ids, some_targets in parts:
            nats = pair_log_probabilities(model, some_ids, some_targets)
            (-F.logsigmoid(nats[:, 0] - nats[:, 1]).sum() / len(ROWS)).backward()
        return [p.grad.clone() for p in lora_parameters(model).values() if p.grad is not None]

    for whole, split in zip(gradients(1), gradients(3), strict=True):
        torch.testing.assert_close(whole, split, rtol=1e-9, atol=1e-12)
    assert n_answer_tokens(targets).tolist() == [[2, 1], [1, 4], [1, 2]]


def test_mixed_precision_computes_nearly_the_same(model: GPT) -> None:
    exact = log_probabilities(model, ROWS)
    rounded = log_probabilities(MixedPrecision(model, torch.bfloat16), ROWS)
    assert 0 < float((exact - rounded).abs().max()) < 0.3
