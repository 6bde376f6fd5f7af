"""`encode`, and the steps before it one by one: the same stores as in one call."""

import json
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.data.config import EncodeConfig, PrepareAndEncodeConfig, TrainAndEncodeConfig
from groundup.data.encode import _needs_complete_documents, encode
from groundup.data.pipeline import prepare_and_encode, train_and_encode
from groundup.data.store import TokenStore
from groundup.text.config import PrepareConfig
from groundup.text.corpus import read_corpus
from groundup.text.pieces import safe_cut
from groundup.text.prepare import prepare
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.config import TrainTokenizerConfig
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.train import train_tokenizer
from groundup.tokenizer.words import WordTokenizer


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {i} " * 9}) + "\n" for i in range(200)))
    return str(path)


def stores(data: Path) -> list[list[int]]:
    opened = [TokenStore.open(data / side) for side in ("train", "validation")]
    return [store.read(0, store.n_tokens).tolist() for store in opened]


def test_one_step_after_another_or_all_in_one_call(source: str, tmp_path: Path) -> None:
    steps, together = tmp_path / "steps", tmp_path / "together"
    prepare(PrepareConfig(sources=(source,), out=steps))
    train_tokenizer(TrainTokenizerConfig(data=steps, vocab_size=280))
    assert not (steps / "train").exists(), "training a tokenizer does not encode"
    result = encode(EncodeConfig(data=steps))
    prepare(PrepareConfig(sources=(source,), out=together))
    assert train_and_encode(TrainAndEncodeConfig(data=together, vocab_size=280)).n_tokens == (
        result.n_tokens
    )
    assert stores(steps) == stores(together)
    again = prepare_and_encode(
        PrepareAndEncodeConfig(
            sources=(source,), out=tmp_path / "again", tokenizer=steps / "tokenizer"
        )
    )
    assert again.n_tokens == result.n_tokens
    assert stores(tmp_path / "again") == stores(steps)


def test_the_result_counts_what_is_in_the_stores(source: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(PrepareConfig(sources=(source,), out=data))
    train_tokenizer(TrainTokenizerConfig(data=data, vocab_size=280))
    seen: list[tuple[int, int]] = []
    result = encode(EncodeConfig(data=data), lambda done, total: seen.append((done, total)))
    documents = list(read_corpus(data, "train"))
    tokenizer = load_tokenizer(data / "tokenizer")
    n_tokens = sum(len(tokenizer.encode(d.text)) + 1 for d in documents)
    assert (result.train.n_documents, result.train.n_tokens) == (len(documents), n_tokens)
    assert result.train.bytes_per_token == sum(d.n_bytes for d in documents) / n_tokens
    assert result.vocab_size == tokenizer.vocab_size
    assert seen[-1][0] == seen[-1][1] > 0


def test_another_tokenizer_replaces_the_one_of_the_data_folder(source: str, tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    for folder, vocab_size in ((data, 280), (other, 265)):
        prepare(PrepareConfig(sources=(source,), out=folder))
        train_and_encode(TrainAndEncodeConfig(data=folder, vocab_size=vocab_size))
    before = stores(data)
    with pytest.raises(UserError, match=r"already has a tokenizer with 280 .*data-2"):
        encode(EncodeConfig(data=data, tokenizer=other / "tokenizer"))
    assert stores(data) == before
    encode(EncodeConfig(data=data, tokenizer=other / "tokenizer", overwrite=True))
    assert load_tokenizer(data / "tokenizer").vocab_size == 265
    assert stores(data) == stores(other)


def test_preparing_another_text_removes_the_stores_of_the_old_one(
    source: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    prepare(PrepareConfig(sources=(source,), out=data))
    train_and_encode(TrainAndEncodeConfig(data=data, vocab_size=280))
    (data / "notes").mkdir()
    prepare(PrepareConfig(sources=(source,), out=data))
    assert (data / "train").is_dir(), "the same text keeps them"
    prepare(PrepareConfig(sources=(source,), out=data, seed=2))
    assert not (data / "train").exists()
    assert not (data / "validation").exists()
    assert (data / "notes").is_dir()


def test_what_is_missing_is_named(source: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(UserError, match=r"does not exist.*groundup prepare"):
        encode(EncodeConfig(data=data))
    prepare(PrepareConfig(sources=(source,), out=data))
    with pytest.raises(UserError, match=r"no tokenizer.*Try: groundup train-tokenizer .*/data"):
        encode(EncodeConfig(data=data))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("words")
    with pytest.raises(UserError, match=r"not prepared data.*Try: groundup prepare .*/texts$"):
        encode(EncodeConfig(data=tmp_path / "texts"))


def test_a_tokenizer_with_other_ties_is_another_one(source: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(PrepareConfig(sources=(source,), out=data))
    train_and_encode(TrainAndEncodeConfig(data=data, vocab_size=265))
    config = TrainAndEncodeConfig(data=data, vocab_size=265, ties="greatest-bytes")
    with pytest.raises(UserError, match="The requested one would be different") as caught:
        train_and_encode(config)
    assert "--ties greatest-bytes" in caught.value.command


def test_words_are_encoded_in_complete_documents() -> None:
    """The edges of pieces in Chinese and Japanese text are not edges of words."""
    text = "天气，很好"
    words = WordTokenizer.from_text(text)
    cut = safe_cut(text, 4)
    assert cut == 2
    assert words.encode(text) != words.encode(text[:cut]) + words.encode(text[cut:])
    assert _needs_complete_documents(words)
    assert not _needs_complete_documents(BPETokenizer([], pattern="gpt4"))
