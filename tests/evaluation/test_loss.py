"""The loss on held-out text: every target once, whatever the batch, beside a plain count."""

import dataclasses
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from decoder_models import CONFIGS, lively
from small_runs import make_data, settings

import groundup
from groundup.base.errors import UserError
from groundup.data.store import TokenStore
from groundup.evaluation import loss as loss_module
from groundup.evaluation.load import load
from groundup.evaluation.loss import evaluate_loss, target_bytes
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.pretraining.pretrain import pretrain
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.words import WordTokenizer

TEXT = "the cat sat on the mat; the mat was flat. \u00e9t\u00e9 " * 3


@pytest.fixture
def tokenizer():
    return CharacterTokenizer.from_text(TEXT)


@pytest.fixture
def store(tmp_path, tokenizer):
    return TokenStore.build(
        tmp_path / "text",
        [tokenizer.encode(TEXT)],
        vocab_size=tokenizer.vocab_size,
        tokenizer_fingerprint=tokenizer.fingerprint,
        end_of_text=None,
    )


@pytest.fixture
def model(tokenizer):
    config = GPTConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=7,  # does not divide the text: the last window overlaps
        d_model=16,
        n_layers=1,
        n_heads=2,
        init="gpt2",
    )
    return GPT(config, seed=3)


def by_hand(model: GPT, ids: list[int]) -> list[float]:
    """The nats of each target, one window after the other; the last one lies at the very end."""
    nats: list[float] = []
    T = model.config.context_length
    while (n_left := len(ids) - 1 - len(nats)) > 0:
        start = min(len(nats), len(ids) - 1 - T)
        targets = torch.tensor(ids[start + 1 : start + 1 + T])
        with torch.no_grad():
            logits = model(torch.tensor([ids[start : start + T]]))[0]
        nats += F.cross_entropy(logits, targets, reduction="none").tolist()[-min(T, n_left) :]
    return nats


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_every_target_counts_once_whatever_the_batch(store, tokenizer, model, batch_size):
    nats = by_hand(model, tokenizer.encode(TEXT))
    assert len(nats) % 7 != 0
    loss = evaluate_loss(model, store, batch_size=batch_size, tokenizer=tokenizer)
    assert loss.n_targets == len(nats) == store.n_tokens - 1
    assert loss.nats == pytest.approx(np.mean(nats), rel=1e-6)
    assert loss.n_bytes == len(TEXT.encode()) - len(TEXT[0].encode())
    assert loss.bits_per_byte == pytest.approx(sum(nats) / math.log(2) / loss.n_bytes, rel=1e-6)


def test_shared_among_processes_it_is_the_same(store, tokenizer, model):
    whole = evaluate_loss(model, store, tokenizer=tokenizer)
    sums = [[0.0, 0.0, 0.0] for _ in range(3)]
    for rank in range(3):

        def keep(*values, rank=rank):
            sums[rank] = list(values)
            return [1.0, 1.0, 1.0]

        evaluate_loss(
            model, store, tokenizer=tokenizer, batch_size=2, rank=rank, world_size=3, add_up=keep
        )
    nats, n_targets, n_bytes = map(sum, zip(*sums, strict=True))
    assert n_targets == whole.n_targets
    assert n_bytes == whole.n_bytes
    assert nats / n_targets == pytest.approx(whole.nats, rel=1e-6)


def test_evaluate_takes_a_shorter_context(tmp_path: Path) -> None:
    data, run = make_data(tmp_path / "data"), tmp_path / "run"
    pretrain(settings(data))
    T = load(run).model.config.context_length
    assert groundup.evaluate(run=run, context_length=T) == groundup.evaluate(run=run)
    assert groundup.evaluate(run=run, context_length=2).nats != groundup.evaluate(run=run).nats
    with pytest.raises(UserError, match=f"the model has a context of {T} tokens"):
        groundup.evaluate(run=run, context_length=T + 1)


def test_unknown_words_are_counted_in_a_warning(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("the cat sat on the mat. " * 200)
    data = tmp_path / "data"
    groundup.prepare(str(tmp_path / "a.txt"), out=data)
    WordTokenizer.from_text("the cat sat on").save(data / "tokenizer")
    groundup.encode(data, tokenizer=data / "tokenizer")
    run = pretrain(settings(data, steps=1, sample_every=None)).run
    groundup.evaluate(run)
    assert re.search("2[89]% of the validation tokens are unknown words", caplog.text)


def test_both_losses_of_evaluate_have_the_same_windows(tmp_path: Path) -> None:
    data, run = make_data(tmp_path / "data"), tmp_path / "run"
    pretrain(settings(data))
    shutil.rmtree(data / "train")
    shutil.copytree(data / "validation", data / "train")
    result = groundup.evaluate(run=run, data=data, stride=3)
    assert result.train_nats == pytest.approx(result.nats)


@pytest.mark.parametrize("documents", ["stream", "isolated"])
@pytest.mark.parametrize("skip", [0, 1])
def test_targets_are_decoded_in_blocks(store, tokenizer, monkeypatch, documents, skip):
    whole = b"".join(target_bytes(store, tokenizer, skip=skip, documents=documents))
    monkeypatch.setattr(loss_module, "_BLOCK_TOKENS", 7)
    blocks = list(target_bytes(store, tokenizer, skip=skip, documents=documents))
    assert b"".join(blocks) == whole
    assert len(blocks) > 3


@pytest.mark.parametrize("name", ["gpt2", "windows and all", "delta rule"])
def test_long_windows_are_computed_in_segments(store, monkeypatch, name):
    model = lively(dataclasses.replace(CONFIGS[name], vocab_size=100, context_length=48))
    whole = evaluate_loss(model, store, batch_size=2)
    monkeypatch.setattr(loss_module, "_LONG", 48)
    monkeypatch.setattr(loss_module, "_AT_ONCE", 20)
    monkeypatch.setattr(loss_module, "_LEAST_SEGMENT", 10)
    monkeypatch.setattr(GPT, "loss", None)
    assert evaluate_loss(model, store, batch_size=2).nats == pytest.approx(whole.nats, abs=1e-6)
