"""Checkpoints: all that the next step depends on, whole or absent, never pickled.

    RUN/checkpoints/step-000500/model.json, model.safetensors    what `load` opens
                                optimizer.safetensors            momentum, averages, random state
                                state.json                       step, loader, schedule, checksums
    RUN/checkpoints/latest, best                                 text files with a folder's name

A folder is written under another name, synced and renamed, so a kill leaves it out or whole. Disks
fail all the same: `state.json` holds the SHA-256 of its neighbours and of its own content.

Training does not wait for the disk: `CheckpointWriter` copies what it is to keep, which takes
moments, and writes the copy in a thread of its own.
"""

import json
import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.files import (
    atomic_folder,
    read_json,
    remove_left_over,
    sha256_bytes,
    sha256_file,
    write_json,
    write_text,
)
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.train.optimizer import Optimizer
from groundup.weights.native import (
    fill_model,
    load_tensors,
    save_tensors,
    save_weights,
)

_log = logging.getLogger(__name__)
FORMAT_VERSION = 1
_RANDOM_CPU, _RANDOM_CUDA = "random/cpu", "random/cuda"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands, apart from the tensors."""

    step: int
    """Steps done."""
    n_targets: int
    """Targets learnt from."""
    elapsed_s: float
    """Seconds spent."""
    loader: dict[str, Any]
    """The loader's state."""
    tokenizer_fingerprint: str
    """Whose ids the model speaks."""
    first_validation_loss_nats: float | None = None
    """Validation loss before the first step."""
    best_step: int | None = None
    """Step of the best validation loss so far."""
    best_loss_nats: float | None = None
    """That loss."""
    rollbacks: tuple[int, ...] = ()
    """The steps at which the run diverged; after each it went back, and on at a lower rate."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of all that the next step depends on; training does not touch it."""

    config: GPTConfig
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    """Momentum, averages and the random state."""
    progress: Progress


def take_snapshot(model: GPT, optimizer: Optimizer, progress: Progress) -> Snapshot:
    """Copy a run that is between two steps."""

    def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}

    random = {_RANDOM_CPU: torch.get_rng_state()}
    if torch.cuda.is_available():
        random[_RANDOM_CUDA] = torch.cuda.get_rng_state()
    return Snapshot(
        config=model.config,
        weights=copied({name: weight.detach() for name, weight in model.named_parameters()}),
        optimizer=copied(optimizer.state()) | random,
        progress=progress,
    )


def save_checkpoint(folder: Path, snapshot: Snapshot, *, keep_last: int = 2) -> Path:
    """Write `folder`/step-NNNNNN, point `latest` (and `best`) to it, remove what is too old.

    Args:
        folder: The run's `checkpoints` folder.
        snapshot: What to write.
        keep_last: How many of the latest checkpoints stay; the best one stays as well.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: The disk is full or not writable; the checkpoints before this one are untouched.
    """
    progress = snapshot.progress
    goal = folder / f"step-{progress.step:06d}"
    with atomic_folder(goal) as temporary:
        save_weights(snapshot.config, snapshot.weights, temporary)
        save_tensors(snapshot.optimizer, temporary / "optimizer.safetensors")
        state = {
            "format": "groundup checkpoint",
            "version": FORMAT_VERSION,
            "progress": asdict(progress),
            "files": {file.name: sha256_file(file) for file in sorted(temporary.iterdir())},
        }
        write_json(temporary / "state.json", {**state, "sha256": _digest(state)})
    write_text(folder / "latest", goal.name + "\n")
    if progress.best_step == progress.step:
        write_text(folder / "best", goal.name + "\n")
    _remove_old(folder, keep_last)
    return goal


class CheckpointWriter:
    """Writes checkpoints while training goes on, one after the other.

    As a context manager it waits at its end until the last one is on the disk, whatever happened.

    Args:
        folder: The run's `checkpoints` folder; what killed runs left there half-written is removed.
        keep_last: As in `save_checkpoint`.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2) -> None:
        self.folder, self.keep_last = folder, keep_last
        remove_left_over(folder / "*")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: Future[Path] | None = None

    def save(self, model: GPT, optimizer: Optimizer, progress: Progress) -> None:
        """Copy the run and have the copy written.

        Only one checkpoint is on its way at a time: where the disk is slower than the steps between
        two, this waits for it, so that memory never holds more than one copy.

        Raises:
            UserError: The one before could not be written.
        """
        self.wait()
        snapshot = take_snapshot(model, optimizer, progress)
        self._last = self._pool.submit(
            save_checkpoint, self.folder, snapshot, keep_last=self.keep_last
        )

    def wait(self) -> None:
        """Come back when everything handed over is on the disk.

        Raises:
            UserError: It could not be written.
        """
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self.wait()
        elif self._last is not None and (failure := self._last.exception()) is not None:
            _log.warning("%s", failure)


def load_checkpoint(
    checkpoint: Path, model: GPT, optimizer: Optimizer, *, tokenizer_fingerprint: str
) -> Progress:
    """Put weights, optimiser and random state back as they were; give where the run stood.

    Raises:
        UserError: The checkpoint is damaged (the file is named), of another model, or of another
            tokenizer than the data's.
    """
    progress = verify_checkpoint(checkpoint)
    if progress.tokenizer_fingerprint != tokenizer_fingerprint:
        raise UserError(
            "this checkpoint speaks another tokenizer's ids than the data",
            need="the data it was trained on, or a new run",
            where=checkpoint,
            type_this="--out another/folder",
        )
    fill_model(model, load_tensors(checkpoint / "model.safetensors"), where=checkpoint)
    tensors = load_tensors(checkpoint / "optimizer.safetensors")
    random_cpu, random_cuda = tensors.pop(_RANDOM_CPU), tensors.pop(_RANDOM_CUDA, None)
    optimizer.load_state(tensors)
    torch.set_rng_state(random_cpu)
    if random_cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(random_cuda)
    return progress


def find_latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a `checkpoints` folder; damaged ones are named in the log.

    Returns:
        Its folder; None where there is none to go on from.
    """
    for checkpoint in sorted(folder.glob("step-*"), reverse=True):
        try:
            verify_checkpoint(checkpoint)
        except UserError as error:
            _log.warning("%s; the checkpoint before it is used", error)
            continue
        return checkpoint
    return None


def verify_checkpoint(checkpoint: Path) -> Progress:
    """Hold every file against its checksum.

    Raises:
        UserError: A file is missing or damaged, or of a version this program does not know.
    """
    path = checkpoint / "state.json"
    state = read_json(path)
    if not isinstance(state, dict) or state.get("format") != "groundup checkpoint":
        raise UserError("this is no checkpoint of ours", where=path)
    if state.get("version") != FORMAT_VERSION:
        raise UserError(
            f"a checkpoint of version {state.get('version')}",
            need=f"version {FORMAT_VERSION}",
            where=path,
        )
    if state.pop("sha256", None) != _digest(state):
        raise UserError("this file is damaged: its checksum is wrong", where=path)
    for name, checksum in state["files"].items():
        file = checkpoint / name
        if not file.is_file():
            raise UserError("this file of the checkpoint is missing", where=file)
        if sha256_file(file) != checksum:
            raise UserError("this file is damaged: its checksum is wrong", where=file)
    fields = state["progress"]
    return Progress(**{**fields, "rollbacks": tuple(fields.get("rollbacks", ()))})


def _digest(state: dict[str, Any]) -> str:
    return sha256_bytes(json.dumps(state, sort_keys=True).encode("utf-8"))


def _remove_old(folder: Path, keep_last: int) -> None:
    checkpoints = sorted(folder.glob("step-*"), reverse=True)
    kept = {checkpoint.name for checkpoint in checkpoints[: max(1, keep_last)]}
    best = folder / "best"
    if best.is_file():
        kept.add(best.read_text(encoding="utf-8").strip())
    for checkpoint in checkpoints:
        if checkpoint.name not in kept:
            shutil.rmtree(checkpoint)
