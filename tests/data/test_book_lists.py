"""`GPTDatasetV1` used as people use the book's class: subclasses, its lists, pickles, loaders."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split

from groundup.base.errors import UserError
from groundup.data.book import GPTDatasetV1, create_dataloader_v1
from groundup.tokenizer.words import WordTokenizer


class T:
    """A tokenizer of twenty ids, whatever the text."""

    def encode(self, text: str, allowed_special: Any = None) -> list[int]:
        return list(range(20))


class Plain:
    """A tokenizer like the first one of the book: `encode` takes the text only."""

    def encode(self, text: str) -> list[int]:
        return list(range(20))


class Gives:
    """A tokenizer that returns what it was given."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def encode(self, text: str, *, allowed_special: Any) -> Any:
        return self.found


def dataset(cls: Any = GPTDatasetV1) -> Any:
    return cls("some text", T(), 4, 2)  # windows start at 0, 2, ..., 14


class Negated(GPTDatasetV1):
    def __getitem__(self, idx: Any) -> Any:
        x, y = super().__getitem__(idx)
        return -x, y, torch.tensor(int(idx))


LOADERS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda data: DataLoader(data, batch_size=8),
    "workers": lambda data: DataLoader(data, batch_size=8, num_workers=1),
    "subset": lambda data: DataLoader(Subset(data, list(range(8))), batch_size=8),
    "split": lambda data: DataLoader(random_split(data, [8, 0])[0], batch_size=8),
    "concatenated": lambda data: DataLoader(ConcatDataset([data, data]), batch_size=8),
    "no batches": lambda data: DataLoader(data, batch_size=None),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_the_getitem_of_a_subclass_is_used_by_every_loader(loader: str) -> None:
    x, _, number = next(iter(LOADERS[loader](dataset(Negated))))
    assert (x <= 0).all()
    assert torch.equal(x[..., 0], -2 * number)


def test_a_replaced_getitem_is_used_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GPTDatasetV1, "__getitem__", lambda self, idx: (idx, idx))
    assert next(iter(DataLoader(dataset(), batch_size=4)))[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("cls", [GPTDatasetV1, Negated])
def test_only_our_own_getitem_reads_batches_at_once(cls: Any, monkeypatch) -> None:
    calls = []
    plain = GPTDatasetV1._window
    monkeypatch.setattr(
        GPTDatasetV1, "_window", lambda self, idx: calls.append(idx) or plain(self, idx)
    )
    list(DataLoader(dataset(cls), batch_size=4))
    assert len(calls) == (8 if cls is Negated else 0)


def test_the_lists_are_lists_of_tensors() -> None:
    data = dataset()
    for name, first in (("input_ids", 0), ("target_ids", 1)):
        column = getattr(data, name)
        assert isinstance(column, list)
        assert getattr(data, name) is column
        assert all(type(row) is Tensor and row.dtype == torch.int64 for row in column)
        assert len(column) == 8
        stacked = torch.stack(column)
        assert torch.equal(stacked[:, 0], torch.arange(first, first + 16, 2))
        assert torch.equal(torch.cat(column), stacked.flatten())
        assert len(column + column) == len(column * 2) == 16
        assert [row.tolist() for row in column[2:4]] == stacked[2:4].tolist()
        assert torch.equal(torch.vstack(tuple(reversed(column))), stacked.flip(0))
        assert np.array_equal(np.stack(column), stacked.numpy())
    assert [part[1].tolist() for part in data[:2]] == [[2, 3, 4, 5], [3, 4, 5, 6]]


def test_nothing_is_stored_until_the_lists_are_used() -> None:
    data = dataset()
    list(DataLoader(data, batch_size=4)), list(data), len(data), pickle.dumps(data)
    assert not {"input_ids", "target_ids"} & set(vars(data))


new = torch.tensor([7, 7, 7, 7])


def append(data: Any) -> None:
    data.input_ids.append(new)
    data.target_ids.append(new + 1)


def extend_by_sum(data: Any) -> None:
    data.input_ids += [new]
    data.target_ids = [*data.target_ids, new + 1]


@pytest.mark.parametrize("change", [append, extend_by_sum])
def test_items_and_length_follow_the_lists(change: Callable[[Any], None]) -> None:
    data = dataset()
    change(data)
    assert len(data) == 9
    assert data[-1][0].tolist() == [7, 7, 7, 7]
    assert [y.tolist()[-1] for _, y in DataLoader(data, batch_size=9)] == [[8, 8, 8, 8]]
    assert len(list(data)) == 9
    again = pickle.loads(pickle.dumps(data))
    assert len(again) == 9
    assert again[8][1].tolist() == [8, 8, 8, 8]


def test_assignments_are_seen() -> None:
    data = dataset()
    data.input_ids[0] = new
    data.target_ids[1:3] = [new]
    assert data[0][0] is new
    assert data[1][1] is new
    assert data[2][1].tolist() == [7, 8, 9, 10]
    data = dataset()
    data.input_ids = [new]
    assert len(data) == 1
    assert data[0][0] is new
    assert data[0][1].tolist() == [1, 2, 3, 4]
    with pytest.raises(IndexError):
        data[1]
    data.input_ids[0][2] = 0  # a tensor of the list is what the dataset gives
    assert data[0][0].tolist() == [7, 7, 0, 7]


class WithoutInit(GPTDatasetV1):
    def __init__(self) -> None:
        self.input_ids, self.target_ids = [], []
        for i in range(3):
            self.input_ids.append(torch.full((4,), i))
            self.target_ids.append(torch.full((4,), i + 1))


def test_a_subclass_may_fill_the_lists_itself() -> None:
    data = WithoutInit()
    assert len(data) == 3
    x, y = next(iter(DataLoader(data, batch_size=3)))
    assert torch.equal(x + 1, y)


def test_copies_and_pickles_are_equal() -> None:
    data = dataset()
    for again in (copy.deepcopy(data), copy.copy(data), pickle.loads(pickle.dumps(data))):
        assert isinstance(again.tokenizer, T)
        assert [(x.tolist(), y.tolist()) for x, y in again] == [
            (x.tolist(), y.tolist()) for x, y in data
        ]
    assert data.tokenizer.encode("") == list(range(20))


def test_a_tokenizer_that_cannot_be_pickled_does_not_stop_worker_processes() -> None:
    class Local(T):
        pass

    data = GPTDatasetV1("some text", Local(), 4, 2)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again[3][0], data[3][0])
    assert isinstance(data.tokenizer, Local)


@pytest.mark.slow
def test_spawned_workers_give_the_same() -> None:
    text = "a b c d e f g h i j k l m n o p q r s t"
    data = GPTDatasetV1(text, WordTokenizer.from_text(text), 4, 2)  # T has no name to import by
    loader = DataLoader(data, batch_size=4, num_workers=1, multiprocessing_context="spawn")
    for (a, b), (x, y) in zip(loader, DataLoader(data, batch_size=4), strict=True):
        assert torch.equal(a, x)
        assert torch.equal(b, y)


ENCODINGS = {
    "tuple": tuple,
    "int32 array": lambda ids: np.array(ids, dtype=np.int32),
    "uint16 array": lambda ids: np.array(ids, dtype=np.uint16),
    "tensor": torch.tensor,
    "numpy integers": lambda ids: [np.int64(i) for i in ids],
}


@pytest.mark.parametrize("kind", ENCODINGS)
def test_ids_may_be_of_any_integer_kind(kind: str) -> None:
    data = GPTDatasetV1("", Gives(ENCODINGS[kind](list(range(20)))), 4, 2)  # type: ignore[operator]
    assert torch.equal(torch.stack(data.target_ids), torch.stack(dataset().target_ids))


def test_ids_up_to_32_bits_are_kept() -> None:
    data = GPTDatasetV1("", Gives([0, 65_536, 2**32 - 1]), 2, 1)
    assert data[0][1].tolist() == [65_536, 2**32 - 1]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([0, -1, 2], "returned -1 at position 1"),
        (np.array([0, 3, -5]), "returned -5 at position 2"),
        (torch.tensor([-1]), "returned -1 at position 0"),
        ([0, 2.5], "returned 2.5 at position 1"),
        ([0, 2.0], "returned 2.0 at position 1"),
        (torch.tensor([0.5]), "returned 0.5 at position 0"),
        ([1, True], "returned True at position 1"),
        (np.array([True]), "returned True at position 0"),
        ([1, 2**32], "returned 4294967296 at position 1"),
        ([1, 2**70], f"returned {2**70} at position 1"),
        ([-1, 2**63], "returned -1 at position 0"),
        (["a"], "returned 'a' at position 0"),
        ([1, None], "returned None at position 1"),
        ([[1, 2], [3, 4]], "nested lists"),
        ([[1, 2], [3]], "nested lists"),
        (torch.ones(1, 3, dtype=torch.long), "nested lists"),
        (None, "returned None. A list of token ids"),
        ("1 2 3", "returned '1 2 3'"),
        ({"input_ids": [1]}, "an object of type dict"),
    ],
)
def test_what_are_no_ids_is_refused(found: Any, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        GPTDatasetV1("text", Gives(found), 1, 1)
    assert sentence in str(error.value)


def test_a_tokenizer_without_allowed_special_works() -> None:
    data = GPTDatasetV1("some text", Plain(), 4, 2)
    assert torch.equal(torch.stack(data.input_ids), torch.stack(dataset().input_ids))
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "a": 1, "b": 2, "c": 3}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    assert GPTDatasetV1("a b c b", tokenizer, 3, 1)[0][1].tolist() == [2, 3, 2]


def test_hugging_face_s_tokenizer_works() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, "[UNK]"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core)
    assert GPTDatasetV1("a b a", tokenizer, 2, 1)[0][0].tolist() == [1, 0]


def test_a_wrapper_that_passes_arguments_on_gets_allowed_special() -> None:
    class Wrapper:
        def encode(self, *args: Any, **options: Any) -> list[int]:
            assert options == {"allowed_special": {"<|endoftext|>"}}
            return [1, 2, 3]

    assert len(GPTDatasetV1("", Wrapper(), 2, 1)) == 1


@pytest.mark.parametrize("name", ["max_length", "stride", "batch_size"])
@pytest.mark.parametrize("value", [0, -4, 2.5, 4.0, "4", None, True, [4]])
def test_sizes_that_are_none_are_refused(name: str, value: Any) -> None:
    sizes = {"batch_size": 2, "max_length": 4, "stride": 2, name: value}
    with pytest.raises(UserError, match=f"{name} is .*A whole number of at least 1 is expected"):
        create_dataloader_v1("text", tokenizer=T(), **sizes)  # type: ignore[arg-type]


def test_numpy_sizes_are_accepted() -> None:
    sizes: Any = {"batch_size": np.int64(4), "max_length": np.uint8(4), "stride": np.int32(2)}
    loader = create_dataloader_v1("text", shuffle=False, tokenizer=T(), **sizes)
    assert [x.shape for x, _ in loader] == [(4, 4), (4, 4)]


def test_sizes_beyond_the_text_are_what_the_book_makes_of_them(caplog) -> None:
    [batch] = DataLoader(GPTDatasetV1("text", T(), 4, 10**30), batch_size=2)
    assert batch[1].tolist() == [[1, 2, 3, 4]]
    assert len(GPTDatasetV1("text", T(), 10**30, 1)) == 0
    assert "too few for a window" in caplog.text
    loader = create_dataloader_v1("text", 10**9, 4, 2, drop_last=False, tokenizer=T())
    assert [len(x) for x, _ in loader] == [8]
    with pytest.raises(UserError, match="batch_size is 1000"):
        create_dataloader_v1("text", 10**30, 4, 2, tokenizer=T())


@pytest.mark.parametrize(
    ("text", "found"), [(b"bytes", r"bytes.*\.decode"), (None, "None"), (["a"], "list")]
)
def test_what_is_no_text_is_refused(text: Any, found: str) -> None:
    with pytest.raises(UserError, match=found):
        GPTDatasetV1(text, T(), 4, 2)
    with pytest.raises(TypeError, match="A str is expected"):
        create_dataloader_v1(text, tokenizer=T())


def test_a_tokenizer_in_the_wrong_place_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"tokenizer was passed as batch_size.*tokenizer=tokenizer"):
        create_dataloader_v1("text", T(), 4, 2)  # type: ignore[arg-type]
    for tokenizer in (None, 4, "gpt2"):
        with pytest.raises(TypeError, match=r"method encode\(text\) is expected"):
            GPTDatasetV1("text", tokenizer, 4, 2)  # type: ignore[arg-type]
