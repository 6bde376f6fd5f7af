"""Checkpoints are written while training goes on, whole or absent, whatever the disk does."""

import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from small_runs import KilledError, assert_same_weights, kill_at, settings

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.pretraining.pretrain import pretrain
from groundup.train import checkpoint
from groundup.train.checkpoint import (
    CheckpointWriter,
    find_latest,
    load_checkpoint,
    save_checkpoint,
    take_snapshot,
)
from groundup.train.checkpoint_state import Progress, write_progress
from groundup.train.optimizer import Optimizer

CONFIG = GPTConfig(vocab_size=17, context_length=8, d_model=16, n_layers=1, n_heads=2)


def progress(step: int) -> Progress:
    return Progress(
        step=step, n_targets=8 * step, elapsed_s=1.0, loader={}, tokenizer_fingerprint="ours"
    )


def one_step(model: GPT, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    ids = torch.arange(8)[None] % 17
    model.loss(ids, (ids + 1) % 17).backward()
    optimizer.step(1.0)


def test_a_snapshot_is_not_moved_by_the_next_step():
    model = GPT(CONFIG)
    optimizer = Optimizer(model)
    one_step(model, optimizer)
    snapshot = take_snapshot(model, optimizer, progress(1))
    before = {
        name: tensor.clone() for name, tensor in (snapshot.weights | snapshot.optimizer).items()
    }
    one_step(model, optimizer)
    for name, tensor in (snapshot.weights | snapshot.optimizer).items():
        assert torch.equal(tensor, before[name]), name


def test_training_goes_on_while_the_disk_works(tmp_path, monkeypatch):
    let_go, save = threading.Event(), checkpoint.save_checkpoint

    def slow(*arguments, **options):
        assert let_go.wait(30)
        return save(*arguments, **options)

    monkeypatch.setattr(checkpoint, "save_checkpoint", slow)
    model = GPT(CONFIG)
    optimizer = Optimizer(model)
    with CheckpointWriter(tmp_path) as writer:
        writer.save(model, optimizer, progress(1))
        stored = {name: p.detach().clone() for name, p in model.named_parameters()}
        one_step(model, optimizer)  # would wait for ever if the writer were waited for
        assert find_latest(tmp_path) is None
        let_go.set()
    found = find_latest(tmp_path)
    assert found is not None
    assert load_checkpoint(found, model, optimizer, tokenizer_fingerprint="ours") == progress(1)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, stored[name]), name


def test_what_cannot_be_written_is_told_at_the_next_save_or_the_end(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise UserError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_checkpoint", full)
    model = GPT(CONFIG)
    optimizer = Optimizer(model)
    writer = CheckpointWriter(tmp_path)
    writer.save(model, optimizer, progress(1))
    with pytest.raises(UserError, match="No space"):
        writer.save(model, optimizer, progress(2))
    with pytest.raises(UserError, match="No space"), CheckpointWriter(tmp_path) as writer:
        writer.save(model, optimizer, progress(1))


def test_an_error_of_the_run_goes_before_the_disks(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise UserError("No space left on device")

    def stopped() -> None:
        with CheckpointWriter(tmp_path) as writer:
            model = GPT(CONFIG)
            writer.save(model, Optimizer(model), progress(1))
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_checkpoint", full)
    with pytest.raises(KeyboardInterrupt):
        stopped()


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    (tmp_path / ".step-000004.abcd1234.tmp").mkdir(parents=True)
    (tmp_path / ".latest.abcd1234.tmp").write_text("st")
    (tmp_path / "step-000002").mkdir()
    with CheckpointWriter(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_the_newest_stay_when_the_step_gets_another_digit(tmp_path):
    model = GPT(CONFIG)
    optimizer = Optimizer(model)
    for step in (999_998, 999_999, 1_000_000, 1_000_001):
        save_checkpoint(tmp_path, take_snapshot(model, optimizer, progress(step)), keep_last=2)
    assert {path.name for path in tmp_path.glob("step-*")} == {"step-1000000", "step-1000001"}
    assert find_latest(tmp_path) == tmp_path / "step-1000001"


def test_what_a_checkpoint_says_of_the_run_can_change(tmp_path):
    model = GPT(CONFIG)
    optimizer = Optimizer(model)
    saved = save_checkpoint(tmp_path, take_snapshot(model, optimizer, progress(3)))
    write_progress(saved, dataclasses.replace(progress(3), rollbacks=(5,)))
    loaded = load_checkpoint(saved, model, optimizer, tokenizer_fingerprint="ours")
    assert loaded.rollbacks == (5,)
    (saved / "model.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        write_progress(saved, progress(3))


_RUN = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from small_runs import settings
from groundup.base.errors import UserError
from groundup.pretraining.pretrain import pretrain
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill_the_disk(step):
    if step.step == 7:  # from here on no file may pass a kilobyte, as on a disk that is full
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    pretrain(settings(Path(sys.argv[2]), segment=int(sys.argv[3]) or None), fill_the_disk)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("segment", [None, pytest.param(5, marks=pytest.mark.slow)])
def test_a_full_disk_leaves_the_checkpoints_before_and_the_run_goes_on_later(data, segment):
    """A real process whose writes fail: the system refuses every byte beyond the limit."""
    whole = pretrain(settings(data, out=data.parent / "whole", segment=segment))
    command = [sys.executable, "-c", _RUN, str(Path(__file__).parents[1]), str(data)]
    command.append(str(segment or 0))
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert "free space is expected" in done.stdout
    run = data.parent / "run"
    assert {p.name for p in (run / "checkpoints").iterdir()} >= {"step-000005", "latest"}
    assert not list((run / "checkpoints").glob(".*"))
    for line in (run / "metrics.jsonl").read_text().splitlines()[:-1]:
        json.loads(line)
    result = pretrain(settings(data, segment=segment))
    assert result.run == run
    assert result.resumed_from_step >= 5
    assert_same_weights(whole.run, run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))


def test_the_kept_are_the_latest_and_the_best(data):
    with pytest.raises(KilledError):
        pretrain(settings(data, checkpoint_every=1, keep_checkpoints=2), kill_at(11))
    names = {path.name for path in (data.parent / "run/checkpoints").glob("step-*")}
    best = (data.parent / "run/checkpoints/best").read_text().strip()
    assert names == {"step-000009", "step-000010", best}  # killed before the eleventh was saved


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*"))


def test_killed_between_the_checkpoint_and_its_name_the_best_stays(tmp_path, monkeypatch):
    model = GPT(CONFIG)
    optimizer = Optimizer(model)

    def save(step: int, best: int) -> None:
        where = dataclasses.replace(progress(step), best_step=best)
        save_checkpoint(tmp_path, take_snapshot(model, optimizer, where), keep_last=1)

    def killed(*_):
        raise KilledError

    save(10, best=10)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "point_to", killed)
        with pytest.raises(KilledError):
            save(20, best=20)
    save(30, best=20)
    assert names(tmp_path) == ["step-000020", "step-000030"]
    assert (tmp_path / "best").read_text() == "step-000020\n"
    assert (tmp_path / "latest").read_text() == "step-000030\n"


def test_a_damaged_one_ahead_takes_no_place_of_the_kept(tmp_path):
    model = GPT(CONFIG)
    optimizer = Optimizer(model)
    (tmp_path / "step-000040").mkdir(parents=True)
    save_checkpoint(tmp_path, take_snapshot(model, optimizer, progress(20)), keep_last=1)
    save_checkpoint(tmp_path, take_snapshot(model, optimizer, progress(30)), keep_last=1)
    assert names(tmp_path) == ["step-000030", "step-000040"]
    assert find_latest(tmp_path).name == "step-000030"


def test_a_run_whose_best_checkpoint_is_gone_finds_another(data, caplog):
    config = settings(data)
    with pytest.raises(KilledError):
        pretrain(config, kill_at(7))
    checkpoints = config.out / "checkpoints"
    (checkpoints / "best").write_text("step-000099\n")  # of a checkpoint that is not there
    stood = find_latest(checkpoints)
    assert stood is not None
    where = dataclasses.replace(checkpoint.verify_checkpoint(stood), best_step=3)
    write_progress(stood, where)
    result = pretrain(config)
    assert "The best checkpoint, of step 3, is missing" in caplog.text
    assert (checkpoints / "best").read_text() == f"step-{result.best_step:06d}\n"
    # All steps made, and nothing to open: said, not a traceback.
    (result.run / "manifest.json").unlink()
    last = dataclasses.replace(checkpoint.verify_checkpoint(checkpoints / "step-000012"))
    write_progress(checkpoints / "step-000012", dataclasses.replace(last, best_step=3))
    with pytest.raises(UserError, match="its best checkpoint is missing"):
        pretrain(config)
