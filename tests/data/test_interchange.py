"""Other projects' token files: read by small readers of our own here, and read back."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
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
