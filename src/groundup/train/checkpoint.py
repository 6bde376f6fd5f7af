"""Checkpoints: everything the next step depends on, complete or absent, never pickled.

    RUN/checkpoints/step-000500/model.json, model.safetensors    what `load` opens
                                optimizer.safetensors            momentum, averages, random state
                                state.json                       step, loader, schedule, checksums
    RUN/checkpoints/latest, best                                 text files that name a folder

Where only a part of a model is trained, such as LoRA adapters, `trained.safetensors` holds that
part, and there is no `model.json`.

A folder is written under a temporary name, synced and renamed, so a killed process leaves either a
complete checkpoint or none. Because disks fail, `state.json` holds the SHA-256 of the other files
and of its own content.

Training does not wait for the disk: `CheckpointWriter` copies the tensors, which is fast, and
writes the copy in another thread.

Where the weights are sharded over several processes, each one writes its shards and torch's
distributed checkpoint joins them into the same files. Each process reads only its own shards, so a
run can be resumed with any number of processes.
"""

import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from groundup.base.checkpoints import first_intact, list_checkpoints, step_name
from groundup.base.errors import UserError
from groundup.base.files import (
    atomic_folder,
    remove_left_over,
    sha256_file,
    write_text,
)
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.train.checkpoint_state import (
    OPTIMIZER,
    TRAINED,
    WEIGHTS,
    Progress,
    verify_checkpoint,
    weights_file,
    write_state,
)
from groundup.train.distributed import ALONE, World
from groundup.train.optimizer import Optimizer
from groundup.train.sharding import copied_to_cpu, is_shared, load_parts, save_parts
from groundup.weights.checkpoint_format import (
    describe_weights,
    fill_model,
    load_tensors,
    save_tensors,
)

_log = logging.getLogger(__name__)
_RANDOM_CPU, _RANDOM_CUDA, _RANDOM_MPS = "random/cpu", "random/cuda", "random/mps"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of everything the next step depends on (this process's shards); training goes on."""

    config: GPTConfig | None
    """None: the weights are a part of a model."""
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    """Optimizer state and random state."""
    progress: Progress

    @property
    def is_shared(self) -> bool:
        """Whether other processes hold other shards."""
        return any(is_shared(weight) for weight in self.weights.values())


def take_snapshot(
    model: nn.Module, optimizer: Optimizer, progress: Progress, world: World = ALONE
) -> Snapshot:
    """Copy the state of a run between two steps. Parameters that are frozen are left out."""

    def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: copied_to_cpu(tensor, world.cpu_mesh) for name, tensor in tensors.items()}

    random = {}
    if world.size == 1:  # with several processes the random state is seeded per step and rank
        random[_RANDOM_CPU] = torch.get_rng_state()
        if torch.cuda.is_available():
            random[_RANDOM_CUDA] = torch.cuda.get_rng_state()
        if optimizer.watched.device.type == "mps":
            random[_RANDOM_MPS] = torch.mps.get_rng_state()
    is_complete = isinstance(model, GPT) and all(p.requires_grad for p in model.parameters())
    return Snapshot(
        config=model.config if isinstance(model, GPT) and is_complete else None,
        weights=copied(trained_parameters(model)),
        optimizer=copied(optimizer.state()) | random,
        progress=progress,
    )


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


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
    parts = {WEIGHTS: snapshot.weights, OPTIMIZER: snapshot.optimizer}
    if snapshot.is_shared and torch.distributed.get_rank() > 0:
        save_parts(parts, None, group)
        return goal
    with atomic_folder(goal) as temporary:
        if snapshot.is_shared:
            save_parts(parts, temporary, group)
        else:
            name = TRAINED if snapshot.config is None else WEIGHTS
            save_tensors(snapshot.weights, temporary / name)
            save_tensors(snapshot.optimizer, temporary / OPTIMIZER)
        checksums = {}
        if snapshot.config is not None:
            checksums[WEIGHTS] = describe_weights(snapshot.config, temporary / WEIGHTS)
        others = (file for file in sorted(temporary.iterdir()) if file.name != WEIGHTS)
        checksums |= {file.name: sha256_file(file) for file in others}
        write_state(temporary, progress, checksums)
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

    def save(self, model: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
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
    checkpoint: Path,
    model: nn.Module,
    optimizer: Optimizer,
    *,
    tokenizer_fingerprint: str = "",
    identity: str = "",
) -> Progress:
    """Restore weights, optimizer state and random state; return the state of the run.

    Raises:
        UserError: The checkpoint is damaged (the file is named), or it belongs to another model, to
            another tokenizer than the data, or to a run with other inputs.
    """
    progress = verify_checkpoint(checkpoint)
    elsewhere = {"out": f"{checkpoint.parent.parent}-2"}
    if progress.tokenizer_fingerprint != tokenizer_fingerprint:
        raise UserError(
            "This checkpoint and the data use different tokenizers. The data it was trained on is "
            "expected, or another folder for a new run.",
            where=checkpoint,
            settings=elsewhere,
        )
    if progress.identity != identity:
        raise UserError(
            "This checkpoint was made with another base model, other data or other settings. "
            "The same ones are expected, or another folder for a new run.",
            where=checkpoint,
            settings=elsewhere,
        )
    if any(is_shared(parameter) for parameter in optimizer.parameters):
        load_parts(checkpoint, dict(model.named_parameters()) | optimizer.state())
        return progress
    load_weights(checkpoint, model)
    tensors = load_tensors(checkpoint / OPTIMIZER)
    names = (_RANDOM_CPU, _RANDOM_CUDA, _RANDOM_MPS)
    random_cpu, random_cuda, random_mps = (tensors.pop(name, None) for name in names)
    optimizer.load_state(tensors)
    if random_cpu is not None:
        torch.set_rng_state(random_cpu)
    if random_cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(random_cuda)
    if random_mps is not None and optimizer.watched.device.type == "mps":
        torch.mps.set_rng_state(random_mps)
    return progress


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Restore only the weights of a checkpoint; frozen parameters stay as they are.

    Raises:
        UserError: A file is damaged, or it belongs to another model.
    """
    file = weights_file(checkpoint)
    if file.name == WEIGHTS:
        fill_model(model, load_tensors(file), where=checkpoint)
        return
    stored, trained = load_tensors(file), trained_parameters(model)
    strange = sorted(stored.keys() ^ trained.keys())
    strange += [
        name for name in stored.keys() & trained if stored[name].shape != trained[name].shape
    ]
    if strange:
        raise UserError(
            f"This checkpoint does not fit the model ({strange[0]}). The settings that the run was "
            "started with are expected.",
            where=checkpoint,
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(stored[name])


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


def _remove_old(folder: Path, progress: Progress, keep_last: int) -> None:
    """Keep the latest and the best; checkpoints of later steps will be overwritten, not removed."""
    checkpoints = list_checkpoints(folder)
    past = checkpoints[checkpoints.index(folder / step_name(progress.step)) :]
    best = None if progress.best_step is None else step_name(progress.best_step)
    for checkpoint in past[max(1, keep_last) :]:
        if checkpoint.name != best:
            shutil.rmtree(checkpoint)
