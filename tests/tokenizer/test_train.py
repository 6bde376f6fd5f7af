"""`train-tokenizer`: what it saves, and how the tokenizer types compare."""

from pathlib import Path

import pytest
from small_corpus import write_corpus

from groundup.text.documents import Document
from groundup.tokenizer.config import TrainTokenizerConfig
from groundup.tokenizer.files import load_tokenizer
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
