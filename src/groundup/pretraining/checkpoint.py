"""Checkpoints: everything the next step depends on, complete or absent, never pickled.

    RUN/checkpoints/step-000500/model.json, model.safetensors    what `load` opens
                                optimizer.safetensors            momentum, averages, random state
                                state.json                       step, loader, schedule, checksums
    RUN/checkpoints/latest, best                                 text files that name a folder

A folder is written under a temporary name, synced and renamed, so a killed process leaves either a
complete checkpoint or none. Because disks fail, `state.json` holds the SHA-256 of the other files
and of its own content.

Training does not wait for the disk: `CheckpointWriter` copies the tensors, which is fast, and
writes the copy in another thread.

Where the weights are sharded over several processes, each one writes its shards and torch's
distributed checkpoint joins them into the same files. Each process reads only its own shards, so a
run can be resumed with any number of processes.
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
_RANDOM_CPU, _RANDOM_CUDA, _RANDOM_MPS = "random/cpu", "random/cuda", "random/mps"
_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a run, apart from its tensors."""

    step: int
    """Finished optimizer steps."""
    n_targets: int
    """Targets trained on."""
    elapsed_s: float
    """Training time in seconds."""
    loader: dict[str, Any]
    """The loader's state."""
    tokenizer_fingerprint: str
    """Of the tokenizer that made the data."""
    first_validation_loss_nats: float | None = None
    """Validation loss before the first step."""
    best_step: int | None = None
    """Step of the best validation loss so far."""
    best_loss_nats: float | None = None
    """The best validation loss so far."""
    steps_s: float | None = None
    """Under a budget: the time for optimizer steps, in seconds."""
    rollbacks: tuple[int, ...] = ()
    """The steps at which the run diverged. After each one it resumed at lower learning rates."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of everything the next step depends on (this process's shards); training goes on."""

    config: GPTConfig
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    """Optimizer state and random state."""
    progress: Progress

    @property
    def is_shared(self) -> bool:
        """Whether other processes hold other shards."""
        return any(is_shared(weight) for weight in self.weights.values())


def take_snapshot(
    model: GPT, optimizer: Optimizer, progress: Progress, world: World = ALONE
) -> Snapshot:
    """Copy the state of a run between two steps."""

    def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: copied_to_cpu(tensor, world.cpu_mesh) for name, tensor in tensors.items()}

    random = {}
    if world.size == 1:  # with several processes the random state is seeded per step and rank
        random[_RANDOM_CPU] = torch.get_rng_state()
        if torch.cuda.is_available():
            random[_RANDOM_CUDA] = torch.cuda.get_rng_state()
        if model.device.type == "mps":
            random[_RANDOM_MPS] = torch.mps.get_rng_state()
    return Snapshot(
        config=model.config,
        weights=copied(dict(model.named_parameters())),
        optimizer=copied(optimizer.state()) | random,
        progress=progress,
    )


def save_checkpoint(
    folder: Path, snapshot: Snapshot, *, keep_last: int = 2, group: Any = None
) -> Path:
    """Write `folder`/step-NNNNNN, point `latest` (and `best`) to it, remove old checkpoints.

    With sharded weights all processes call this, otherwise only the first one.

    Args:
        folder: The run's `checkpoints` folder.
        snapshot: What to write.
        keep_last: Keep this many of the latest checkpoints; the best one is kept as well.
        group: The gloo process group of the sharded weights.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: The disk is full or not writable; earlier checkpoints are intact.
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
    """Make `latest` and `best` name the right checkpoints.

    Also called at the start: a run may be killed after writing a checkpoint and before this.
    """
    for name, step in (("latest", progress.step), ("best", progress.best_step)):
        if step is None or not (folder / step_name(step)).is_dir():
            continue
        text, pointer = step_name(step) + "\n", folder / name
        if not pointer.is_file() or pointer.read_text("utf-8", errors="replace") != text:
            write_text(pointer, text)


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
        """Copy the state of the run and write the copy in the background.

        Only one checkpoint is written at a time: if the disk is slower than the steps between two
        checkpoints, this waits, so that memory never holds more than one copy.

        Raises:
            UserError: The previous checkpoint could not be written.
        """
        self.wait()
        if not self.world.is_first and not any(is_shared(p) for p in optimizer.parameters):
            return  # the first process has the same weights
        snapshot = take_snapshot(model, optimizer, progress, self.world)
        self._last = self._pool.submit(
            save_checkpoint, self.folder, snapshot, keep_last=self.keep_last, group=self._group
        )

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk.

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
    """Restore weights, optimizer state and random state; return the state of the run.

    Raises:
        UserError: The checkpoint is damaged (the file is named), or it belongs to another model or
            to another tokenizer than the data.
    """
    progress = verify_checkpoint(checkpoint)
    if progress.tokenizer_fingerprint != tokenizer_fingerprint:
        raise UserError(
            "This checkpoint and the data use different tokenizers. The data it was trained on is "
            "expected, or another folder for a new run.",
            where=checkpoint,
            settings={"out": f"{checkpoint.parent.parent}-2"},
        )
    if any(is_shared(parameter) for parameter in optimizer.parameters):
        _load_parts(checkpoint, dict(model.named_parameters()) | optimizer.state())
        return progress
    fill_model(model, load_tensors(checkpoint / _WEIGHTS), where=checkpoint)
    tensors = load_tensors(checkpoint / _OPTIMIZER)
    names = (_RANDOM_CPU, _RANDOM_CUDA, _RANDOM_MPS)
    random_cpu, random_cuda, random_mps = (tensors.pop(name, None) for name in names)
    optimizer.load_state(tensors)
    if random_cpu is not None:
        torch.set_rng_state(random_cpu)
    if random_cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(random_cuda)
    if random_mps is not None and model.device.type == "mps":
        torch.mps.set_rng_state(random_mps)
    return progress


def write_progress(checkpoint: Path, progress: Progress) -> None:
    """Replace the state that a checkpoint records; its tensors stay.

    Raises:
        UserError: It is damaged or not writable.
    """
    verify_checkpoint(checkpoint)
    _write_state(checkpoint, progress, read_json(checkpoint / _STATE)["files"])


def find_latest(folder: Path) -> Path | None:
    """Return the newest intact checkpoint of a `checkpoints` folder; log the damaged ones.

    Returns:
        Its folder; None if there is no intact checkpoint.
    """
    checkpoints = list_checkpoints(folder)
    try:
        return first_intact(checkpoints, verify_checkpoint)[0] if checkpoints else None
    except UserError as error:
        _log.warning("%s", error)
        return None


def verify_checkpoint(checkpoint: Path) -> Progress:
    """Compare every file with its checksum.

    Raises:
        UserError: A file is missing or damaged, or the format version is unknown.
    """
    path = checkpoint / _STATE
    state = read_json(path)
    if not isinstance(state, dict) or state.get("format") != "groundup checkpoint":
        raise UserError("This is not a groundup checkpoint.", where=path)
    if state.get("version") != FORMAT_VERSION:
        raise UserError(
            f"This checkpoint has format version {state.get('version')}. Version {FORMAT_VERSION} "
            "is expected.",
            where=path,
        )
    if state.pop("sha256", None) != _digest(state):
        raise UserError("This file is damaged: its checksum does not match.", where=path)
    for name, checksum in state["files"].items():
        file = checkpoint / name
        if not file.is_file():
            raise UserError("This file of the checkpoint is missing.", where=file)
        if sha256_file(file) != checksum:
            raise UserError("This file is damaged: its checksum does not match.", where=file)
    fields = state["progress"]
    return Progress(**{**fields, "rollbacks": tuple(fields.get("rollbacks", ()))})


def weights_sha256(checkpoint: Path) -> str:
    """Return the checksum of a checkpoint's weights, recorded when they were written.

    Raises:
        UserError: The checkpoint's state cannot be read.
    """
    checksum: str = read_json(checkpoint / _STATE)["files"][_WEIGHTS]
    return checksum


def _save_parts(snapshot: Snapshot, folder: Path | None, group: Any) -> None:
    """Write the shards of every process; the first one joins them into the usual files."""
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
    except CheckpointException as error:  # raised in all processes when one disk is full
        reasons = {f"process {rank}: {why[0]}" for rank, why in error.failures.items()}
        raise OSError("; ".join(sorted(reasons))) from error
    if folder is not None:
        for number, name in enumerate((_WEIGHTS, _OPTIMIZER), 1):
            (folder / f"model-{number:05d}-of-00002.safetensors").rename(folder / name)
        (folder / "model.safetensors.index.json").unlink()
        shutil.rmtree(folder / "sharded")


def _load_parts(checkpoint: Path, tensors: dict[str, Tensor]) -> None:
    """Read this process's shards of each tensor, whatever number of processes wrote them."""
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
    """Keep the latest and the best; checkpoints of later steps will be overwritten, not removed."""
    checkpoints = list_checkpoints(folder)
    past = checkpoints[checkpoints.index(folder / step_name(progress.step)) :]
    best = None if progress.best_step is None else step_name(progress.best_step)
    for checkpoint in past[max(1, keep_last) :]:
        if checkpoint.name != best:
            shutil.rmtree(checkpoint)
