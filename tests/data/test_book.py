"""The roadmap's own loader, held against the book's rule written out with lists."""

import hashlib
import shutil
import sys
import tracemalloc
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from groundup.base.errors import UserError
from groundup.data.book import GPTDatasetV1, create_dataloader_v1
from groundup.tokenizer.characters import CharacterTokenizer


class Letters:
    """A tokenizer with one id a character, and the special token of the book."""

    def encode(self, text: str, *, allowed_special: AbstractSet[str]) -> list[int]:
        assert allowed_special == {"<|endoftext|>"}
        parts = text.split("<|endoftext|>")
        ids = [ord(c) for c in parts[0]]
        for part in parts[1:]:
            ids += [50256, *map(ord, part)]
        return ids


class BookDataset(Dataset[tuple[Tensor, Tensor]]):
    """The rule of chapter 2: every window kept twice, as tensors."""

    def __init__(self, txt: str, tokenizer: Any, max_length: int, stride: int) -> None:
        ids = tokenizer.encode(txt, allowed_special={"<|endoftext|>"})
        starts = range(0, len(ids) - max_length, stride)
        self.input_ids = [torch.tensor(ids[i : i + max_length]) for i in starts]
        self.target_ids = [torch.tensor(ids[i + 1 : i + max_length + 1]) for i in starts]

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, idx: int) -> tuple[Tensor, Tensor]:
        return self.input_ids[idx], self.target_ids[idx]


def _book_loader(txt: str, tokenizer: Any, *, max_length: int, stride: int, **options: Any) -> Any:
    return DataLoader(BookDataset(txt, tokenizer, max_length, stride), **options)


TEXT = "I HAD always thought Jack Gisburn rather a cheap genius.<|endoftext|>The end. " * 8


def _same(ours: Any, theirs: Any) -> None:
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert type(our) is type(their) is list
        assert len(our) == len(their) == 2
        for a, b in zip(our, their, strict=True):
            assert a.dtype == b.dtype == torch.int64
            assert torch.equal(a, b)


@given(
    n=st.integers(2, 80),
    max_length=st.integers(1, 16),
    stride=st.integers(1, 20),
    batch_size=st.integers(1, 9),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 999),
)
def test_it_is_the_book_s_loader(
    n: int,
    max_length: int,
    stride: int,
    batch_size: int,
    shuffle: bool,
    drop_last: bool,
    seed: int,
) -> None:
    text = TEXT[:n]
    sizes: dict[str, Any] = {"max_length": max_length, "stride": stride}
    rules: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last}
    n_windows = len(BookDataset(text, Letters(), **sizes))
    if n_windows == 0 and shuffle:  # torch refuses to shuffle nothing, and ours is empty
        assert list(create_dataloader_v1(text, tokenizer=Letters(), **sizes, **rules)) == []
        return
    theirs = _book_loader(text, Letters(), **sizes, **rules)
    ours = create_dataloader_v1(text, tokenizer=Letters(), **sizes, **rules)
    assert len(ours) == len(theirs)
    torch.manual_seed(seed)
    book = [list(theirs), list(theirs), torch.rand(1)]
    torch.manual_seed(seed)
    groundup = [list(ours), list(ours), torch.rand(1)]
    _same(groundup[0], book[0])
    _same(groundup[1], book[1])
    assert torch.equal(groundup[2], book[2])  # type: ignore[arg-type]


def test_the_defaults_are_the_book_s() -> None:
    text = TEXT * 4
    torch.manual_seed(123)
    theirs = list(
        _book_loader(
            text, Letters(), max_length=256, stride=128, batch_size=4, shuffle=True, drop_last=True
        )
    )
    torch.manual_seed(123)
    _same(create_dataloader_v1(text, tokenizer=Letters()), theirs)


def test_worker_processes_give_the_same() -> None:
    options: dict[str, Any] = {"max_length": 8, "stride": 8, "shuffle": False}
    here = create_dataloader_v1(TEXT, tokenizer=Letters(), **options)
    there = create_dataloader_v1(TEXT, tokenizer=Letters(), num_workers=1, **options)
    _same(there, here)


def test_the_dataset_is_indexed_like_the_book_s() -> None:
    ours, theirs = (cls(TEXT, Letters(), 8, 4) for cls in (GPTDatasetV1, BookDataset))
    assert len(ours) == len(theirs)
    for index in (0, 5, -1, -len(theirs), torch.tensor(3)):
        for a, b in zip(ours[index], theirs[index], strict=True):  # type: ignore[index]
            assert torch.equal(a, b)
    for index in (len(theirs), -len(theirs) - 1):
        with pytest.raises(IndexError):
            ours[index]
        with pytest.raises(IndexError):
            ours.__getitems__([0, index])  # type: ignore[union-attr]
    for ours_column, theirs_column in (
        (ours.input_ids, theirs.input_ids),
        (ours.target_ids, theirs.target_ids),
    ):
        assert len(ours_column) == len(theirs_column)
        assert all(map(torch.equal, ours_column[2:5], theirs_column[2:5]))
        assert torch.equal(ours_column[-1], theirs_column[-1])
    subset = [list(DataLoader(Subset(data, [7, 2, -1]), batch_size=2)) for data in (ours, theirs)]
    _same(*subset)


def test_a_window_is_the_caller_s_to_change() -> None:
    dataset = GPTDatasetV1(TEXT, Letters(), 8, 8)
    before = dataset[0][1].clone()
    inputs, targets = dataset[0]
    inputs.zero_()
    assert torch.equal(targets, before)
    assert dataset[0][0].sum() > 0
    inputs, targets = dataset.__getitems__([0])[0]
    inputs.zero_()
    assert torch.equal(targets, before)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_text_below_a_window_gives_the_empty_loader_and_a_warning(shuffle, caplog) -> None:
    for text, found in (("abc", "3 tokens, too few for a window of max_length=256"), ("", "0 tok")):
        caplog.clear()
        loader = create_dataloader_v1(text, tokenizer=Letters(), shuffle=shuffle)
        assert len(loader) == len(loader.dataset) == 0  # type: ignore[arg-type]
        assert list(loader) == []
        assert found in caplog.text
        assert "--" not in caplog.text
    for index in (0, -1):
        with pytest.raises(IndexError):
            loader.dataset[index]
    assert loader.dataset.input_ids == loader.dataset.target_ids == []  # type: ignore[attr-defined]


def test_less_than_one_batch_gives_the_empty_loader_and_a_warning(caplog) -> None:
    sizes: dict[str, Any] = {"max_length": 8, "stride": 8, "tokenizer": Letters()}
    loader = create_dataloader_v1("a" * 17, **sizes)
    assert list(loader) == []
    assert "2 windows, fewer than one batch of 4" in caplog.text
    assert "batch_size=2" in caplog.text
    caplog.clear()
    loader = create_dataloader_v1("a" * 17, **sizes, drop_last=False)
    assert [len(batch[0]) for batch in loader] == [2]
    assert len(create_dataloader_v1("a" * 17, batch_size=2, **sizes)) == 1
    assert caplog.text == ""


def test_without_tiktoken_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(UserError, match=r"tokenizer=.*pip install tiktoken"):
        create_dataloader_v1("some text")


@pytest.mark.parametrize("special_tokens", [(), ("</s>",), ("<|endoftext|>",)])
def test_our_tokenizers_with_and_without_the_special_token(special_tokens: tuple[str, ...]) -> None:
    tokenizer = CharacterTokenizer.from_text(TEXT, special_tokens=special_tokens)
    ids = [inputs[0, 0].item() for inputs, _ in create_dataloader_v1(
        TEXT, batch_size=1, max_length=1, stride=1, shuffle=False, tokenizer=tokenizer
    )]  # fmt: skip
    allowed = {"<|endoftext|>"} & set(special_tokens)
    assert ids == tokenizer.encode(TEXT, allowed_special=allowed)[:-1]


def test_a_few_bytes_a_token_whatever_the_overlap() -> None:
    class Many:
        def encode(self, text: str, *, allowed_special: AbstractSet[str]) -> list[int]:
            return [40] * 100_000  # small integers: shared objects, so the list is pointers only

    tracemalloc.start()
    loader = create_dataloader_v1("", max_length=1024, stride=1, tokenizer=Many())
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(loader.dataset) == 100_000 - 1024  # type: ignore[arg-type]
    assert kept / 100_000 <= 3  # the book's: 16 * 1024


@pytest.fixture
def gpt2_offline(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tiktoken's "gpt2" from the files, under the names it looks for."""
    pytest.importorskip("tiktoken")
    where = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
    for name in ("vocab.bpe", "encoder.json"):
        cached = hashlib.sha1((where + name).encode()).hexdigest()
        shutil.copy(shared_data / "gpt2-tokenizer" / name, tmp_path / cached)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


@pytest.mark.parity
@pytest.mark.usefixtures("gpt2_offline")
def test_the_verdict_s_first_batch(shared_data: Path) -> None:
    text = (shared_data / "the-verdict.txt").read_text(encoding="utf-8")
    loader = create_dataloader_v1(text, batch_size=8, max_length=4, stride=4, shuffle=False)
    assert len(loader.dataset) == -(-(5145 - 4) // 4)  # type: ignore[arg-type]
    inputs, targets = next(iter(loader))
    assert inputs[0].tolist() == [40, 367, 2885, 1464]
    assert targets[0].tolist() == [367, 2885, 1464, 1807]
