"""Checkpoints: all that the next step depends on, whole or absent, never pickled.

    RUN/checkpoints/step-000500/model.json, model.safetensors    what `load` opens
                                optimizer.safetensors            momentum, averages, random state
                                state.json                       step, loader, schedule, checksums
    RUN/checkpoints/latest, best                                 text files with a folder's name

A folder is written under another name, synced and renamed, so a kill leaves it out or whole. Disks
fail all the same: `state.json` holds the SHA-256 of its neighbours and of its own content.

Training does not wait for the disk: `CheckpointWriter` copies what it is to keep, which takes
moments, and writes the copy in a thread of its own.

Where several processes share the weights each writes its parts, and torch's distributed checkpoint
joins them to the same files. Each process reads of them what it holds, so a run goes on with any
number of processes.
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
import torch.distributed
from torch import Tensor

from groundup.base.checkpoints import first_intact, list_checkpoints, step_name
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
from groundup.train.distributed import ALONE, World
from groundup.train.optimizer import Optimizer
from groundup.train.sharding import copied_to_cpu, is_shared
from groundup.weights.checkpoint_format import (
    describe_weights,
    fill_model,
    load_tensors,
    save_tensors,
)

_log = logging.getLogger(__name__)
FORMAT_VERSION = 1
_RANDOM_CPU, _RANDOM_CUDA = "random/cpu", "random/cuda"
_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"


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
    steps_s: float | None = None
    """Under a budget, how many seconds the steps may take."""
    rollbacks: tuple[int, ...] = ()
    """The steps at which the run diverged; after each it went back, and on at a lower rate."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of all that the next step depends on (our part of it); training does not touch it."""

    config: GPTConfig
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    """Momentum, averages and the random state."""
    progress: Progress

    @property
    def is_shared(self) -> bool:
        """Whether other processes hold other parts."""
        return any(is_shared(weight) for weight in self.weights.values())


def take_snapshot(
    model: GPT, optimizer: Optimizer, progress: Progress, world: World = ALONE
) -> Snapshot:
    """Copy a run that is between two steps."""

    def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: copied_to_cpu(tensor, world.cpu_mesh) for name, tensor in tensors.items()}

    random = {}
    if world.size == 1:  # among several, each step has a chance of its own
        random[_RANDOM_CPU] = torch.get_rng_state()
        if torch.cuda.is_available():
            random[_RANDOM_CUDA] = torch.cuda.get_rng_state()
    return Snapshot(
        config=model.config,
        weights=copied(dict(model.named_parameters())),
        optimizer=copied(optimizer.state()) | random,
        progress=progress,
    )


def save_checkpoint(
    folder: Path, snapshot: Snapshot, *, keep_last: int = 2, group: Any = None
) -> Path:
    """Write `folder`/step-NNNNNN, point `latest` (and `best`) to it, remove what is too old.

    Of several processes that share the weights all call this, of others the first.

    Args:
        folder: The run's `checkpoints` folder.
        snapshot: What to write.
        keep_last: How many of the latest checkpoints stay; the best one stays as well.
        group: The processes that share the weights, over gloo.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: The disk is full or not writable; the checkpoints before this one are untouched.
    """
    progress = snapshot.progress
    goal = folder / step_name(progress.step)
    if snapshot.is_shared and torch.distributed.get_rank() > 0:
        _save_parts(snapshot, None, group)
        return goal
    with atomic_folder(goal) as temporary:
        if snapshot.is_shared:
            _save_parts(snapshot, temporary, group)
        else:
            save_tensors(snapshot.weights, temporary / _WEIGHTS)
            save_tensors(snapshot.optimizer, temporary / _OPTIMIZER)
        checksums = {_WEIGHTS: describe_weights(snapshot.config, temporary / _WEIGHTS)}
        others = (file for file in sorted(temporary.iterdir()) if file.name != _WEIGHTS)
        checksums |= {file.name: sha256_file(file) for file in others}
        _write_state(temporary, progress, checksums)
    point_to(folder, progress)
    _remove_old(folder, progress, keep_last)
    return goal


def point_to(folder: Path, progress: Progress) -> None:
    """Have `latest` and `best` name the checkpoints of where a run stands.

    Not only after writing one, for a run may be killed between that and this.
    """
    for name, step in (("latest", progress.step), ("best", progress.best_step)):
        if step is None or not (folder / step_name(step)).is_dir():
            continue
        words, pointer = step_name(step) + "\n", folder / name
        if not pointer.is_file() or pointer.read_text("utf-8", errors="replace") != words:
            write_text(pointer, words)


class CheckpointWriter:
    """Writes checkpoints while training goes on, one after the other.

    As a context manager it waits at its end until the last one is on the disk, whatever happened.

    Args:
        folder: The run's `checkpoints` folder; what killed runs left there half-written is removed.
        keep_last: As in `save_checkpoint`.
        world: The processes of the run; each has a writer.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2, world: World = ALONE) -> None:
        self.folder, self.keep_last, self.world = folder, keep_last, world
        if world.is_first:
            remove_left_over(folder / "*")
        # Of its own, for training sends its sums at the same time.
        self._group = torch.distributed.new_group(backend="gloo") if world.size > 1 else None
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
        if not self.world.is_first and not any(is_shared(p) for p in optimizer.parameters):
            return  # the first process holds the same
        snapshot = take_snapshot(model, optimizer, progress, self.world)
        self._last = self._pool.submit(
            save_checkpoint, self.folder, snapshot, keep_last=self.keep_last, group=self._group
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
    if any(is_shared(parameter) for parameter in optimizer.parameters):
        _load_parts(checkpoint, dict(model.named_parameters()) | optimizer.state())
        return progress
    fill_model(model, load_tensors(checkpoint / _WEIGHTS), where=checkpoint)
    tensors = load_tensors(checkpoint / _OPTIMIZER)
    random_cpu, random_cuda = (tensors.pop(name, None) for name in (_RANDOM_CPU, _RANDOM_CUDA))
    optimizer.load_state(tensors)
    if random_cpu is not None:
        torch.set_rng_state(random_cpu)
    if random_cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(random_cuda)
    return progress


def write_progress(checkpoint: Path, progress: Progress) -> None:
    """Change what a checkpoint says of the run; its tensors stay.

    Raises:
        UserError: It is damaged, or cannot be written to.
    """
    verify_checkpoint(checkpoint)
    _write_state(checkpoint, progress, read_json(checkpoint / _STATE)["files"])


def find_latest(folder: Path) -> Path | None:
    """Find the newest intact checkpoint of a `checkpoints` folder; a warning names damaged ones.

    Returns:
        Its folder. None: there is no intact one.
    """
    checkpoints = list_checkpoints(folder)
    try:
        return first_intact(checkpoints, verify_checkpoint)[0] if checkpoints else None
    except UserError as error:
        _log.warning("%s", error)
        return None


def verify_checkpoint(checkpoint: Path) -> Progress:
    """Hold every file against its checksum.

    Raises:
        UserError: A file is missing or damaged, or of a version this program does not know.
    """
    path = checkpoint / _STATE
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


def weights_sha256(checkpoint: Path) -> str:
    """The checksum of a checkpoint's weights, as it was when they were written.

    Raises:
        UserError: The checkpoint's state cannot be read.
    """
    checksum: str = read_json(checkpoint / _STATE)["files"][_WEIGHTS]
    return checksum


def _save_parts(snapshot: Snapshot, folder: Path | None, group: Any) -> None:
    """Every process writes what it holds; the first joins it to the usual files in its folder."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    box = [folder]
    torch.distributed.broadcast_object_list(box, src=0, group=group)
    files = dict.fromkeys(snapshot.weights, 1) | dict.fromkeys(snapshot.optimizer, 2)
    writer = HuggingFaceStorageWriter(
        str(box[0]), files, save_distributed=True, enable_consolidation=True
    )
    tensors = snapshot.weights | snapshot.optimizer
    try:
        save(tensors, storage_writer=writer, process_group=group)
    except CheckpointException as error:  # all processes get it when one disk is full
        reasons = {f"process {rank}: {why[0]}" for rank, why in error.failures.items()}
        raise OSError("; ".join(sorted(reasons))) from error
    if folder is not None:
        for number, name in enumerate((_WEIGHTS, _OPTIMIZER), 1):
            (folder / f"model-{number:05d}-of-00002.safetensors").rename(folder / name)
        (folder / "model.safetensors.index.json").unlink()
        shutil.rmtree(folder / "sharded")


def _load_parts(checkpoint: Path, tensors: dict[str, Tensor]) -> None:
    """Read into each tensor what this process holds of it, however many processes wrote it."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    load(tensors, storage_reader=HuggingFaceStorageReader(str(checkpoint)))


def _write_state(folder: Path, progress: Progress, checksums: dict[str, str]) -> None:
    state = {
        "format": "groundup checkpoint",
        "version": FORMAT_VERSION,
        "progress": asdict(progress),
        "files": checksums,
    }
    write_json(folder / _STATE, {**state, "sha256": _digest(state)})


def _digest(state: dict[str, Any]) -> str:
    return sha256_bytes(json.dumps(state, sort_keys=True).encode("utf-8"))


def _remove_old(folder: Path, progress: Progress, keep_last: int) -> None:
    """Keep the last ones and the best; what lies ahead was passed over and will be replaced."""
    checkpoints = list_checkpoints(folder)
    past = checkpoints[checkpoints.index(folder / step_name(progress.step)) :]
    best = None if progress.best_step is None else step_name(progress.best_step)
    for checkpoint in past[max(1, keep_last) :]:
        if checkpoint.name != best:
            shutil.rmtree(checkpoint)
