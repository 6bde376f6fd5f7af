"""`train-tokenizer`: what it saves, and how the tokenizer types compare."""

from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest
from small_corpus import write_corpus

from groundup.base.errors import UserError
from groundup.text.corpus import CorpusWriter
from groundup.text.documents import Document
from groundup.text.pieces import cut_into_pieces
from groundup.text.split import Side
from groundup.tokenizer import train
from groundup.tokenizer.config import TrainTokenizerConfig
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.round_trip import CANARY
from groundup.tokenizer.train import train_tokenizer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    train = [Document("a", "the cat sat on the mat and the dog sat on the cat " * 20)]
    write_corpus(tmp_path, train, [Document("b", "the cat sat on a zebra")])
    return tmp_path


def test_bpe_and_the_tokenizers_it_is_compared_with(data: Path) -> None:
    report = train_tokenizer(TrainTokenizerConfig(data=data, vocab_size=274))
    assert load_tokenizer(data / "tokenizer").vocab_size == report.vocab_size == 274
    characters, words, bpe = report.rungs
    assert characters.bytes_per_token == 1
    assert characters.unknown_frac == 3 / 22, "z, b and r are new"
    assert (words.bytes_per_token, words.unknown_frac) == (22 / 6, 2 / 6), "a and zebra are new"
    assert 1 < bpe.bytes_per_token < words.bytes_per_token
    assert "".join(str(token["text"]) for token in report.line_tokens) == report.line


def test_a_character_tokenizer_knows_the_validation_set(data: Path) -> None:
    report = train_tokenizer(TrainTokenizerConfig(data=data, kind="characters"))
    tokenizer = load_tokenizer(data / "tokenizer")
    assert tokenizer.decode(tokenizer.encode("a zebra")) == "a zebra"
    assert [compared.name for compared in report.rungs] == ["characters", "words"]
    assert report.first_merges == []


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("[", r"'\[' is not a regular expression: unterminated"),
        (r"\bcat", r"cannot be saved: other libraries read it otherwise from '\\\\bcat' on"),
        ("(?r)a", "searches backwards"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_before_training(
    data: Path, pattern: str, message: str
) -> None:
    with pytest.raises(UserError, match=rf"{message}.*Try: pattern='gpt4'"):
        train_tokenizer(TrainTokenizerConfig(data=data, pattern=pattern))
    assert not (data / "tokenizer").exists()


@pytest.mark.parametrize("pattern", ["gpt2", r"\w+", r"\d+", r"\p{N}{1,3}+", "^a|b$", ""])
def test_any_other_pattern_loses_nothing(data: Path, pattern: str) -> None:
    train_tokenizer(TrainTokenizerConfig(data=data, vocab_size=270, pattern=pattern))
    loaded = load_tokenizer(data / "tokenizer")
    assert loaded.decode(loaded.encode(CANARY)) == CANARY


def test_ties_are_passed_on(data: Path) -> None:
    merges = [
        train_tokenizer(
            TrainTokenizerConfig(data=data, vocab_size=275, ties=ties, overwrite=True)  # type: ignore[arg-type]
        ).first_merges
        for ties in ("lowest-id", "greatest-bytes")
    ]
    assert merges[0] != merges[1]


SIDES: dict[Side, list[str]] = {
    "train": [CANARY * 4, "the cat sat on the mat\n\n" * 9 + "\n"],
    "validation": ["\nthe dog sat\n\n" + CANARY, "\n\n a zebra\n"],
}


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_a_corpus_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Literal["bpe", "characters"]
) -> None:
    documents = [[Document(str(i), t) for i, t in enumerate(texts)] for texts in SIDES.values()]
    write_corpus(tmp_path / "whole", *documents)
    (tmp_path / "pieces" / "corpus").mkdir(parents=True)
    with closing(CorpusWriter(tmp_path / "pieces" / "corpus")) as writer:
        for side, texts in SIDES.items():
            for number, text in enumerate(texts):
                for piece in cut_into_pieces(str(number), [text], size=20):
                    writer.write(side, piece)
        writer.finish()
    monkeypatch.setattr(train, "read_corpus", pytest.fail)  # it joins the pieces of a document
    whole, pieces = (
        train_tokenizer(data=tmp_path / name, kind=kind, vocab_size=300)
        for name in ("whole", "pieces")
    )
    assert whole.rungs == pieces.rungs
    assert whole.first_merges == pieces.first_merges
    assert whole.line == pieces.line
    tokenizer = load_tokenizer(tmp_path / "pieces" / "tokenizer")
    assert tokenizer.fingerprint == load_tokenizer(tmp_path / "whole" / "tokenizer").fingerprint
    joined = "\n".join(SIDES["validation"])
    assert whole.rungs[0].bytes_per_token == len(joined.encode()) / len(joined)
    if kind == "bpe":
        assert whole.rungs[2].bytes_per_token == len(joined.encode()) / len(
            tokenizer.encode(joined)
        )


@pytest.mark.parametrize("size", [7, 10**6])
def test_the_comparison_reads_a_beginning_of_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    sides = [["a b a b ", "c a b b"], ["a b ", "c d e f g", "h"]]
    documents = [[Document(str(i), text) for i, text in enumerate(texts)] for texts in sides]
    write_corpus(tmp_path, *documents)
    monkeypatch.setattr(train, "_KNOWN_CHARACTERS", size)
    monkeypatch.setattr(train, "_MEASURED_CHARACTERS", size)
    known, measured = ("\n".join(texts)[:size] for texts in sides)
    characters, words, bpe = train_tokenizer(data=tmp_path, vocab_size=265).rungs
    assert characters.unknown_frac == sum(c not in known for c in measured) / len(measured)
    found = measured.split()
    assert words.vocab_size == len(set(known.split())) + 2
    assert words.unknown_frac == sum(word not in known for word in found) / len(found)
    n_tokens = len(load_tokenizer(tmp_path / "tokenizer").encode(measured))
    assert bpe.bytes_per_token == len(measured) / n_tokens
