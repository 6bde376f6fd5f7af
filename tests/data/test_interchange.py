"""Other projects' token files: read by small readers of our own here, and read back."""

import struct
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError, as_options
from groundup.data.config import ConvertConfig
from groundup.data.interchange import read_tokens, write_tokens
from groundup.data.store import TokenStore

END = 9


def store(folder: Path, documents: list[list[int]], vocab_size: int = 1000) -> TokenStore:
    return TokenStore.build(
        folder, documents, vocab_size=vocab_size, tokenizer_fingerprint="t", end_of_text=END,
        shard_tokens=7,
    )  # fmt: skip


def megatron_documents(path: Path) -> list[list[int]]:
    """Read as Megatron's IndexedDataset does: header, lengths, pointers, document indices."""
    with open(path.with_suffix(".idx"), "rb") as file:
        assert file.read(9) == b"MMIDIDX\x00\x00"
        (version,) = struct.unpack("<Q", file.read(8))
        (code,) = struct.unpack("<B", file.read(1))
        n_sequences, n_documents = struct.unpack("<QQ", file.read(16))
        lengths = np.frombuffer(file.read(4 * n_sequences), np.int32)
        pointers = np.frombuffer(file.read(8 * n_sequences), np.int64)
        documents = np.frombuffer(file.read(8 * n_documents), np.int64)
        assert file.read() == b""
    dtype = {8: np.uint16, 4: np.int32}[code]
    assert (version, documents[0], documents[-1]) == (1, 0, n_sequences)
    data = path.with_suffix(".bin").read_bytes()
    return [
        np.frombuffer(data, dtype, count=n, offset=p).tolist()
        for n, p in zip(lengths, pointers, strict=True)
    ]


@settings(max_examples=25, deadline=None)
@given(
    documents=st.lists(
        st.lists(st.integers(10, 900), min_size=1, max_size=12), min_size=1, max_size=6
    ),
    wide=st.booleans(),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], wide: bool
) -> None:
    folder = tmp_path_factory.mktemp("s")
    ours = store(folder / "store", documents, 100_000 if wide else 1000)
    stream = [index for document in documents for index in [*document, END]]
    write_tokens(ours, folder / "m.bin", "megatron")
    assert megatron_documents(folder / "m") == [[*document, END] for document in documents]
    write_tokens(ours, folder / "l.bin", "llmc")
    raw = (folder / "l.bin").read_bytes()
    magic, version, n_tokens = np.frombuffer(raw, "<i4", 3)
    assert (magic, version) == ((20240801, 7) if wide else (20240520, 1))
    assert n_tokens == len(stream)
    assert np.frombuffer(raw, "<u4" if wide else "<u2", offset=1024).tolist() == stream
    formats = [("megatron", "m.bin"), ("llmc", "l.bin")]
    if wide:
        with pytest.raises(UserError, match="65,536"):
            write_tokens(ours, folder / "n.bin", "nanogpt")
    else:
        write_tokens(ours, folder / "n.bin", "nanogpt")
        assert np.fromfile(folder / "n.bin", np.uint16).tolist() == stream
        formats.append(("nanogpt", "n.bin"))
    for format, name in formats:
        back = read_tokens(folder / name, format, end_of_text=END)  # type: ignore[arg-type]
        assert [document.tolist() for document in back] == documents


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    ours = store(tmp_path / "store", [[1, 2, 3], [4]])
    write_tokens(ours, tmp_path / "m.bin", "megatron")
    write_tokens(ours, tmp_path / "l.bin", "llmc")
    (tmp_path / "odd.bin").write_bytes(b"abc")
    for name, format, words in (
        ("absent.bin", "nanogpt", "no such file"),
        ("odd.bin", "nanogpt", "even number"),
        ("odd.bin", "llmc", "not a token file of llm.c"),
        ("odd.bin", "megatron", r"no such file|not an index file of Megatron"),
    ):
        with pytest.raises(UserError, match=words):
            list(read_tokens(tmp_path / name, format))  # type: ignore[arg-type]
    for name, format in (("l.bin", "llmc"), ("m.idx", "megatron"), ("m.bin", "megatron")):
        path = tmp_path / name
        sound = path.read_bytes()
        path.write_bytes(sound[:-2])
        with pytest.raises(UserError, match=r"bytes are expected|shorter"):
            list(read_tokens(path, format))  # type: ignore[arg-type]
        path.write_bytes(sound)


WIDE = np.array([100_000, 5, 70_000, 131_071], dtype="<u4").tobytes()


def test_a_large_vocabulary_is_not_read_as_two_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t.bin"
    path.write_bytes(WIDE)
    for arguments in ({"end_of_text": 131_071}, {"vocab_size": 131_072}):
        with pytest.raises(UserError, match=r"t\.bin: .*2 bytes.*65,536.*131,072"):
            list(read_tokens(path, "nanogpt", **arguments))
    ours = store(tmp_path / "store", [[1, 2, 3]])
    for format in ("llmc", "megatron"):
        write_tokens(ours, path, format)
        with pytest.raises(UserError, match=r"2 bytes.*65,536.*131,072"):
            list(read_tokens(path, format, None, 131_072))


@pytest.mark.parametrize("dtype", ["<u4", "<i8", ">u4"])
def test_wider_ids_are_told_by_their_zeros(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "t.bin"
    path.write_bytes(np.array([100, 5, 7000, 13], dtype=dtype).tobytes())
    with pytest.raises(UserError, match=r"t\.bin: Every other id is 0"):
        list(read_tokens(path, "nanogpt", None, 50_257))
    path.write_bytes(np.array([1, 0, 2, 0, 3, 0, 4, 4], dtype="<u2").tobytes())
    assert [ids.tolist() for ids in read_tokens(path, "nanogpt")] == [[1, 0, 2, 0, 3, 0, 4, 4]]
    path.write_bytes(np.zeros(8, dtype="<u2").tobytes())
    assert [len(ids) for ids in read_tokens(path, "nanogpt")] == [8]


@pytest.mark.parametrize("format", ["nanogpt", "llmc", "megatron"])
def test_ids_outside_of_the_vocabulary_are_named(format, tmp_path: Path) -> None:
    write_tokens(store(tmp_path / "store", [[1, 2], [3, 700]]), tmp_path / "t.bin", format)
    with pytest.raises(UserError, match=r"t\.bin: Token \d has the id 700\. Ids from 0 to 699"):
        list(read_tokens(tmp_path / "t.bin", format, END, 700))
    assert len(list(read_tokens(tmp_path / "t.bin", format, END, 701))) == 2


def test_negative_ids_are_named(tmp_path: Path) -> None:
    write_tokens(store(tmp_path / "store", [[1, 2]], 100_000), tmp_path / "t.bin", "megatron")
    (tmp_path / "t.bin").write_bytes(np.array([1, -2, END], dtype="<i4").tobytes())
    with pytest.raises(UserError, match=r"Token 1 has the id -2"):
        list(read_tokens(tmp_path / "t.bin", "megatron", END, 100_000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty"),
        (b"\x93NUMPY\x01\x00v\x00", r"an array file of NumPy"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"MMIDIDX\x00\x00.", "an index file of Megatron"),
        (np.array([20240520, 1, 3], "<i4").tobytes(), r"a file of llm\.c.*from_format='llmc'"),
        (np.array([20240801, 7, 3], "<i4").tobytes(), r"a file of llm\.c"),
    ],
)
def test_what_is_not_nanogpt_s_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.bin").write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(read_tokens(tmp_path / "t.bin", "nanogpt"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([20240520, 2, 2], "version 2. Version 1 is expected"),
        ([20240801, 1, 2], "version 1. Version 7 is expected"),
        ([20240520, 1, -1], "states -1 tokens"),
        ([20240520, 1, 0], "states 0 tokens"),
        ([20240520, 1, 2**31 - 1], "4,294,968,318 bytes are expected"),
        ([20240801, 7, 2], "1,032 bytes are expected"),
        ([20240521, 1, 2], "the header is different"),
    ],
)
def test_headers_of_llmc_that_are_none(header: list[int], message: str, tmp_path: Path) -> None:
    head = np.zeros(256, "<i4")
    head[:3] = header
    (tmp_path / "t.bin").write_bytes(head.tobytes() + b"\x01\x00\x02\x00")
    with pytest.raises(UserError, match=message):
        list(read_tokens(tmp_path / "t.bin", "llmc"))
    (tmp_path / "t.bin").write_bytes(head.tobytes()[:500])
    with pytest.raises(UserError, match="the header is different"):
        list(read_tokens(tmp_path / "t.bin", "llmc"))


def megatron_index(
    lengths: list[int], pointers: list[int], documents: list[int], counts: list[int] | None = None
) -> bytes:
    n_sequences, n_documents = counts or [len(lengths), len(documents)]
    return (
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, 8, n_sequences, n_documents)
        + np.array(lengths, "<i4").tobytes()
        + np.array(pointers, "<i8").tobytes()
        + np.array(documents, "<i8").tobytes()
    )


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (megatron_index([2, 1], [0, 4], [0, 2], [2**63, 2]), "bytes are expected"),
        (megatron_index([2, 1], [0, 4], [0, 2], [2, 2**64 - 1]), "bytes are expected"),
        (megatron_index([2, -1], [0, 4], [0, 2]), "Sequence 1 has -1 ids from byte 4"),
        (megatron_index([2, 1], [0, -2], [0, 2]), "Sequence 1 has 1 ids from byte -2"),
        (megatron_index([2, 1], [0, 3], [0, 2]), "Sequence 1 has 1 ids from byte 3"),
        (megatron_index([2, 1], [0, 6], [0, 2]), "Sequence 1 has 1 ids from byte 6"),
        (megatron_index([2, 1], [2**62, 0], [0, 2]), "Sequence 0 has"),
        (megatron_index([2**31 - 1, 1], [0, 0], [0, 2]), "Sequence 0 has"),
        (megatron_index([], [], [0]), "no sequences"),
        (megatron_index([2, 1], [0, 4], []), "documents do not consist of the 2"),
        (megatron_index([2, 1], [0, 4], [0, 1]), "documents do not consist of the 2"),
        (megatron_index([2, 1], [0, 4], [1, 2]), "documents do not consist of the 2"),
        (megatron_index([2, 1], [0, 4], [0, 5, 2]), "documents do not consist of the 2"),
        (megatron_index([2], [0], [0, 1]), r"m\.bin: The file has 6 bytes and is longer"),
        (b"", r"m\.idx: The file is empty"),
        (b"MMIDIDX\x00\x00", "not an index file"),
    ],
)
def test_an_index_of_megatron_that_is_none(index: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(np.array([1, 2, 3], "<u2").tobytes())
    (tmp_path / "m.idx").write_bytes(index)
    with pytest.raises(UserError, match=message):
        list(read_tokens(tmp_path / "m.bin", "megatron"))


def test_an_index_of_megatron_may_join_sequences(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(np.array([1, 2, 3], "<u2").tobytes())
    (tmp_path / "m.idx").write_bytes(megatron_index([2, 1], [0, 4], [0, 0, 2]))
    found = [ids.tolist() for ids in read_tokens(tmp_path / "m.idx", "megatron", None, 4)]
    assert found == [[], [1, 2, 3]]


def test_hints_name_options_that_exist(tmp_path: Path) -> None:
    options = (Path(__file__).parents[1] / "golden" / "options.txt").read_text(encoding="utf-8")
    wide = store(tmp_path / "store", [[1]], 100_000)
    with pytest.raises(UserError) as caught:
        write_tokens(wide, tmp_path / "n.bin", "nanogpt")
    assert as_options(caught.value.settings) == ["--to-format", "llmc"]
    write_tokens(wide, tmp_path / "l.bin", "llmc")
    with pytest.raises(UserError) as other:
        list(read_tokens(tmp_path / "l.bin", "nanogpt"))
    assert as_options(other.value.settings) == ["--from-format", "llmc"]
    of_convert = options.partition("\nconvert ")[2].split("\n  --")[1:]
    names = {option.split(":")[0] for option in of_convert[: len(fields(ConvertConfig))]}
    assert {"to-format", "from-format"} <= names
