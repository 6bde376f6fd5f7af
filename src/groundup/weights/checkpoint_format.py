"""The file format of a model: `model.json` (its configuration) and `model.safetensors` (weights).

Never pickle: reading a model cannot run code. `model.json` is written last and holds the checksum
of the weights, so a folder that was only partly written, or was damaged later, is refused. A model
that was imported from a GGUF file has this very file, `model.gguf`, instead of the weights: it
stays as small as it is, and float32 values are computed when it is opened.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor, nn

from groundup.base.checkpoints import first_intact
from groundup.base.config import from_mapping, to_mapping
from groundup.base.errors import UserError, quoted
from groundup.base.files import atomic_path, read_json, sha256_file, write_json
from groundup.base.gguf import is_gguf
from groundup.base.run import RunFolder
from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters
from groundup.model.gpt import GPT
from groundup.weights.gguf import RawRows, open_gguf, raw_blocks
from groundup.weights.sources import refuse_names

FORMAT_VERSION = 1
_SAFETENSORS, GGUF_FILE = "model.safetensors", "model.gguf"
_FILES = ("model.json", _SAFETENSORS, GGUF_FILE)


def save_model(model: GPT, folder: Path | str) -> None:
    """Write the model into a folder, which may hold other files too.

    Raises:
        UserError: The folder cannot be written to.
    """
    weights = Path(folder) / _SAFETENSORS
    with atomic_path(weights) as temporary:
        save_tensors(stored_tensors(model), temporary)
    describe_weights(model.config, weights)


def save_gguf_checkpoint(source: Path | str, folder: Path | str, config: GPTConfig) -> None:
    """Copy a GGUF file into a folder as the weights of a model.

    Args:
        source: The file; the caller has opened it with `open_gguf`.
        folder: The folder, which may hold other files too.
        config: The settings that `open_gguf` read.

    Raises:
        UserError: The folder cannot be written to.
    """
    weights = Path(folder) / GGUF_FILE
    with atomic_path(weights) as temporary:
        shutil.copyfile(source, temporary)
    describe_weights(config, weights)


def quantized_rows(folder: Path | str) -> Mapping[str, Callable[[], tuple[RawRows, ...]]] | None:
    """Give the functions that read the rows of `model.gguf` as they are; None if there is no such.

    Raises:
        UserError: The file is damaged.
    """
    weights = Path(folder) / GGUF_FILE
    return raw_blocks(weights) if weights.is_file() else None


def describe_weights(config: GPTConfig, weights: Path) -> str:
    """Write `model.json` beside a weights file: the configuration, and the checksum.

    Returns:
        The checksum.

    Raises:
        UserError: The folder cannot be written to.
    """
    checksum = sha256_file(weights)
    write_json(
        weights.with_name("model.json"),
        {
            "format": "groundup model",
            "version": FORMAT_VERSION,
            "config": to_mapping(config),
            "n_parameters": count_parameters(config),
            "weights": {weights.name: checksum},
        },
    )
    return checksum


def load_model(folder: Path | str) -> GPT:
    """Read a model that `save_model` wrote, onto the CPU.

    Raises:
        UserError: A file is missing, damaged or of another version, or does not fit its config.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise UserError(
            "There is no model here. A folder with model.json and model.safetensors is expected.",
            where=folder,
        )
    about = read_json(folder / "model.json")
    about = about if isinstance(about, dict) else {}
    if about.get("format") != "groundup model" or about.get("version") != FORMAT_VERSION:
        raise UserError(
            f"The format is {about.get('format')!r}, version {about.get('version')!r}. "
            f"'groundup model', version {FORMAT_VERSION}, is expected.",
            where=folder / "model.json",
        )
    if not all(isinstance(about.get(part), dict) for part in ("weights", "config")):
        raise UserError(
            "This file is damaged. Use another checkpoint, or restore a copy.",
            where=folder / "model.json",
        )
    config = from_mapping(GPTConfig, about["config"], where=str(folder / "model.json"))
    weights = _checked_weights(folder, about["weights"])
    model = GPT(config, initialize=False)
    tensors = open_gguf(weights).tensors if weights.name == GGUF_FILE else load_tensors(weights)
    fill_model(model, tensors, where=folder)
    return model


def _checked_weights(folder: Path, checksums: dict[str, Any]) -> Path:
    """Find the weights, and compare them with their checksum.

    Raises:
        UserError: They are missing or damaged.
    """
    if len(checksums) != 1 or not checksums.keys() <= {_SAFETENSORS, GGUF_FILE}:
        raise UserError(
            f"The weights are said to be in {', '.join(map(repr, checksums)) or 'no file'}. "
            f"{_SAFETENSORS} or {GGUF_FILE} is expected.",
            where=folder / "model.json",
        )
    (name,) = checksums
    if not (folder / name).is_file():
        raise UserError("The weights are missing.", where=folder / name)
    if sha256_file(folder / name) != checksums[name]:
        raise UserError(
            "The weights are damaged: their checksum is not the one in model.json. "
            "Use another checkpoint, or restore a copy.",
            where=folder / name,
        )
    return folder / name


def stored_tensors(model: GPT) -> dict[str, Tensor]:
    """List the tensors to write: every parameter once, on the CPU, tied embeddings once."""
    return {
        name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()
    }


def fill_model(
    model: nn.Module, tensors: Mapping[str, Tensor | Callable[[], Tensor]], *, where: Path
) -> None:
    """Copy named tensors into the parameters of a module; names and shapes must match exactly.

    A tensor may be given as the function that reads it. Such a tensor is not copied: it becomes the
    parameter, so that there is only one tensor more than the model at a time.

    Raises:
        UserError: A tensor is missing, unexpected, or of another shape; the message names it.
    """
    parameters = dict(model.named_parameters())
    missing, extra = sorted(parameters.keys() - tensors.keys()), sorted(tensors.keys() - parameters)
    refuse_names(missing, extra, where=where)
    for name, parameter in parameters.items():
        given = tensors[name]
        tensor = given if isinstance(given, Tensor) else given()
        if tensor.shape != parameter.shape:
            raise UserError(
                f"{name} has shape {tuple(tensor.shape)}. "
                f"The config beside it expects {tuple(parameter.shape)}.",
                where=where,
            )
        if isinstance(given, Tensor) or tensor.dtype != parameter.dtype:
            parameter.detach().copy_(tensor)  # torch counts this change, not one of `data`
        else:
            parameter.data = tensor


def save_tensors(tensors: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """Write a safetensors file; the caller makes sure that it is complete or absent.

    Args:
        tensors: The tensors by name.
        path: The file.
        metadata: What its header says besides the format.

    Raises:
        OSError: The file cannot be written.
    """
    header = {"format": "pt", **metadata}
    try:
        if _is_utf8(path):
            save_file(tensors, path, metadata=header)
        else:
            path.write_bytes(save(tensors, metadata=header))
    except SafetensorError as error:  # a full disk is reported by this exception too
        raise OSError(str(error)) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: The file is missing or not in the safetensors format.
    """
    try:
        return load_file(path) if _is_utf8(path) else load(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError("This file is missing.", where=path) from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"This file cannot be read ({reason}).", where=path) from error
    except SafetensorError as error:
        raise UserError(f"This is not a valid safetensors file ({error}).", where=path) from error


def _is_utf8(path: Path) -> bool:
    """Whether the library of safetensors can open it by its name."""
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def open_model(path: Path | str) -> tuple[Path, GPT]:
    """Open the model that a path means, the same in every command.

    A folder that holds weights itself, such as a checkpoint, is taken as it is. Of a run the best
    checkpoint is taken, or else the latest; where one is damaged, a warning names it and the next
    is tried.

    Returns:
        The folder that holds the weights, and the model.

    Raises:
        UserError: There is no model, or none that is intact.
    """
    return first_intact(model_folders(path), load_model)


def model_folders(path: Path | str) -> list[Path]:
    """List the folders with weights that a path means, in the order in which to try them.

    Raises:
        UserError: There is none.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            "There is no file or folder of this name. A run folder or a checkpoint is expected.",
            where=path,
        )
    folder, run = path if path.is_dir() else path.parent, RunFolder.of(path)
    if is_gguf(path) and not (folder / "model.json").is_file():
        raise UserError(
            "This is a GGUF file. A run folder or a checkpoint is expected; `import` makes one of "
            "the file.",
            where=path,
            command=f"groundup import {quoted(path)}",
        )
    is_checkpoint = folder.resolve().parent == run.checkpoints_path.resolve()
    if is_checkpoint or any((folder / name).is_file() for name in _FILES):
        return [folder]
    checkpoints = run.preferred_checkpoints()
    if not checkpoints:
        raise UserError(
            "There is no model here. A run folder with checkpoints, or a folder with model.json "
            "and model.safetensors, is expected.",
            where=path,
        )
    return checkpoints
