"""Safetensors files are read and written one tensor at a time, and no length in them is trusted."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from groundup.base.errors import UserError
from groundup.weights.safetensors_file import read_header, write_tensors

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.tensor([1.5, -2.0, 3.25], dtype=torch.bfloat16),
    "c": torch.tensor([[1.0], [2.0]], dtype=torch.float16),
    "d é": torch.tensor(7.0),
    "empty": torch.empty(0, 4),
}


def write(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return write_tensors(path, shapes, {n: partial(tensors.__getitem__, n) for n in tensors})


def test_what_is_written_is_read_by_the_library_and_by_us(tmp_path: Path) -> None:
    hashes = write(tmp_path / "m.safetensors", TENSORS)
    theirs = load_file(tmp_path / "m.safetensors")
    stored = read_header(tmp_path / "m.safetensors")
    assert theirs.keys() == stored.keys() == TENSORS.keys() == hashes.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(theirs[name].float(), tensor.float())
        assert torch.equal(stored[name].read().float(), tensor.float())
    # A tensor whose bytes are no multiple of 4 is widened, so that the next one is aligned.
    assert stored["b"].type == "F32"
    assert stored["c"].type == "F16"


@settings(max_examples=30, deadline=None)
@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
            st.lists(st.integers(0, 5), max_size=3),
        ),
        max_size=6,
    )
)
def test_any_mixture_is_read_as_it_was(entries: list[Any], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("f") / "m.safetensors"
    generator = torch.Generator().manual_seed(1)
    tensors = {
        str(i): torch.randn(shape, generator=generator).to(dtype)
        for i, (dtype, shape) in enumerate(entries)
    }
    write(path, tensors)
    for name, tensor in load_file(path).items():
        assert torch.equal(tensor.float(), tensors[name].float())


def test_every_type_of_the_library_is_read(tmp_path: Path) -> None:
    tensors = {
        str(dtype): torch.ones(2, 3).to(dtype)
        for dtype in (torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
                      torch.bool, torch.bfloat16)
    }  # fmt: skip
    save_file(tensors, tmp_path / "m.safetensors")
    for name, stored in read_header(tmp_path / "m.safetensors").items():
        assert torch.equal(stored.read(), tensors[name])


def file_with(header: Any, *, n_data: int = 16, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + bytes(n_data)


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "its header has 0 bytes, and the file 0"),
        (b"\x00" * 5, "the file 5"),
        (file_with({}, length=2**63), "its header has 9,223,372,036,854,775,808 bytes"),
        (file_with({}, length=100), "its header has 100 bytes"),
        (file_with(b"[1"), "not JSON"),
        (file_with(b"[" * 100_000), "not JSON"),
        (file_with(b"\xff\xfe"), "not JSON"),
        (file_with([1]), "not a JSON object"),
        (file_with({"w": 3}), "the tensor 'w' is invalid"),
        (file_with({"w": {"dtype": "F32"}}), "the tensor 'w' is invalid"),
        (file_with(entry(shape=[-4])), "the tensor 'w' is invalid"),
        (file_with(entry(shape=[4.0])), "the tensor 'w' is invalid"),
        (file_with(entry(offsets=[0, 16, 3])), "the tensor 'w' is invalid"),
        (file_with(entry(offsets=[-16, 0])), "the tensor 'w' is invalid"),
        (file_with(entry(offsets=[0, 12])), "has 12 bytes instead of 16"),
        (file_with(entry(shape=[2**40, 2**40])), "instead of"),
        (file_with(entry(offsets=[8, 24])), "'w' ends at byte .* It is cut"),
        (file_with(entry(offsets=[2**62, 2**62 + 16])), "It is cut"),
        (file_with(entry(dtype="F4")), "'w' is of type F4"),
        (file_with(entry(dtype=["F32"])), "the tensor 'w' is invalid"),
    ],
)
def test_damaged_files_are_named_at_once(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(UserError, match=said) as caught:
        read_header(path)
    assert time.perf_counter() - start < 1
    assert caught.value.where == path


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), flip=st.integers(0, 255), value=st.integers(0, 255))
def test_no_damage_is_a_traceback(
    cut: int, flip: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("f") / "m.safetensors"
    write(path, TENSORS)
    content = bytearray(path.read_bytes()[: max(cut, 9)])
    content[flip % len(content)] = value
    path.write_bytes(content)
    try:
        for stored in read_header(path).values():
            stored.read()
    except UserError:
        pass


def test_a_file_that_was_cut_after_its_header_was_read_is_named(tmp_path: Path) -> None:
    write(tmp_path / "m.safetensors", TENSORS)
    stored = read_header(tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:-8])
    with pytest.raises(UserError, match="ends inside of the tensor"):
        stored["d é"].read()


def test_numpy_reads_the_bytes_where_the_header_says(tmp_path: Path) -> None:
    write(tmp_path / "m.safetensors", TENSORS)
    stored = read_header(tmp_path / "m.safetensors")["a"]
    found = np.fromfile(tmp_path / "m.safetensors", np.float32, 6, offset=stored.start)
    assert found.tolist() == [0, 1, 2, 3, 4, 5]
