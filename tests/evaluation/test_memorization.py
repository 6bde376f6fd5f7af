"""A model that was trained on a text until it knows it recites it; another one does not."""

import math
import random

import pytest
import torch
from small_runs import make_data, settings

import groundup
from groundup.base.errors import UsageError
from groundup.evaluation import memorization
from groundup.evaluation.load import load
from groundup.evaluation.memorization import canary_exposure
from groundup.evaluation.tasks.prompts import encode_pairs
from groundup.generation.decoder import Decoder
from groundup.generation.scoring import Likelihood
from groundup.model.config import GPTConfig
from groundup.pretraining.pretrain import pretrain

CANARY = "the code is 4711. "


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model that has seen one number only, and the same sentences again and again."""
    folder = tmp_path_factory.mktemp("memorization")
    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    sentence = "".join(draw.choice(letters) for _ in range(60))
    other = "".join(draw.choice(letters) for _ in range(400))
    data = make_data(folder / "data", (sentence + CANARY) * 60, other + "0123456789" + CANARY)
    model = GPTConfig(context_length=32, d_model=32, n_layers=2, n_heads=2)
    pretrain(
        settings(data, out=folder / "run", model=model, steps=150, batch_size=8, sample_every=None)
    )
    return folder / "run" / "checkpoints" / "step-000150"  # the best one has not seen it often


def test_a_model_recites_what_it_was_trained_on(run):
    found = groundup.measure_memorization(run, recitations=30, device="cpu")
    assert found.n_tokens == 16
    assert found.train.n == found.validation.n == 30
    assert found.train.low > 0.7
    assert found.validation.high < 0.5
    assert found.exposures == ()


def test_the_exposure_is_the_rank_among_other_numbers(run):
    model = load(run)
    decoder = Decoder(model.model, measure=False)
    known = canary_exposure(model, decoder, CANARY.strip(), n_others=200)
    assert (known.rank, known.n_others) == (1, 200)
    assert known.bits == pytest.approx(math.log2(201))
    unknown = canary_exposure(model, decoder, "the code is 8396.", n_others=200)
    assert unknown.rank > 5
    # Against the whole forward pass.
    start, *ends = encode_pairs(
        model.tokenizer, "the code is ", [f"{number:03}." for number in range(1000)]
    )
    with torch.inference_mode():
        logits = model.model(torch.tensor([start + end for end in ends])).log_softmax(-1)
    targets = torch.tensor(ends)
    nats = logits[:, len(start) - 1 : -1].gather(2, targets[..., None]).sum((1, 2))
    every = canary_exposure(model, decoder, "the code is 471.", n_others=5000)
    assert every.n_others == 999
    assert every.rank == 1 + int((nats > nats[471]).sum())


def test_equal_likelihoods_are_no_memory(run, monkeypatch):
    equal = Likelihood(nats=-2.0, n_tokens=3, is_greedy=False)
    monkeypatch.setattr(
        memorization, "score",
        lambda _, prompts: [(i, [equal] * len(p.continuations)) for i, p in enumerate(prompts)],
    )  # fmt: skip
    model = load(run)
    decoder = Decoder(model.model, measure=False)
    found = canary_exposure(model, decoder, CANARY, n_others=100)
    assert (found.rank, found.bits) == (101, 0.0)


def test_passages_are_continued_some_at_a_time(run, monkeypatch):
    whole = groundup.measure_memorization(run, recitations=40, device="cpu")
    sizes = []
    real = memorization.generate
    monkeypatch.setattr(memorization, "_AT_ONCE", 16)
    monkeypatch.setattr(
        memorization, "generate",
        lambda decoder, prompts, *more, **options: sizes.append(len(prompts))
        or real(decoder, prompts, *more, **options),
    )  # fmt: skip
    assert groundup.measure_memorization(run, recitations=40, device="cpu") == whole
    assert sizes == [16, 16, 8] * 2


def test_bad_input(run):
    with pytest.raises(UsageError, match=r"has 2 digits\. A text with a secret number"):
        groundup.measure_memorization(run, canary="The code is 42")
    with pytest.raises(UsageError, match="There are 29 passages, which are too few"):
        groundup.measure_memorization(run, recitations=29)
    with pytest.raises(groundup.UserError, match="too few for 5000 different passages"):
        groundup.measure_memorization(run, recitations=5000, device="cpu")
