"""The token store: what goes in comes out; no damaged or half store is taken for a sound one."""

import json
import mmap
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.data import store as token_store
from groundup.data.manifest import is_store
from groundup.data.store import TokenStore, token_dtype

END = 9


def _build(folder: Path, documents: list[list[int]], **options: object) -> TokenStore:
    defaults = {"vocab_size": 300, "tokenizer_fingerprint": "abc", "end_of_text": END}
    return TokenStore.build(folder, documents, **{**defaults, **options})  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, 299), max_size=12), min_size=1, max_size=6),
    shard_tokens=st.integers(1, 30),
)
def test_round_trip_at_any_shard_size(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], shard_tokens: int
) -> None:
    store = _build(tmp_path_factory.mktemp("s") / "train", documents, shard_tokens=shard_tokens)
    stream = [token for document in documents for token in [*document, END]]
    assert store.n_tokens == len(stream)
    assert store.n_documents == len(documents)
    assert store.read(0, len(stream)).tolist() == stream
    starts = [*store.document_starts.tolist(), len(stream)]
    cut = [stream[a : b - 1] for a, b in zip(starts, starts[1:], strict=False)]
    assert cut == documents
    for width in {1, min(5, len(stream)), len(stream)}:
        places = np.arange(len(stream) - width + 1)[::-1]
        rows = [stream[p : p + width] for p in places.tolist()]
        assert store.gather(places, width).tolist() == rows
        assert [store.read(p, p + width).tolist() for p in places.tolist()] == rows
    store.verify()


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system releases no pages")
@pytest.mark.parametrize(
    "read", [lambda s: s.read(0, 3), lambda s: s.gather(np.zeros(1, dtype=np.int64), 3)]
)
def test_pages_of_a_large_store_are_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[TokenStore], object]
) -> None:
    monkeypatch.setattr(token_store, "_MAPPED_WHOLE_BYTES", 0)
    store = _build(tmp_path / "train", [[1, 2, 3]])
    released: list[int] = []
    store._maps = [SimpleNamespace(madvise=released.append)]  # type: ignore[list-item]
    for _ in range(2 * token_store._MOST_ROWS_MAPPED + 2):
        read(store)
    assert released == [mmap.MADV_DONTNEED] * 2


@pytest.mark.parametrize(("vocab_size", "itemsize"), [(65_536, 2), (65_537, 4)])
def test_the_number_format_at_its_edge(tmp_path: Path, vocab_size: int, itemsize: int) -> None:
    ids = [0, 65_534, 65_535, vocab_size - 1]
    store = _build(tmp_path / "s", [ids], vocab_size=vocab_size, end_of_text=None)
    assert store.read(0, 4).tolist() == ids
    assert token_dtype(vocab_size).itemsize == itemsize
    # headerless and little-endian: any other program reads it so
    raw = (tmp_path / "s" / "tokens-00000.bin").read_bytes()
    expected = b"".join(index.to_bytes(itemsize, "little") for index in ids)
    assert raw == expected


@pytest.mark.parametrize("wrong", [300, -1])
def test_an_id_outside_of_the_vocabulary_is_refused(tmp_path: Path, wrong: int) -> None:
    with pytest.raises(UserError, match=f"Document 1 contains the id {wrong}.*0 to 299"):
        _build(tmp_path / "s", [[1, 2], [3, wrong]])
    assert list(tmp_path.iterdir()) == []


def test_no_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no token"):
        _build(tmp_path / "s", [[]], end_of_text=None)


def test_a_build_that_dies_leaves_the_old_store(tmp_path: Path) -> None:
    old = _build(tmp_path / "s", [[1, 2, 3]])

    def dying() -> Iterator[list[int]]:
        yield [4, 5]
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        _build(tmp_path / "s", dying())  # type: ignore[arg-type]
    assert TokenStore.open(tmp_path / "s").fingerprint == old.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "thesis.doc").write_text("years of work")
    with pytest.raises(UserError, match="other files than a token store"):
        _build(tmp_path / "train", [[1]])
    assert (tmp_path / "train" / "thesis.doc").read_text() == "years of work"
    assert not is_store(tmp_path / "train")


def test_the_same_text_makes_the_same_bytes_and_another_one_does_not(tmp_path: Path) -> None:
    first = _build(tmp_path / "a", [[1, 2], [3]])
    again = _build(tmp_path / "b", [[1, 2], [3]])
    for name in ("tokens-00000.bin", "documents.npy", "manifest.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert first.fingerprint == again.fingerprint
    others = [
        _build(tmp_path / "c", [[1, 2], [4]]),
        _build(tmp_path / "d", [[1], [2, 3]], end_of_text=None),
        _build(tmp_path / "e", [[1, 2], [3]], tokenizer_fingerprint="other"),
    ]
    assert len({first.fingerprint, *(store.fingerprint for store in others)}) == 4


def test_every_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    _build(tmp_path / "s", [[1, 2, 3], [4, 5], list(range(10))], shard_tokens=8)
    names = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert names == [
        "documents.npy",
        "manifest.json",
        "tokens-00000.bin",
        "tokens-00001.bin",
        "tokens-00002.bin",
    ]
    for name in names:
        path = tmp_path / "s" / name
        sound = path.read_bytes()
        # every byte of the tokens; of the manifest those that are no white space
        places = [i for i, byte in enumerate(sound) if name != "manifest.json" or byte > 32]
        for place in places[:: 1 if name.endswith("bin") else 7]:
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
            with pytest.raises(UserError, match=rf"{name}|format|no token store"):
                TokenStore.open(tmp_path / "s").verify()
        path.write_bytes(sound)
    TokenStore.open(tmp_path / "s").verify()


@pytest.mark.parametrize("name", ["tokens-00001.bin", "documents.npy"])
def test_a_cut_longer_or_missing_file_does_not_open(tmp_path: Path, name: str) -> None:
    _build(tmp_path / "s", [list(range(9)), [1]], shard_tokens=8)
    path = tmp_path / "s" / name
    sound = path.read_bytes()
    for damaged in (sound[:-1], sound + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{name}.*{len(damaged)} bytes.*{len(sound)} bytes"):
            TokenStore.open(tmp_path / "s")
    path.unlink()
    with pytest.raises(UserError, match=rf"{name}.*missing"):
        TokenStore.open(tmp_path / "s")


@pytest.mark.parametrize("kind", ["float32", "bool"])
def test_ids_that_are_no_whole_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=f"Document 1 is an array of type {kind}. Token ids are"):
        _build(tmp_path / "s", [[1], np.array([1, 0], dtype=kind)])  # type: ignore[list-item]
    assert not (tmp_path / "s").exists()
    assert _build(tmp_path / "s", [[1], np.array([], dtype=kind), []]).n_documents == 3  # type: ignore[list-item]


def test_no_store_and_a_store_of_the_future_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no token store.*groundup encode"):
        TokenStore.open(tmp_path / "nowhere")
    _build(tmp_path / "s", [[1]])
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    (tmp_path / "s" / "manifest.json").write_text(json.dumps({**manifest, "format_version": 2}))
    with pytest.raises(UserError, match="format 2"):
        TokenStore.open(tmp_path / "s")


def test_reading_outside_is_an_error_and_inside_a_view(tmp_path: Path) -> None:
    store = _build(tmp_path / "s", [[1, 2, 3]])
    with pytest.raises(IndexError):
        store.read(0, 5)
    for start in (-1, 3):
        with pytest.raises(IndexError):
            store.gather(np.array([start]), 2)
    assert store.read(1, 3).base is not None
    assert store.gather(np.array([], dtype=np.int64), 2).shape == (0, 2)


def test_it_travels_to_another_process_as_a_path(tmp_path: Path) -> None:
    store = _build(tmp_path / "s", [[1] * 100_000])
    packed = pickle.dumps(store)
    assert len(packed) < 1000
    assert pickle.loads(packed).fingerprint == store.fingerprint


def test_building_holds_a_buffer_not_the_corpus(tmp_path: Path) -> None:
    document = list(range(200)) * 50  # 10,000 tokens

    def corpus() -> Iterator[list[int]]:
        for _ in range(800):  # 8 million tokens, 16 MB on disk, 64 MB as int64
            yield document

    tracemalloc.start()
    store = _build(tmp_path / "s", corpus())  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.n_tokens == 800 * 10_001
    # the buffer of 2**20 tokens: as pieces, joined and as bytes, two bytes each
    assert peak < 4 * 2 * 2**20
