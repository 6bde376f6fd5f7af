"""The classifier: padding changes nothing, the loss is the textbook one, files come back."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from groundup.base.errors import UserError
from groundup.base.targets import IGNORE_INDEX
from groundup.finetune.batches import label_row, pad_rows
from groundup.finetune.classify.classifier import (
    LoadedClassifier,
    find_classifier,
    load_classifier,
    save_classifier,
)
from groundup.finetune.classify.heads import Classifier, Pooling
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.weights.checkpoint_format import save_model

TEXTS = ["abba", "a", "cabbage bag", "dad fed a bee", "egg"]
TOKENIZER = CharacterTokenizer.from_text("abcdefg ")


def make(pooling: Pooling) -> LoadedClassifier:
    config = GPTConfig(
        vocab_size=TOKENIZER.vocab_size, context_length=16, d_model=16, n_layers=2, n_heads=2
    )
    gpt = GPT(config, seed=1)
    generator = torch.Generator().manual_seed(5)
    classifier = Classifier(gpt, ["x", "y", "z"], pooling=pooling)
    with torch.no_grad():  # the blocks and the head start at zero; give every part a say
        for parameter in classifier.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return LoadedClassifier(classifier, TOKENIZER)


@pytest.mark.parametrize("pooling", ["mean", "last", "mean+last"])
def test_the_other_texts_change_nothing(pooling: Pooling) -> None:
    loaded = make(pooling)
    alone = torch.cat([loaded.probabilities([text]) for text in TEXTS])
    assert torch.equal(loaded.probabilities(TEXTS), alone)
    assert torch.equal(loaded.probabilities(TEXTS[::-1] * 70)[:5].flip(0), alone)
    assert alone.std(dim=0).min() > 1e-3  # the texts do get different answers


@pytest.mark.parametrize("pooling", ["mean", "last", "mean+last"])
def test_what_stands_in_the_padding_changes_nothing(pooling: Pooling) -> None:
    classifier = make(pooling).classifier
    ids = TOKENIZER.encode("abba")
    lengths = torch.tensor([4])
    scores = [classifier(torch.tensor([[*ids, *[pad] * 5]]), lengths).detach() for pad in (0, 3, 6)]
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2])


def test_pooling_by_hand() -> None:
    pooling: Pooling
    for pooling in ("mean", "last", "mean+last"):
        classifier = make(pooling).classifier
        ids = torch.tensor([TOKENIZER.encode("bag")])
        hidden = classifier.gpt.hidden(ids)[0]
        parts = {"mean": hidden.mean(dim=0), "last": hidden[2]}
        pooled = torch.cat([parts[name] for name in pooling.split("+")])
        expected = pooled @ classifier.head.weight.T + classifier.head.bias
        padded = torch.cat([ids, torch.zeros(1, 4, dtype=torch.int64)], dim=1)
        torch.testing.assert_close(classifier(padded, torch.tensor([3]))[0], expected)


def test_the_loss_is_the_mean_of_minus_log_probability() -> None:
    loaded = make("mean")
    rows = [label_row(TOKENIZER.encode(t), k) for t, k in zip(TEXTS, [0, 1, 2, 1, 0], strict=True)]
    ids = pad_rows([row[0] for row in rows], pad=0)
    targets = pad_rows([row[1] for row in rows], pad=IGNORE_INDEX)
    p = loaded.probabilities(TEXTS)
    expected = -sum(math.log(float(p[i, k])) for i, k in enumerate([0, 1, 2, 1, 0])) / 5
    assert float(loaded.classifier.loss(ids, targets)) == pytest.approx(expected, rel=1e-5)
    targets[0, 0] = 1
    with pytest.raises(ValueError, match="exactly one label"):
        loaded.classifier.loss(ids, targets)


def test_the_first_loss_is_the_uniform_guess() -> None:
    config = GPTConfig(vocab_size=12, context_length=8, d_model=8, n_layers=1, n_heads=1)
    classifier = Classifier(GPT(config), ["a", "b", "c", "d"])
    loss = classifier.loss(torch.tensor([[1, 2]]), torch.tensor([[IGNORE_INDEX, 3]]))
    assert float(loss) == pytest.approx(math.log(4))


def test_saved_and_loaded_it_answers_the_same(tmp_path: Path) -> None:
    loaded = make("last")
    save_classifier(loaded, tmp_path / "run" / "classifier")
    again = load_classifier(tmp_path / "run")
    assert again.names == ("x", "y", "z")
    assert again.classifier.pooling == "last"
    assert torch.equal(again.probabilities(TEXTS), loaded.probabilities(TEXTS))
    assert load_classifier(tmp_path / "run" / "classifier").names == again.names
    best = loaded.probabilities(TEXTS).argmax(dim=1)
    assert again.predict(TEXTS) == [loaded.names[int(k)] for k in best]
    assert again.predict([]) == []


def test_a_classifier_of_version_01_still_loads(tmp_path: Path) -> None:
    loaded = make("mean")
    save_classifier(loaded, tmp_path / "classifier")
    file = tmp_path / "classifier" / "labels.json"
    labels = json.loads(file.read_text())
    for name in ("dtype", "head_dtype"):
        del labels[name]
    file.write_text(json.dumps(labels))
    again = load_classifier(tmp_path)
    assert torch.equal(again.probabilities(TEXTS), loaded.probabilities(TEXTS))


def test_the_newest_complete_classifier_of_a_run_is_found(tmp_path: Path) -> None:
    for name in ("classifier", "classifier-2", "classifier-10"):
        save_classifier(make("mean"), tmp_path / name)
    (tmp_path / "classifier-11").mkdir()
    assert find_classifier(tmp_path) == tmp_path / "classifier-10"


def test_weights_that_were_not_trained_take_no_space_and_survive_a_move(tmp_path: Path) -> None:
    loaded = make("last")
    base = tmp_path / "run" / "checkpoints" / "step-000001"
    save_model(loaded.classifier.gpt, base)
    folder = tmp_path / "run" / "classifier"
    save_classifier(loaded, folder, base=base)
    assert (folder / "model.safetensors").stat().st_nlink == 2
    (folder).rename(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "run")
    again = load_classifier(tmp_path / "elsewhere")
    assert torch.equal(again.probabilities(TEXTS), loaded.probabilities(TEXTS))


def test_where_links_are_not_possible_the_weights_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links")

    loaded = make("last")
    save_model(loaded.classifier.gpt, tmp_path / "base")
    monkeypatch.setattr("os.link", refuse)
    save_classifier(loaded, tmp_path / "classifier", base=tmp_path / "base")
    assert (tmp_path / "classifier" / "model.safetensors").stat().st_nlink == 1
    assert load_classifier(tmp_path).names == loaded.names


def test_a_temperature_divides_the_logits() -> None:
    loaded = make("mean")
    before = loaded.probabilities(TEXTS)
    loaded.cool(2.0)
    torch.testing.assert_close(loaded.probabilities(TEXTS), before.log().div(2).softmax(dim=1))


def test_a_damaged_or_absent_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="groundup classify"):
        load_classifier(tmp_path)
    save_classifier(make("mean"), tmp_path / "classifier")
    head = tmp_path / "classifier" / "head.safetensors"
    data = bytearray(head.read_bytes())
    data[-1] ^= 1
    head.write_bytes(data)
    with pytest.raises(UserError, match="checksum"):
        load_classifier(tmp_path)


def test_an_empty_text_is_an_error_and_a_long_one_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    loaded = make("mean")
    with pytest.raises(UserError, match="Text 2 is empty"):
        loaded.predict(["a", ""])
    long = "abcdefg " * 10
    torch.testing.assert_close(loaded.probabilities([long]), loaded.probabilities([long[:16]]))
    loaded.predict(["a", long[:16], long])
    assert "1 of 3 texts are longer than 16 tokens and are cut" in caplog.text
