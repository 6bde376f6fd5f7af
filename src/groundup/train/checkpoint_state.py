"""What a checkpoint says of its run: `state.json`, with the checksums of all files."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import read_json, sha256_bytes, sha256_file, write_json

FORMAT_VERSION = 1
WEIGHTS, TRAINED = "model.safetensors", "trained.safetensors"
OPTIMIZER, _STATE = "optimizer.safetensors", "state.json"


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
    tokenizer_fingerprint: str = ""
    """Of the tokenizer that made the data of a pretraining run."""
    identity: str = ""
    """Of a fine-tuning run: a hash of what it was started with."""
    first_validation_loss_nats: float | None = None
    """Validation loss before the first step."""
    best_step: int | None = None
    """Step of the best validation loss so far."""
    best_loss_nats: float | None = None
    """The best validation loss so far."""
    steps_s: float | None = None
    """Under a budget: the time for optimizer steps, in seconds."""
    early_end_step: int | None = None
    """Where a run under a budget began to end early, because its validation loss had risen."""
    rollbacks: tuple[int, ...] = ()
    """The steps at which the run diverged. After each one it resumed at lower learning rates."""


def write_progress(checkpoint: Path, progress: Progress) -> None:
    """Replace the state that a checkpoint records; its tensors stay.

    Raises:
        UserError: It is damaged or not writable.
    """
    verify_checkpoint(checkpoint)
    write_state(checkpoint, progress, read_json(checkpoint / _STATE)["files"])


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
    checksum: str = read_json(checkpoint / _STATE)["files"][weights_file(checkpoint).name]
    return checksum


def weights_file(checkpoint: Path) -> Path:
    """Return the file that holds the weights of a checkpoint, or those that are trained."""
    trained = checkpoint / TRAINED
    return trained if trained.is_file() else checkpoint / WEIGHTS


def write_state(folder: Path, progress: Progress, checksums: dict[str, str]) -> None:
    """Write state.json.

    Args:
        folder: The checkpoint.
        progress: The state of the run.
        checksums: SHA-256 of the other files, by name.
    """
    origins = ("tokenizer_fingerprint", "identity")
    fields = {
        name: value for name, value in asdict(progress).items() if value or name not in origins
    }
    state = {
        "format": "groundup checkpoint",
        "version": FORMAT_VERSION,
        "progress": fields,
        "files": checksums,
    }
    write_json(folder / _STATE, {**state, "sha256": _digest(state)})


def _digest(state: dict[str, Any]) -> str:
    return sha256_bytes(json.dumps(state, sort_keys=True).encode("utf-8"))
