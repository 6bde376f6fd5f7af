"""A checkpoint of any module and its optimizer, in one safetensors file.

For training loops of your own. Never pickle: reading a checkpoint cannot run code. The tensors are
`model/NAME` and `optimizer/NUMBER`; the metadata contains the iteration, the names that share one
tensor, and the rest of the optimizer's state as JSON. (A run of `pretrain` has checkpoints of its
own, which also contain the state of the data loader.)
"""

import json
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.base.files import atomic_path

_FORMAT = "groundup module checkpoint 1"
_WEIGHTS, _OPTIMIZER = "model/", "optimizer/"


@runtime_checkable
class ReadableFile(Protocol):
    """A file that is open for reading bytes."""

    def read(self) -> bytes:
        """Return all bytes."""


@runtime_checkable
class WritableFile(Protocol):
    """A file that is open for writing bytes."""

    def write(self, data: bytes, /) -> int:
        """Write the bytes."""


@runtime_checkable
class StatefulOptimizer(Protocol):
    """What a checkpoint needs of an optimizer: any of torch's has it."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state."""


def save_checkpoint(
    model: nn.Module,
    optimizer: StatefulOptimizer | None,
    iteration: int,
    out: str | PathLike[str] | WritableFile,
) -> None:
    """Write the state of a module and its optimizer.

    Args:
        model: Any module; its parameters and persistent buffers are written.
        optimizer: Any optimizer of torch, `groundup.AdamW`, or None.
        iteration: Number of finished iterations.
        out: A path, or a file that is open for writing bytes. A file at this path is replaced when
            the new one is complete.

    Raises:
        UserError: The state has a value that is neither a tensor nor plain data, or the file cannot
            be written.

    >>> import io, torch
    >>> file, layer = io.BytesIO(), nn.Linear(2, 2)
    >>> save_checkpoint(layer, torch.optim.SGD(layer.parameters(), lr=0.1), 7, file)
    >>> load_checkpoint(io.BytesIO(file.getvalue()), layer)
    7
    """
    tensors: dict[str, Tensor] = {}
    first_names: dict[object, str] = {}
    shared: dict[str, str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UserError(f"The module's state {name!r} is not a tensor. Only tensors are saved.")
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and place in first_names:  # such as tied embeddings
            shared[name] = first_names[place]
        else:
            first_names[place] = name
            tensors[_WEIGHTS + name] = value
    state = None if optimizer is None else _encoded(optimizer.state_dict(), tensors)
    metadata = {
        "format": _FORMAT,
        "iteration": json.dumps(int(iteration)),
        "shared": json.dumps(shared),
        "optimizer": json.dumps(state),
    }
    copies = {
        name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()
    }  # the library refuses views of one memory
    data = safetensors.torch.save(copies, metadata)
    if isinstance(out, (str, PathLike)):
        with atomic_path(Path(out)) as temporary:
            temporary.write_bytes(data)
    else:
        out.write(data)


def load_checkpoint(
    src: str | PathLike[str] | ReadableFile,
    model: nn.Module,
    optimizer: StatefulOptimizer | None = None,
) -> int:
    """Read what `save_checkpoint` wrote into a module and its optimizer.

    Nothing is changed unless every weight fits the module.

    Args:
        src: A path, or a file that is open for reading bytes.
        model: A module with the same names and shapes; it may be on another device.
        optimizer: An optimizer of the same class and parameters. None: its state is not loaded.

    Returns:
        The number of finished iterations.

    Raises:
        UserError: The file is missing, damaged or of another format, or does not fit.
    """
    where = src if isinstance(src, (str, PathLike)) else getattr(src, "name", "The checkpoint")
    metadata, tensors = _read(src, str(where))
    shared: dict[str, str] = json.loads(metadata["shared"])
    weights = {
        name.removeprefix(_WEIGHTS): value
        for name, value in tensors.items()
        if name.startswith(_WEIGHTS)
    }
    weights |= {name: weights[first] for name, first in shared.items()}
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    different = sorted(
        name for name in expected | found if expected.get(name) != found.get(name)
    )  # missing, unexpected, or of another shape
    if different:
        name = different[0]
        raise UserError(
            f"The checkpoint does not fit the module in {len(different)} of {len(expected)} "
            f"weights. {name} has shape {found.get(name, 'none')} in the checkpoint and "
            f"{expected.get(name, 'none')} in the module.",
            where=str(where),
        )
    state = json.loads(metadata["optimizer"])
    if optimizer is not None and state is None:
        raise UserError(
            "The checkpoint has no state of an optimizer. Load it with optimizer=None.",
            where=str(where),
        )
    model.load_state_dict(weights)
    if optimizer is not None:
        try:
            optimizer.load_state_dict(_decoded(state, tensors))
        except (ValueError, KeyError) as error:
            raise UserError(
                f"The stored state does not fit the optimizer: {error}.", where=str(where)
            ) from error
    return int(json.loads(metadata["iteration"]))


def _read(
    src: str | PathLike[str] | ReadableFile, where: str
) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        data = Path(src).read_bytes() if isinstance(src, (str, PathLike)) else src.read()
        tensors = safetensors.torch.load(data)  # checks the length of the header
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except OSError as error:
        raise UserError(f"The file cannot be read: {error.strerror}.", where=where) from error
    except SafetensorError as error:
        raise UserError(f"This is not a valid safetensors file ({error}).", where=where) from error
    metadata: dict[str, str] = header.get("__metadata__", {})
    if metadata.get("format") != _FORMAT:
        raise UserError(
            "This file was not written by save_checkpoint. A checkpoint of a module is expected.",
            where=where,
        )
    return metadata, tensors


def _encoded(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Describe a state in JSON; its tensors are moved to `tensors`.

    A list of a letter and the content, because JSON has neither tuples nor numbers as keys.
    """
    if isinstance(value, Tensor):
        name = f"{_OPTIMIZER}{len(tensors)}"
        tensors[name] = value
        return ["tensor", name]
    if isinstance(value, dict):
        pairs = [[_encoded(k, tensors), _encoded(v, tensors)] for k, v in value.items()]
        return ["dict", pairs]
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_encoded(item, tensors) for item in value]]
    if value is None or isinstance(value, (bool, int, float, str)):
        return ["value", value]
    raise UserError(
        f"The optimizer's state contains a {type(value).__name__}. Tensors, numbers, texts, lists "
        "and dictionaries can be saved."
    )


def _decoded(described: Any, tensors: dict[str, Tensor]) -> Any:
    kind, content = described
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_decoded(k, tensors): _decoded(v, tensors) for k, v in content}
    if kind in ("list", "tuple"):
        items = [_decoded(item, tensors) for item in content]
        return items if kind == "list" else tuple(items)
    return content
