"""Preparing and encoding: any kind of source, killed at any moment, appended to, on Ray."""

import csv
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.base.errors import UserError
from groundup.data import encode
from groundup.data.config import PrepareAndEncodeConfig, VerifyConfig
from groundup.data.pipeline import PrepareAndEncodeResult, prepare_and_encode
from groundup.data.store import TokenStore
from groundup.data.verify import verify
from groundup.text import corpus
from groundup.text.corpus import read_corpus
from groundup.tokenizer.train_bpe import train_bpe

pytestmark = pytest.mark.alone

WORDS = "the window slides over a text and each token is a task of its own".split()  # noqa: SIM905


def prose(seed: int, n_words: int = 60) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(n_words)) + f" {seed}."


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe([prose(i) for i in range(20)], 300).save(folder / "t")
    return str(folder / "t")


def jsonl(path: Path, seeds: range) -> Path:
    path.write_text("".join(json.dumps({"text": prose(i)}) + "\n" for i in seeds))
    return path


def run(out: Path, *sources: Path | str, **options: object) -> PrepareAndEncodeResult:
    if "tokenizer" in options:
        options["tokenizer"] = Path(str(options["tokenizer"]))
    config = PrepareAndEncodeConfig(sources=tuple(map(str, sources)), out=out, **options)  # type: ignore[arg-type]
    return prepare_and_encode(config)


def digest(folder: Path) -> dict[str, str]:
    """The hash of every file of the stores and the corpus, and that there is no other."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tokenizer" not in path.parts
    }


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    zstandard = pytest.importorskip("zstandard")
    texts = [prose(i) for i in range(40)]
    rows = [json.dumps({"text": t}) for t in texts]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[:10]).encode()))
    packed = zstandard.ZstdCompressor().compress("\n".join(rows[10:20]).encode())
    (tmp_path / "b.jsonl.zst").write_bytes(packed)
    with open(tmp_path / "c.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows([i, t + ',\n"quoted"'] for i, t in enumerate(texts[20:30]))
    parquet.write_table(pyarrow.table({"text": texts[30:]}), tmp_path / "d.parquet")
    report = run(tmp_path / "data", tmp_path)
    assert report.train.n_documents + report.validation.n_documents == 40
    found = {
        d.text.removesuffix(',\n"quoted"')
        for side in ("train", "validation")
        for d in read_corpus(tmp_path / "data", side)
    }
    assert found == set(texts)


@pytest.mark.parametrize("name", ["c.csv", "d.parquet"])
def test_a_missing_column_names_those_there(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        table = pyarrow.table({"body": ["x"]})
        pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / name)
    else:
        (tmp_path / name).write_text("body\nx\n")
    with pytest.raises(UserError, match=r"it has: body.*text_field='body'"):
        run(tmp_path / "data", tmp_path / name)
    assert not (tmp_path / "data").exists()


def test_urls_are_read_through_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for part in range(3):
        lines = [json.dumps({"text": prose(100 * part + i)}) for i in range(10)]
        memory.pipe(f"/corpus/part{part}.jsonl", "\n".join(lines).encode())
    report = run(tmp_path / "data", "memory://corpus/*.jsonl")
    assert report.split_rule == "by last part"
    assert report.train.n_documents == report.validation.n_documents == 30
    with pytest.raises(UserError, match="nothing at this URL"):
        run(tmp_path / "none", "memory://nowhere/*.jsonl")


def test_a_document_larger_than_a_piece_is_complete(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(prose(i) for i in range(4000))
    assert len(text) > 2**20
    (tmp_path / "one.txt").write_text(text)
    monkeypatch.setattr(corpus, "UNIT_BYTES", 2**18)
    run(tmp_path / "data", tmp_path / "one.txt", tokenizer=tokenizer_folder)
    sides = [list(read_corpus(tmp_path / "data", side)) for side in ("train", "validation")]
    assert "".join(d.text for side in sides for d in side) == text
    tokenizer = train_bpe([prose(i) for i in range(20)], 300)
    for side, documents in zip(("train", "validation"), sides, strict=True):
        store = TokenStore.open(tmp_path / "data" / side)
        ids = tokenizer.encode(documents[0].text)
        assert store.read(0, store.n_tokens).tolist() == [*ids, store.manifest["end_of_text"]]
        assert store.document_starts.tolist() == [0]


def test_the_same_sources_are_not_read_again(tmp_path: Path, tokenizer_folder: str) -> None:
    source = jsonl(tmp_path / "a.jsonl", range(1200))
    run(tmp_path / "data", source)
    before = digest(tmp_path / "data")
    assert run(tmp_path / "data", source).n_skipped_sources == 1
    assert digest(tmp_path / "data") == before
    jsonl(source, range(1300))
    report = run(tmp_path / "data", source)
    assert report.train.n_documents + report.validation.n_documents == 1300


def test_appending_keeps_ids_and_split(tmp_path: Path, tokenizer_folder: str) -> None:
    first, second = jsonl(tmp_path / "1.jsonl", range(1100)), jsonl(tmp_path / "2.jsonl", range(1100, 1500))  # noqa: E501  # fmt: skip
    data = tmp_path / "data"
    run(data, first, tokenizer=tokenizer_folder)
    old = {
        side: (TokenStore.open(data / side), [d.text for d in read_corpus(data, side)])
        for side in ("train", "validation")
    }
    ids = {side: store.read(0, store.n_tokens).tolist() for side, (store, _) in old.items()}
    report = run(data, second, append=True)
    assert report.train.n_documents + report.validation.n_documents == 1500
    for side, (store, texts) in old.items():
        longer = TokenStore.open(data / side)
        longer.verify()
        assert longer.read(0, store.n_tokens).tolist() == ids[side]
        assert [d.text for d in read_corpus(data, side)][: len(texts)] == texts
        assert longer.n_documents > store.n_documents
    assert run(data, second, append=True).n_skipped_sources == 1, "nothing is added twice"
    for other in (f"{tmp_path}/[2]*.jsonl", f"{tmp_path}/../{tmp_path.name}/2.jsonl"):
        assert run(data, other, append=True).n_skipped_sources == 1, "by whatever name"
    assert len(verify(VerifyConfig(data=data)).parts) == 3
    undisturbed = tmp_path / "undisturbed"
    assert run(undisturbed, first, second, tokenizer=tokenizer_folder).audit == report.audit
    for side in old:
        together, apart = TokenStore.open(undisturbed / side), TokenStore.open(data / side)
        assert (
            together.read(0, together.n_tokens).tolist() == apart.read(0, apart.n_tokens).tolist()
        )
        assert together.document_starts.tolist() == apart.document_starts.tolist()


def test_an_append_that_failed_leaves_what_was(tmp_path: Path, tokenizer_folder: str) -> None:
    data = tmp_path / "data"
    run(data, jsonl(tmp_path / "1.jsonl", range(1100)), tokenizer=tokenizer_folder)
    before = [d.text for d in read_corpus(data, "train")]
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"text": prose(9999)}) + "\nnot json\n")
    with pytest.raises(UserError, match=r"bad.jsonl:2"):
        run(data, bad, append=True)
    assert [d.text for d in read_corpus(data, "train")] == before
    verify(VerifyConfig(data=data))
    with pytest.raises(UserError, match="nothing to append to"):
        run(tmp_path / "absent", bad, append=True)


def test_a_flipped_byte_is_named(tmp_path: Path, tokenizer_folder: str) -> None:
    data = tmp_path / "data"
    run(data, jsonl(tmp_path / "1.jsonl", range(1100)), tokenizer=tokenizer_folder)
    for name in ("train/tokens-00000.bin", "validation/documents.npy", "corpus/train.jsonl"):
        path = data / name
        sound = path.read_bytes()
        at = random.Random(name).randrange(len(sound))
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises(UserError, match=name):
            verify(VerifyConfig(data=data))
        run(data, tmp_path / "1.jsonl", tokenizer=tokenizer_folder)  # what it says to type
        verify(VerifyConfig(data=data))
        assert path.read_bytes() == sound


def test_finished_parts_are_kept(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "UNIT_BYTES", 2**15)
    source = jsonl(tmp_path / "a.jsonl", range(1500))
    run(tmp_path / "undisturbed", source, tokenizer=tokenizer_folder)
    encoded: list[int] = []
    real = encode.encode_part

    def interrupted(part: encode.Part, *rest: object) -> None:
        if len(encoded) == 5:
            raise KeyboardInterrupt
        encoded.append(part.start)
        real(part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(encode, "encode_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "data", source, tokenizer=tokenizer_folder)
    first = list(encoded)
    with pytest.raises(UserError, match="no token store"):
        TokenStore.open(tmp_path / "data" / "train")
    monkeypatch.setattr(encode, "encode_part", lambda part, *rest: (encoded.append(part.start), real(part, *rest)))  # noqa: E501  # fmt: skip
    run(tmp_path / "data", source, tokenizer=tokenizer_folder)
    again = encoded[len(first) :]
    assert len(set(first) & set(again)) <= 1, "only validation's first part shares a start"
    assert digest(tmp_path / "data") == digest(tmp_path / "undisturbed")


_KILLED = """
import sys
from groundup.text import corpus
corpus.UNIT_BYTES = 2**15
from pathlib import Path
from groundup.data.config import PrepareAndEncodeConfig
from groundup.data.pipeline import prepare_and_encode
prepare_and_encode(PrepareAndEncodeConfig(sources=(sys.argv[1],), out=Path(sys.argv[2]),
                                          tokenizer=sys.argv[3], append=len(sys.argv) > 4))
"""


@pytest.mark.parametrize("append", [False, True])
def test_killed_at_any_moment_it_ends_the_same(
    tmp_path: Path, tokenizer_folder: str, append: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` at random moments, run again each time: bit-identical to an undisturbed run."""
    monkeypatch.setattr(corpus, "UNIT_BYTES", 2**15)
    first = jsonl(tmp_path / "1.jsonl", range(1200))
    second = jsonl(tmp_path / "2.jsonl", range(1200, 4000)) if append else first
    for name in ("undisturbed", "killed"):
        if append:
            run(tmp_path / name, first, tokenizer=tokenizer_folder)
    command = [sys.executable, "-c", _KILLED, str(second)]
    options = [tokenizer_folder, *(["append"] if append else [])]
    started_at = time.monotonic()
    subprocess.run([*command, str(tmp_path / "undisturbed"), *options], check=True)
    undisturbed_s = time.monotonic() - started_at
    rng = random.Random(int(append))
    for _ in range(4):
        process = subprocess.Popen([*command, str(tmp_path / "killed"), *options])
        time.sleep(rng.uniform(0.3, 1.0) * undisturbed_s)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for side in ("train", "validation"):
            if (tmp_path / "killed" / side / "manifest.json").exists():
                TokenStore.open(tmp_path / "killed" / side).verify()  # complete, or absent
    subprocess.run([*command, str(tmp_path / "killed"), *options], check=True)
    assert digest(tmp_path / "killed") == digest(tmp_path / "undisturbed")


def test_killed_when_the_store_was_complete_nothing_is_left_over(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def die(folder: Path, **how: Any) -> None:
        if "-parts-" in folder.name:
            raise KeyboardInterrupt
        remove(folder, **how)

    source = jsonl(tmp_path / "1.jsonl", range(300))
    run(tmp_path / "undisturbed", source, tokenizer=tokenizer_folder)
    monkeypatch.setattr(shutil, "rmtree", die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", source, tokenizer=tokenizer_folder)
    monkeypatch.undo()
    assert list((tmp_path / "killed").glob(".train-parts-*"))
    run(tmp_path / "killed", source, tokenizer=tokenizer_folder)
    assert digest(tmp_path / "killed") == digest(tmp_path / "undisturbed")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_follow_the_corpus(tmp_path: Path, tokenizer_folder: str) -> None:
    """A text of 60 MB, its last word half a megabyte, under the same 300 MB as any other."""
    text = prose(1, 2000)
    with open(tmp_path / "big.txt", "w") as file:
        for _ in range(60_000_000 // len(text)):
            file.write(text + "\n")
        file.write("a" * 500_000)
    code = f"""
from pathlib import Path
from typing import Any
from groundup.data.config import PrepareAndEncodeConfig
from groundup.data.pipeline import prepare_and_encode
prepare_and_encode(PrepareAndEncodeConfig(sources=({str(tmp_path / "big.txt")!r},),
                                          tokenizer={tokenizer_folder!r},
                                          out=Path({str(tmp_path / "data")!r})))
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert float(done.stdout.split()[-1]) < 300, "MB"


@pytest.mark.slow
def test_a_ray_cluster_makes_the_same_store_though_a_worker_is_killed(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(corpus, "UNIT_BYTES", 2**16)
    source = jsonl(tmp_path / "a.jsonl", range(6000))
    run(tmp_path / "undisturbed", source, tokenizer=tokenizer_folder)
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    try:
        import threading

        def kill_one() -> None:
            for _ in range(600):
                listing = subprocess.run(["pgrep", "-f", "ray::"], capture_output=True, text=True)
                workers = [int(pid) for pid in listing.stdout.split()]
                busy = [pid for pid in workers if "Encoder" in _command_line(pid)]
                if busy:
                    os.kill(busy[0], signal.SIGKILL)
                    killed.append(busy[0])
                    return
                time.sleep(0.05)

        killed: list[int] = []
        killer = threading.Thread(target=kill_one)
        killer.start()
        run(tmp_path / "data", source, tokenizer=tokenizer_folder, engine="ray")
        killer.join()
    finally:
        ray.shutdown()
    assert killed
    assert digest(tmp_path / "data") == digest(tmp_path / "undisturbed")


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_character_stores_and_custom_patterns_are_the_tokenizer_s_own(tmp_path: Path) -> None:
    from groundup.tokenizer.characters import CharacterTokenizer

    source = jsonl(tmp_path / "a.jsonl", range(40))
    texts = [prose(i) for i in range(40)]
    for tokenizer in (
        CharacterTokenizer.from_text("".join(texts)),
        train_bpe(texts, 300, pattern=r".{1,7}"),
    ):
        tokenizer.save(tmp_path / "t")
        run(tmp_path / "data", source, tokenizer=str(tmp_path / "t"), overwrite=True)
        store = TokenStore.open(tmp_path / "data" / "train")
        end = store.manifest["end_of_text"]
        expected = [
            index
            for document in read_corpus(tmp_path / "data", "train")
            for index in [*tokenizer.encode(document.text), end]
        ]
        assert np.array_equal(store.read(0, store.n_tokens), expected)


def test_a_hugging_face_dataset_is_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "set").mkdir()
    jsonl(tmp_path / "set" / "train.jsonl", range(30))
    report = run(tmp_path / "data", f"hf:{tmp_path / 'set'}")
    assert report.train.n_documents + report.validation.n_documents == 30
    with pytest.raises(UserError, match="it has: text"):
        run(tmp_path / "none", f"hf:{tmp_path / 'set'}", text_field="body")
    with pytest.raises(UserError, match="cannot be read"):
        run(tmp_path / "none", f"hf:{tmp_path / 'absent'}")
