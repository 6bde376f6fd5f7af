"""A command that fails between its first write and its end leaves the data folder as it was."""

import errno
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Faults, digest, injected
from filelock import FileLock
from small_runs import WORDS

from groundup.base.errors import UserError
from groundup.base.undo import all_or_nothing, undo_interrupted
from groundup.cli.main import main
from groundup.data import encode as encoding
from groundup.data.config import (
    EncodeConfig,
    PrepareAndEncodeConfig,
    TrainAndEncodeConfig,
    VerifyConfig,
)
from groundup.data.encode import encode
from groundup.data.pipeline import prepare_and_encode, train_and_encode
from groundup.data.store import TokenStore
from groundup.data.verify import verify
from groundup.text import audit
from groundup.text.config import PrepareConfig
from groundup.text.corpus import SIDES
from groundup.text.prepare import prepare
from groundup.text.stores import store_manifest


def documents(path: Path, seeds: range, mark: str = "") -> str:
    rows = (" ".join(random.Random(seed).choices(WORDS, k=30)) + mark for seed in seeds)
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), "utf-8")
    return str(path)


def append(data: Path, source: str, **more: Any) -> None:
    prepare_and_encode(
        PrepareAndEncodeConfig(sources=(source,), out=data, append=True, audit=False, **more)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data folders, `bpe` and `characters`, and what is appended to them."""
    folder = tmp_path_factory.mktemp("made")
    source = documents(folder / "1.jsonl", range(40))
    for kind in ("bpe", "characters"):
        config = PrepareAndEncodeConfig(
            sources=(source,), out=folder / kind, validation_frac=0.3, audit=False
        )
        prepare_and_encode(config)
        train_and_encode(TrainAndEncodeConfig(data=folder / kind, vocab_size=270, kind=kind))  # type: ignore[arg-type]
    documents(folder / "2.jsonl", range(40, 80))
    documents(folder / "omega.jsonl", range(40, 80), " Ω")
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "bpe", tmp_path / "data")


DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("error", "step", "stays"),
    [
        pytest.param(DISK_FULL, 1, False, marks=pytest.mark.slow),
        (DISK_FULL, 9, False),
        (DISK_FULL, 7, True),
        (KeyboardInterrupt(), 8, False),
        (SystemExit(3), 11, False),
    ],
)
def test_an_append_that_fails_at_any_write_changes_nothing(
    made: Path, data: Path, error: BaseException, step: int, stays: bool
) -> None:
    before, source = digest(data), str(made / "2.jsonl")
    counting = Faults(data)
    copy = shutil.copytree(data, data.parent / "copy")
    counting.folder = str(copy.resolve())
    with injected(counting):
        append(copy, source)
    appended = digest(copy)
    assert counting.n > 60, "points were found"
    for at in range(1, counting.n + 1, step):
        with injected(Faults(data, error, at, stays=stays)):
            try:
                append(data, source)
            except (UserError, OSError, KeyboardInterrupt, SystemExit):
                assert digest(data) == before, f"point {at}"
            else:  # what is removed at the end may stay for the next command
                undo_interrupted(data)
                assert digest(data) == appended, f"point {at}"
                shutil.rmtree(data)
                shutil.copytree(made / "bpe", data)
    append(data, source)
    assert digest(data) == appended


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError("a worker died")


def fail_for_validation(store: TokenStore, *rest: Any, **more: Any) -> Any:
    if store.folder.name == "validation":
        raise RuntimeError
    return append_parts(store, *rest, **more)


append_parts = TokenStore.append_parts


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (audit.Auditor, "finish", fail),
        (encoding, "encode_part", fail),
        (encoding, "read_part", fail),
        (encoding, "fast_encoder", fail),
        (TokenStore, "append_parts", fail_for_validation),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_append_that_fails_in_any_step_changes_nothing(
    made: Path, data: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, broken: Any
) -> None:
    before = digest(data)
    monkeypatch.setattr(owner, name, broken)
    config = PrepareAndEncodeConfig(sources=(str(made / "2.jsonl"),), out=data, append=True)
    with pytest.raises(RuntimeError):
        prepare_and_encode(config)
    assert digest(data) == before
    monkeypatch.undo()
    prepare_and_encode(config)
    assert verify(VerifyConfig(data=data)).notes == ()


def test_characters_without_an_id_change_nothing_and_block_nothing(
    made: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(made / "characters", tmp_path / "data")
    before = digest(data)
    for _ in range(2):
        with pytest.raises(UserError, match=r"omega\.jsonl:1: Nothing was appended.*Ω") as caught:
            append(data, str(made / "omega.jsonl"))
        assert digest(data) == before
    for command in caught.value.command.split(" && "):
        assert main(shlex.split(command)[1:]) == 0
    other = tmp_path / "data-2"
    manifests = [store_manifest(other / side) or {} for side in SIDES]
    assert sum(manifest["n_documents"] for manifest in manifests) == 80
    append(data, str(made / "2.jsonl"))
    assert verify(VerifyConfig(data=data)).notes == ()


def test_an_append_to_a_damaged_store_that_fails_changes_nothing(made: Path, data: Path) -> None:
    """The damaged store would be written again, in place of the present one."""
    shard = data / "train" / "tokens-00000.bin"
    sound = shard.read_bytes()
    shard.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
    before = digest(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenStore, "append_parts", fail)  # of the validation store
        with pytest.raises(RuntimeError):
            append(data, str(made / "2.jsonl"))
    assert digest(data) == before


def test_without_stores_an_append_is_all_or_nothing_too(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    config = PrepareConfig(sources=(str(made / "1.jsonl"),), out=data, audit=False)
    prepare(config)
    before = digest(data)
    bad = tmp_path / "bad.jsonl"
    bad.write_text((made / "2.jsonl").read_text("utf-8") + "not json\n", "utf-8")
    with pytest.raises(UserError, match=r"bad\.jsonl"):
        append(data, str(bad))
    assert digest(data) == before
    append(data, str(made / "2.jsonl"))
    assert not (data / "train").exists()


def prepared_again(data: Path, made: Path) -> None:
    source = data.parent / "edited.jsonl"
    if not source.exists():
        documents(source, range(5, 45))
    config = PrepareAndEncodeConfig(
        sources=(str(source),), out=data, audit=False, overwrite=True, tokenizer=data / "tokenizer"
    )
    prepare_and_encode(config)


def trained_again(data: Path, made: Path) -> None:
    train_and_encode(TrainAndEncodeConfig(data=data, vocab_size=280, overwrite=True))


def encoded_again(data: Path, made: Path) -> None:
    encode(EncodeConfig(data=data, tokenizer=made / "characters" / "tokenizer", overwrite=True))


@pytest.mark.parametrize("command", [prepared_again, trained_again, encoded_again])
def test_replacing_is_all_or_nothing(
    made: Path, data: Path, command: Callable[[Path, Path], None]
) -> None:
    before = digest(data)
    counting = Faults(data)
    with injected(counting):
        command(data, made)
    replaced = digest(data)
    assert replaced != before
    for at in range(1, counting.n + 1, 5):
        shutil.rmtree(data)
        shutil.copytree(made / "bpe", data)
        with injected(Faults(data, DISK_FULL, at)):
            try:
                command(data, made)
            except (UserError, OSError):
                assert digest(data) == before, f"point {at}"
            else:
                undo_interrupted(data)
                assert digest(data) == replaced, f"point {at}"


def test_a_killed_append_is_undone_by_the_next_command(made: Path, data: Path) -> None:
    before = digest(data)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from groundup.data import encode\n"
        "from groundup.data.store import TokenStore\n"
        "real = TokenStore.append_parts\n"
        "def die(self, *rest, **more):\n"
        "    if self.folder.name == 'validation': os.kill(os.getpid(), 9)\n"
        "    return real(self, *rest, **more)\n"
        "TokenStore.append_parts = die\n"
        "from groundup.data.config import PrepareAndEncodeConfig\n"
        "from groundup.data.pipeline import prepare_and_encode\n"
        "prepare_and_encode(PrepareAndEncodeConfig(sources=(sys.argv[1],), out=Path(sys.argv[2]),"
        " append=True, audit=False))"
    )
    source = str(made / "2.jsonl")
    done = subprocess.run([sys.executable, "-c", code, source, str(data)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(verify(VerifyConfig(data=data)).parts) == 3, "what is readable is consistent"
    encode(EncodeConfig(data=data))
    assert digest(data) == before
    append(data, source)
    append(shutil.copytree(made / "bpe", data.parent / "other"), source)
    assert digest(data) == digest(data.parent / "other")


@pytest.mark.slow
def test_killed_at_random_moments_an_append_is_all_or_nothing(made: Path, data: Path) -> None:
    source = documents(data.parent / "many.jsonl", range(100, 4000))
    other = shutil.copytree(data, data.parent / "other")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from groundup.data.config import PrepareAndEncodeConfig\n"
        "from groundup.data.pipeline import prepare_and_encode\n"
        "prepare_and_encode(PrepareAndEncodeConfig(sources=(sys.argv[1],), out=Path(sys.argv[2]),"
        " append=True, audit=False))"
    )
    started_at = time.monotonic()
    subprocess.run([sys.executable, "-c", code, source, str(other)], check=True)
    elapsed_s = time.monotonic() - started_at
    before, appended = digest(data), digest(other)
    rng = random.Random(0)
    for _ in range(15):
        process = subprocess.Popen([sys.executable, "-c", code, source, str(data)])
        time.sleep(rng.uniform(0.5, 1.0) * elapsed_s)
        process.kill()
        process.wait()
        verify(VerifyConfig(data=data))
        encode(EncodeConfig(data=data))
        assert digest(data) in (before, appended)
        if digest(data) == appended:
            shutil.rmtree(data)
            shutil.copytree(made / "bpe", data)


def test_two_processes_do_not_change_a_folder_together(data: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from groundup.base.undo import all_or_nothing\n"
        "with all_or_nothing(Path(sys.argv[1]), ['train']):\n"
        "    print('ready', flush=True); sys.stdin.read()"
    )
    before = digest(data)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    for command in (lambda: undo_interrupted(data), lambda: encode(EncodeConfig(data=data))):
        with pytest.raises(UserError, match="Another process"):
            command()
    process.communicate(b"")
    assert digest(data) == before


def test_nor_one_without_a_corpus_or_stores(data: Path, tmp_path: Path) -> None:
    source, new = documents(tmp_path / "1.jsonl", range(40)), tmp_path / "new"
    for side in SIDES:
        shutil.rmtree(data / side)
    commands = {
        new / ".corpus.0.tmp": lambda: prepare(sources=[source], out=new, audit=False),
        data / ".train.0.tmp": lambda: encode(EncodeConfig(data=data)),
    }
    for temporary, command in commands.items():  # it belongs to the process that holds the lock
        temporary.mkdir(parents=True)
        with FileLock(temporary.with_name(".undo.lock")):
            with pytest.raises(UserError, match="Another process"):
                command()
            assert temporary.is_dir()
        command()
        assert not temporary.exists()


def test_without_hard_links_files_are_copied(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(data)

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", no_links)

    def change() -> None:
        with all_or_nothing(data, ["train", "absent"]):
            shutil.rmtree(data / "train")
            (data / "train").mkdir()
            (data / "train" / "new").write_text("x")
            (data / "absent").mkdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert digest(data) == before


def test_a_store_on_another_disk_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, disk = tmp_path / "data", tmp_path / "disk"
    for folder in (data, disk):
        folder.mkdir()
    (data / "train").symlink_to(disk)
    (disk / "tokens").write_text("all of it")
    replace, link = os.replace, os.link

    def within_a_disk(call: Callable[..., None]) -> Callable[..., None]:
        def checked(old: Path, new: Path) -> None:
            if (disk in old.resolve().parents) != (disk in new.resolve().parents):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            call(old, new)

        return checked

    monkeypatch.setattr(os, "replace", within_a_disk(replace))
    monkeypatch.setattr(os, "link", within_a_disk(link))

    def change() -> None:
        with all_or_nothing(data, ["train"]):
            (disk / "tokens").unlink()
            (disk / "new").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert {path: path.read_text() for path in disk.iterdir()} == {disk / "tokens": "all of it"}
    assert list(data.iterdir()) == [data / "train"]
