"""The loss by context and by repetition, against the plain forward pass and a model that copies."""

import json
import random

import numpy as np
import pytest
import torch
from decoder_models import CONFIGS, lively, text
from reading_models import Copier
from small_runs import make_data, settings

import groundup
from groundup.base.errors import UsageError, UserError
from groundup.cli.main import main
from groundup.data.protocol import ArrayTokens
from groundup.evaluation.context import ContextLoss, ContextUse, _stretches, context_losses
from groundup.evaluation.copying import copy_losses
from groundup.evaluation.paired import Difference
from groundup.evaluation.reading import let_read, read_to_the_end
from groundup.generation.decoder import Decoder
from groundup.model.config import GPTConfig
from groundup.pretraining.pretrain import pretrain


@pytest.mark.parametrize("name", ["ours", "gpt2", "window", "windows and all", "delta rule"])
def test_the_last_tokens_are_predicted_from_all_before_them(name):
    model = lively(CONFIGS[name])
    n = 40
    if name != "gpt2":  # longer than the context of the config, which is 48
        n = 600
        let_read(model, n, setting="context_length")
    ids = text(n)
    found = read_to_the_end(Decoder(model, measure=False), ids, 7)
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]]))[0, -7:].log_softmax(-1)
    wanted = -logits[torch.arange(7), torch.tensor(ids[-7:])]
    assert found.nats == pytest.approx(wanted.numpy(), abs=1e-5)
    assert found.is_best.tolist() == (logits.argmax(-1) == torch.tensor(ids[-7:])).tolist()


@torch.no_grad()
def test_each_target_has_the_tokens_of_its_context():
    model, ids = lively(CONFIGS["ours"]), text(400)
    losses = context_losses(Decoder(model, measure=False), ArrayTokens(np.array(ids)), 48, 128)
    assert [each.n_context for each in losses] == [16, 32, 48]
    for each in losses:
        # Two stretches of 64 targets, each in parts of which all have nearly the context.
        step = {16: 4, 32: 8, 48: 8}[each.n_context]
        nats = []
        for start in (48, 400 - 64):
            for first in range(start, start + 64, step):
                stop = min(first + step, start + 64)
                part = torch.tensor([ids[stop - 1 - each.n_context : stop]])
                logits = model(part[:, :-1])[0, first - stop :].log_softmax(-1)
                nats += (-logits.gather(1, part[0, first - stop :, None])[:, 0]).tolist()
                assert 3 / 4 <= (part.shape[1] - (stop - first)) / each.n_context <= 1
        assert len(nats) == 128
        assert each.nats == pytest.approx(np.mean(nats), abs=1e-5)
        assert each.excess.mean == pytest.approx(each.nats - losses[-1].nats, abs=1e-6)
    assert losses[-1].excess == Difference(mean=0.0, low=0.0, high=0.0, n=2)


@torch.no_grad()
def test_a_context_does_not_cross_the_start_of_a_document():
    model, ids = lively(CONFIGS["ours"]), text(200)
    starts = [0, 70, 75, 150, 199]
    tokens = ArrayTokens(np.array(ids), document_starts=starts)
    losses = context_losses(Decoder(model, measure=False), tokens, 48, 128, "isolated")
    assert {each.n_targets for each in losses} == {124}
    blocks = []
    for first in (48, 136):
        nats = []
        for stop in range(first + 8, first + 65, 8):
            for target in range(stop - 8, stop):
                begin = max(each for each in starts if each <= target)
                end = min([stop, *(each for each in starts if each > target)])
                if target > begin:
                    read = torch.tensor([ids[max(begin, end - 1 - 48) : target]])
                    logits = model(read)[0, -1].log_softmax(-1)
                    nats.append(-float(logits[ids[target]]))
        blocks.append(np.mean(nats))
    assert losses[-1].nats == pytest.approx(np.mean(blocks), abs=1e-5)


def test_a_model_that_sees_64_tokens_back_copies_no_further():
    draw = random.Random(1)
    ids = ArrayTokens(np.array([draw.randrange(500) for _ in range(3000)]))
    near, far = copy_losses(Copier(500, reach=65), ids, 256)
    assert (near.distance, far.distance) == (64, 128)
    assert near.gain.low > 3
    assert not far.gain.is_clear
    everything = copy_losses(Copier(500, reach=10_000), ids, 256)[1]
    assert everything.gain.low > 3


def _use(*excess: tuple[float, float], copies=()) -> ContextUse:
    rows = [
        ContextLoss(
            n_context=256 << i,
            nats=2 + (low + high) / 2,
            n_targets=4096,
            excess=Difference(mean=(low + high) / 2, low=low, high=high, n=64),
        )
        for i, (low, high) in enumerate([*excess, (0.0, 0.0)])
    ]
    return ContextUse(
        checkpoint="",
        data="",
        documents="stream",
        losses=tuple(rows),
        copies=copies,
    )


@pytest.mark.parametrize("longest", [256, 24_000, 31_000, 10**6])
def test_a_text_has_as_many_targets_as_are_asked_for(longest):
    found = _stretches(2 * 10**6, longest, 4096)
    assert sum(size for _, size in found) == 4096
    assert max(start + size for start, size in found) <= 2 * 10**6
    assert found[0][0] == longest


def test_the_effective_window_is_where_no_longer_context_is_clearly_better():
    use = _use((0.10, 0.12), (0.01, 0.03), (-0.001, 0.002))
    assert use.effective_window == 1024
    assert use.verdict == (
        "Context beyond 1,024 tokens brings nothing: from 1,024 to 2,048 tokens the loss changes "
        "by -0.0005 nats/token (95 % interval -0.0020 to +0.0010)."
    )
    # 512 is not clearly worse than the longest, but 1,024 is: the window is not 512.
    assert _use((0.10, 0.12), (-0.01, 0.03), (0.001, 0.002)).effective_window == 2048
    more = _use((0.10, 0.12), (0.02, 0.03))
    assert more.verdict == (
        "More context still helps at T = 1,024: from 512 to 1,024 tokens the loss changes by "
        "-0.0250 nats/token (95 % interval -0.0300 to -0.0200)."
    )
    assert more.harmed_beyond is None
    assert _use((-0.03, -0.02), (-0.01, 0.01)).harmed_beyond == 256


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("context")
    letters = random.Random(3).choices("abcdefgh ", k=6000)
    data = make_data(folder / "data", "".join(letters), "".join(letters[:4000]))
    model = GPTConfig(context_length=64, d_model=8, n_layers=1, n_heads=1, positions="learned")
    pretrain(settings(data, out=folder / "run", model=model, steps=2, sample_every=None))
    return folder / "run"


def test_the_command_and_its_record(run, capsys):
    assert main(["evaluate", str(run), "--context", "--device", "cpu"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Loss of the same 1,984 tokens of the validation set" in shown
    record = json.loads((run / "evaluation" / "context.json").read_text())
    assert record["verdict"] in shown
    assert record["effective_window"] in (32, 64)
    assert [each["n_context"] for each in record["losses"]] == [32, 64]


def test_bad_input(run, tmp_path):
    with pytest.raises(UserError, match=r"cannot read a longer text") as error:
        groundup.measure_context(run, context_length=128, device="cpu")
    assert error.value.settings == {"context_length": 64}
    with pytest.raises(
        UserError, match=r"has 4,000 tokens\. With 1,984 of them as targets"
    ) as error:
        groundup.measure_context(run, context_length=3000, device="cpu")
    assert error.value.settings == {"context_length": 2016}
    for wrong, message in (
        ({"context_length": 0}, "context_length is 0"),
        ({"needle": -1}, "needle is -1"),
    ):
        with pytest.raises(UserError, match=message):
            groundup.measure_context(run, context=True, **wrong)
    with pytest.raises(UsageError, match="The use of the context is to be measured, and retrieval"):
        groundup.EvaluateConfig(run=run, context=True, needle=100)
    short = make_data(tmp_path / "short", "abcdefgh " * 300, "abcdefgh " * 30)
    with pytest.raises(UserError, match=r"has 270 tokens\. At least 3,840 are expected"):
        groundup.measure_context(run, data=short, device="cpu")
    (tmp_path / "half").mkdir()
    (short / "train").rename(tmp_path / "half" / "train")
    with pytest.raises(UserError, match="There is no validation store"):
        groundup.measure_context(run, data=tmp_path / "half", device="cpu")
