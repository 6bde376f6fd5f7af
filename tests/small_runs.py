"""A small text, a small model and a run of twelve steps, for every test that needs a run."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from groundup.base.fields import replace_settings
from groundup.data.store import TokenStore
from groundup.model.config import GPTConfig
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.special import END_OF_TEXT
from groundup.train.config import PretrainConfig
from groundup.train.step import Step

MODEL = GPTConfig(context_length=16, d_model=16, n_layers=2, n_heads=2, dropout=0.1)
ONE_LAYER = GPTConfig(context_length=16, d_model=16, n_layers=1, n_heads=2)
WORDS = "fox dog hill road moon well oak bird stone river night lamp king song fire".split()  # noqa: SIM905
TEXT = "the quick brown fox jumps over the lazy dog. " * 30


def prose(seed: int, n_words: int = 3000) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n_words))


def make_data(
    folder: Path, text: str = TEXT, validation: str = TEXT[:300], *, ended: bool = False
) -> Path:
    """Encode both texts by characters; with `ended` an end of text closes each."""
    return make_documents(folder, [text], [validation], ended=ended)


def make_documents(
    folder: Path,
    documents: Sequence[str],
    validation: Sequence[str],
    *,
    ended: bool = False,
    letters: str = "",
) -> Path:
    """Encode documents by characters; `letters` are part of the vocabulary, too."""
    tokenizer = CharacterTokenizer.from_text("".join([*documents, *validation, letters]))
    tokenizer.save(folder / "tokenizer")
    end = tokenizer.special_tokens[END_OF_TEXT] if ended else None
    for side, texts in (("train", documents), ("validation", validation)):
        TokenStore.build(
            folder / side,
            [tokenizer.encode(text) for text in texts],
            vocab_size=tokenizer.vocab_size,
            tokenizer_fingerprint=tokenizer.fingerprint,
            end_of_text=end,
        )
    return folder


def messages(seed: int, n: int = 60) -> list[str]:
    """Documents of 1 to 40 characters."""
    draw = random.Random(seed)
    return [prose(seed * 1000 + i, 20)[: draw.choice([1, 2, 5, 15, 16, 17, 40])] for i in range(n)]


def settings(data: Path, **changes) -> PretrainConfig:
    """Settings of a small run; `changes` by their flat names."""
    usual = {
        "data": data,
        "out": data.parent / "run",
        "model": MODEL,
        "steps": 12,
        "batch_size": 4,
        "validate_every": 4,
        "checkpoint_every": 5,
        "sample_every": 6,
        "sample_tokens": 5,
        "threads": 1,
    }
    return replace_settings(PretrainConfig(), **{**usual, **changes})


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "step-000012" / "model.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    left, right = final_weights(a), final_weights(b)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


class KilledError(Exception):
    pass


def kill_at(step: int) -> Callable[[Step], None]:
    def on_step(done: Step) -> None:
        if done.step == step:
            raise KilledError

    return on_step
