"""Damaged and malicious weights are refused by name, in less than 1 s and 50 MB."""

import json
import os
import random
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from gguf_files import write_tiny
from peers import smollm2
from safetensors.torch import save_file

from groundup.base.errors import UserError
from groundup.base.gguf import read_gguf_header
from groundup.weights.gguf import open_gguf

U32, U64 = struct.Struct("<I").pack, struct.Struct("<Q").pack
STRING, ARRAY, FLOAT = 8, 9, 6


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return U64(len(raw)) + raw


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + U32(kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + U32(len(shape)) + b"".join(map(U64, shape)) + U32(kind) + U64(offset)


def gguf_of(*parts: bytes, n_tensors: int = 0, n_keys: int = 0, tail: bytes = b"") -> bytes:
    return b"GGUF" + U32(3) + U64(n_tensors) + U64(n_keys) + b"".join(parts) + tail


def one_key(part: bytes) -> bytes:
    return gguf_of(part, n_keys=1)


def one_tensor(part: bytes, n: int = 1, tail: bytes = b"\0" * 256) -> bytes:
    return gguf_of(part, n_tensors=n, tail=tail)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "array of 2^63": (one_key(key("a.key", ARRAY, U32(STRING) + U64(2**63))), "'a.key' states 9,"),
    "array past the end": (one_key(key("a.key", ARRAY, U32(FLOAT) + U64(100))), "'a.key' states 1"),
    "array in an array": (one_key(key("a.key", ARRAY, U32(ARRAY) + U64(1))), "'a.key' is of"),
    "string past the end": (one_key(key("a.key", STRING, U64(1_000))), "1,000 bytes.*'a.key'"),
    "string of 2^64 - 1": (one_key(key("a.key", STRING, U64(2**64 - 1))), "18,446.*'a.key'"),
    "name past the end": (one_key(U64(2_000) + bytes(9)), "2,000 bytes for the name of key 0"),
    "type of a key": (one_key(key("a.key", 99, b"\0" * 9)), "'a.key' is of type 99"),
    "not UTF-8": (one_key(key("a.key", STRING, text(b"\xff\xfe"))), "'a.key' is not UTF-8"),
    "keys": (gguf_of(n_keys=2**63), "states 9,223,372,036,854,775,808 keys"),
    "tensors": (gguf_of(n_tensors=2**40), "states 1,099,511,627,776 tensors"),
    "twice a key": (gguf_of(*[key("a.key", 4, U32(1))] * 2, n_keys=2), "'a.key' occurs twice"),
    "dimensions": (one_tensor(text("a.tensor") + U32(2**32 - 1)), "'a.tensor' has 4,294,967,295"),
    "alignment": (
        gguf_of(key("general.alignment", 4, U32(2**30)), n_keys=1),
        "general.alignment is 1073741824",
    ),
    "alignment of 0": (gguf_of(key("general.alignment", 4, U32(0)), n_keys=1), "alignment is 0"),
    "alignment of a text": (gguf_of(key("general.alignment", 8, text("x")), n_keys=1), "is 'x'"),
    "tensor past the end": (one_tensor(tensor("a.tensor", (4, 4), 0, 2**40)), "'a.tensor' ends"),
    "product overflows": (one_tensor(tensor("a.tensor", (2**32, 2**32), 0, 0)), "'a.tensor' ends"),
    "product of four": (one_tensor(tensor("a.tensor", (2**63,) * 4, 0, 0)), "'a.tensor' ends"),
    "offset overflows": (one_tensor(tensor("a.tensor", (4,), 0, 2**64 - 16)), "'a.tensor' ends"),
    "row of a block": (one_tensor(tensor("a.tensor", (31, 2), 2, 0)), "'a.tensor'.*multiple of 32"),
    "type of a tensor": (one_tensor(tensor("a.tensor", (4,), 77, 0)), "'a.tensor' is of type 77"),
    "a type that is not read": (one_tensor(tensor("a.tensor", (256,), 10, 0)), "type Q2_K"),
    "overlap": (
        one_tensor(tensor("first", (16,), 0, 0) + tensor("second", (16,), 0, 32), n=2),
        "'second' begins at byte .* inside of the tensor 'first'",
    ),
    "twice a tensor": (
        one_tensor(tensor("same", (4,), 0, 0) + tensor("same", (4,), 0, 32), n=2),
        "'same' occurs twice",
    ),
    "another format": (b"PK\x03\x04" + bytes(60), "begins with b'PK"),
    "nothing": (b"", "begins with b''"),
    "only the first bytes": (b"GGUF", "the version"),
    "version 1": (b"GGUF" + U32(1) + bytes(60), "version is 1"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + bytes(60), "version is 50331648"),
    "no architecture": (gguf_of(), "general.architecture is None"),
    "another architecture": (one_key(key("general.architecture", 8, text("mamba"))), "is 'mamba'"),
    "architecture is a number": (one_key(key("general.architecture", 4, U32(1))), "is 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_refused_by_name(tmp_path: Path, case: str) -> None:
    data, said = HOSTILE[case]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said) as caught:
        open_gguf(path)
    assert caught.value.where == path
    assert len(str(caught.value)) < 600


def test_a_pipe_and_a_folder_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "no file"), (tmp_path, "no file")):
        with pytest.raises(UserError, match=said):
            read_gguf_header(path)
    with pytest.raises(UserError, match="No such file"):
        read_gguf_header(tmp_path / "absent")


def safetensors_cases(folder: Path) -> None:
    """Write folders of Hugging Face with damaged or malicious weights."""
    import torch

    config = {
        "model_type": "llama", "vocab_size": 8, "max_position_embeddings": 8, "hidden_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8,
    }  # fmt: skip
    weights = {"model.embed_tokens.weight": torch.zeros(8, 8)}
    raw = folder / "raw.safetensors"
    save_file(weights, raw)
    data = raw.read_bytes()
    (folder / "outside").mkdir()
    raw.rename(folder / "outside" / "model.safetensors")

    def write(name: str, files: dict[str, bytes], index: str | None = None) -> Path:
        there = folder / name
        there.mkdir()
        (there / "config.json").write_text(json.dumps(config))
        for file, content in files.items():
            (there / file).write_bytes(content)
        if index is not None:
            about = {"weight_map": {"model.embed_tokens.weight": index}}
            (there / "model.safetensors.index.json").write_text(json.dumps(about))
        return there

    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}})
    both = json.dumps(
        {n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in ("a", "b")}
    )
    write("cut", {"model.safetensors": data[:-100]})
    write("cut-header", {"model.safetensors": data[:20]})
    write("header-2-63", {"model.safetensors": U64(2**63) + data[8:]})
    write("header-past-end", {"model.safetensors": U64(10**6) + data[8:]})
    write("product", {"model.safetensors": U64(len(header)) + header.encode() + bytes(16)})
    write("overlap", {"model.safetensors": U64(len(both)) + both.encode() + bytes(16)})
    write("missing-shard", {}, "model-00001.safetensors")
    write("parent", {}, "../outside/model.safetensors")
    write("absolute", {}, str(folder / "outside" / "model.safetensors"))
    linked = write("link", {}, "linked.safetensors")
    (linked / "linked.safetensors").symlink_to(folder / "outside" / "model.safetensors")
    single = write("single-link", {})
    (single / "model.safetensors").symlink_to(folder / "outside" / "model.safetensors")


RUN_CASES = """
import json, resource, sys, time
from pathlib import Path
from groundup.base.errors import UserError
from groundup.evaluation.pretrained import import_pretrained
from groundup.weights.config import ImportConfig
from groundup.weights.gguf import open_gguf

def opened(path):
    if path.is_dir():
        return import_pretrained(ImportConfig(source=path, out=path.with_name("out")))
    return open_gguf(path)

cases = [Path(line) for line in sys.stdin.read().splitlines()]
for path in [cases[0], *cases]:  # the first one twice: the first call imports modules
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        opened(path)
        said = None
    except UserError as error:
        said = str(error)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([str(path), said, time.perf_counter() - start, used / 1024]))
"""


def test_every_case_takes_less_than_a_second_and_50_mb(tmp_path: Path) -> None:
    for name, (data, _) in HOSTILE.items():
        (tmp_path / f"{name.replace(' ', '-')}.gguf").write_bytes(data)
    with open(smollm2(), "rb") as whole:
        start = whole.read(50_000_000)
    (tmp_path / "cut-5-kB.gguf").write_bytes(start[:5_000])
    (tmp_path / "cut-50-MB.gguf").write_bytes(start)
    safetensors_cases(tmp_path)
    cases = sorted(p for p in tmp_path.iterdir() if p.suffix == ".gguf" or p.is_dir())
    cases.remove(tmp_path / "outside")
    done = subprocess.run(
        [sys.executable, "-c", RUN_CASES], input="\n".join(map(str, cases)), text=True,
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines()][1:]
    assert len(results) == len(cases) > 40
    for path, said, elapsed_s, used_mib in results:
        assert said is not None, path
        assert elapsed_s < 1, (path, elapsed_s)
        assert used_mib < 50, (path, used_mib)
    said_of = {Path(path).name: said for path, said, *_ in results}
    assert "It is cut: a complete copy is expected." in said_of["cut-50-MB.gguf"]
    assert "token" in said_of["cut-5-kB.gguf"]  # the array in which it ends
    for name in ("parent", "absolute", "link", "single-link"):
        assert "is refused" in said_of[name]
    assert "missing" in said_of["missing-shard"]
    assert not (tmp_path / "out").exists()


def mutated(data: bytes, header: int, chance: random.Random) -> bytes:
    """Change a few bytes of the header, as a damaged or a malicious file may have them."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(min(header, len(changed)))
        kind = chance.randrange(6)
        if kind == 0:
            changed[at] = chance.randrange(256)
        elif kind == 1:
            changed[at : at + 8] = U64(chance.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)))
        elif kind == 2:
            changed[at : at + 4] = U32(chance.randrange(40))
        elif kind == 3:
            del changed[at : at + chance.randrange(1, 40)]
        elif kind == 4:
            changed[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 20)))
        else:
            del changed[max(20, chance.randrange(len(changed))) :]
    return bytes(changed)


@pytest.mark.parametrize("n", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_mutated_file_opens_or_is_refused(tmp_path: Path, n: int) -> None:
    path = tmp_path / "tiny.gguf"
    metadata: dict[str, Any] = {
        "tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.eos_token_id": 1,
        "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
    }  # fmt: skip
    write_tiny(path, "qwen3", types={"attn": "Q4_1"}, metadata=metadata, sizes={"block_count": 1})
    data = path.read_bytes()
    header = min(each.start for each in read_gguf_header(path).tensors.values())
    chance = random.Random(n)
    n_opened, slowest_s = 0, 0.0
    for _ in range(n):
        path.write_bytes(mutated(data, header, chance))
        start = time.perf_counter()
        refused: UserError | None = None
        try:
            for read in open_gguf(path).tensors.values():
                read()
        except UserError as error:
            refused = error
        n_opened += refused is None
        assert refused is None or (refused.where == path and len(str(refused)) < 600)
        slowest_s = max(slowest_s, time.perf_counter() - start)
    assert 0 < n_opened < n
    assert slowest_s < 1


def test_reading_uses_no_memory_for_what_is_not_there(tmp_path: Path) -> None:
    # A file that is longer than its header, and claims an array as long as the file.
    path = tmp_path / "long.gguf"
    with open(path, "wb") as file:
        file.write(one_key(key("a.key", ARRAY, U32(0) + U64(400_000_000))))
        file.truncate(500_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"'a.key' states 400,000,000 values"):
        open_gguf(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
