"""`load` gives an object that answers questions, and says in a sentence what it cannot read."""

import errno
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import groundup
from groundup.base.errors import UserError
from groundup.evaluation.load import load
from groundup.finetune.classify.classifier import load_classifier
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.train_bpe import train_bpe
from groundup.weights.checkpoint_format import save_model

OLD = Path(__file__).parents[1] / "fixtures" / "run-0.1.0"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(OLD / "run", tmp_path / "run")
    return tmp_path / "run"


def test_a_string_is_enough_and_the_object_answers(run: Path) -> None:
    model = groundup.load(str(run))
    text = model.generate("The ferry", 12)
    assert isinstance(text, str)
    assert text == model.generate("The ferry", max_new_tokens=12, temperature=0.8, seed=0)
    assert text != model.generate("The ferry", 12, seed=1)
    assert model.generate("The", 0) == ""
    assert isinstance(model.generate(max_new_tokens=3), str), "without a prompt a text begins"
    name = repr(model)
    n = sum(p.numel() for p in model.model.parameters())
    vocabulary = model.tokenizer.vocab_size
    step = int(model.path.name.removeprefix("step-"))
    assert name == (
        f"LanguageModel({run}, step {step}, {n:,} parameters, vocabulary {vocabulary:,})"
    )


def test_the_loss_is_the_mean_of_minus_log_probability(run: Path) -> None:
    model = load(run)
    text = "The ferry left the harbor. " * 20  # longer than the context
    ids = model.tokenizer.encode(text)[: model.model.config.context_length + 1]
    short = model.tokenizer.decode(ids)
    logits = model.model(torch.tensor([ids[:-1]])).double().log_softmax(dim=-1)[0]
    expected = -sum(float(logits[i, ids[i + 1]]) for i in range(len(ids) - 1)) / (len(ids) - 1)
    assert model.loss(short) == pytest.approx(expected, rel=1e-5)
    assert 0 < model.loss(text) < 2 * math.log(model.tokenizer.vocab_size)
    with pytest.raises(UserError, match="token"):
        model.loss("")


def test_without_any_special_token_a_prompt_is_required(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer.from_text("abc ", special_tokens=())
    config = GPTConfig(vocab_size=4, context_length=8, d_model=16, n_layers=1, n_heads=2)
    save_model(GPT(config), tmp_path)
    tokenizer.save(tmp_path / "tokenizer")
    model = load(tmp_path)
    assert len(model.generate("ab", 5)) == 5
    with pytest.raises(UserError, match="The text is empty"):
        model.generate("")


def test_the_tokenizer_beside_the_weights_is_taken(run: Path) -> None:
    """An assistant inside a run, also if nothing else of its folder could be written."""
    tokenizer = train_bpe(["abc abc"], 300)
    config = GPTConfig(vocab_size=300, context_length=8, d_model=16, n_layers=1, n_heads=2)
    save_model(GPT(config), run / "assistant")
    tokenizer.save(run / "assistant" / "tokenizer")
    assert load(run / "assistant").tokenizer.fingerprint == tokenizer.fingerprint
    assert load(run).tokenizer.fingerprint != tokenizer.fingerprint


def test_fewer_rows_than_tokens_are_refused(tmp_path: Path) -> None:
    config = GPTConfig(vocab_size=9, context_length=8, d_model=16, n_layers=1, n_heads=2)
    save_model(GPT(config), tmp_path)
    train_bpe(["abc"], 290).save(tmp_path / "tokenizer")
    with pytest.raises(UserError, match="embeddings for 9 of them"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "tokenizer.json"])
def test_files_that_may_not_be_read_are_named(
    run: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root every file may be read, so the refusal is made here."""
    import builtins
    import io

    original, tested = builtins.open, io.open

    def refuse(file: object, *args: object, **kwargs: object) -> object:
        if str(file).endswith(name):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return original(file, *args, **kwargs)  # type: ignore[call-overload]

    assert original is tested
    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    with pytest.raises(UserError, match="Permission denied") as caught:
        load(run)
    assert name in str(caught.value)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    from groundup.finetune.classify.classifier import LoadedClassifier, save_classifier
    from groundup.finetune.classify.heads import Classifier

    config = GPTConfig(vocab_size=11, context_length=8, d_model=16, n_layers=1, n_heads=2)
    tokenizer = CharacterTokenizer.from_text("abcdefg")
    save_classifier(LoadedClassifier(Classifier(GPT(config), ["x", "y"]), tokenizer), tmp_path)
    return tmp_path


def change(file: str, **changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        about = json.loads((folder / file).read_text()) | changes
        about = {name: value for name, value in about.items() if value is not None}
        (folder / file).write_text(json.dumps(about))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "labels.json").write_text("[]"),
        lambda folder: (folder / "labels.json").write_text("{"),
        lambda folder: (folder / "head.safetensors").unlink(),
        change("labels.json", names=None),
        change("labels.json", names=["x"]),
        change("labels.json", names=[1, 2]),
        change("labels.json", pooling="max"),
        change("labels.json", max_tokens="many"),
        lambda folder: shutil.rmtree(folder / "tokenizer"),
        change("model.json", config={"d_model": 8}),
    ],
)
def test_a_damaged_classifier_is_named(classifier: Path, damage: Callable[[Path], None]) -> None:
    assert load_classifier(str(classifier)).names == ("x", "y")
    damage(classifier)
    with pytest.raises(UserError) as caught:
        load_classifier(str(classifier))
    assert str(classifier) in str(caught.value)
