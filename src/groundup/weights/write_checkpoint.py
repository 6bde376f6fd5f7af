"""Write pretrained weights as a checkpoint, one tensor at a time, with the hash of each.

A GGUF file becomes the checkpoint's file as it is, so that its tensors stay quantized.
"""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from groundup.base.files import sha256_bytes, write_json
from groundup.base.gguf import TENSOR_TYPES, GGUFHeader
from groundup.weights.checkpoint_format import describe_weights, save_gguf_checkpoint
from groundup.weights.gguf import RawRows, raw_blocks
from groundup.weights.pretrained import Pretrained
from groundup.weights.safetensors_file import write_tensors
from groundup.weights.sources import check_finite, parameter_shapes, read_finite

HASHES = "tensors.json"
_SCALES = {"Q4_0": (0,), "Q4_1": (0, 2), "Q8_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,)}
"""Where the float16 numbers of a quantized block are, in bytes."""


def write_checkpoint(
    pretrained: Pretrained, folder: Path, *, header: GGUFHeader | None = None
) -> None:
    """Write a checkpoint folder: model.json, the weights, and tensors.json.

    Every value is checked. The caller makes sure that the folder is complete or absent.

    Args:
        pretrained: The weights.
        folder: The folder to create.
        header: The header of the GGUF file that has the weights. None: another kind of source.

    Raises:
        UserError: A weight is NaN or infinite, or of another shape than the config states.
        OSError: The folder cannot be written to.
    """
    file = pretrained.files[0]
    where = file if len(pretrained.files) == 1 else file.parent
    folder.mkdir(parents=True)
    shapes = parameter_shapes(pretrained.config)
    if header is not None:
        for name, rows in raw_blocks(file).items():
            for part in rows():
                check_finite(_can_be_infinite(part), name, where=where)
        save_gguf_checkpoint(file, folder, pretrained.config)
        hashes = _hashes_of_gguf(header)
    else:
        tensors = {name: partial(read_finite, pretrained, name, where=where) for name in shapes}
        weights = folder / "model.safetensors"
        hashes = write_tensors(weights, shapes, tensors)
        describe_weights(pretrained.config, weights)
    write_json(folder / HASHES, {"format": "SHA-256 of the bytes of each tensor", "sha256": hashes})


def _can_be_infinite(part: RawRows) -> Tensor:
    """Return the values, or of quantized blocks the scales: all values are finite if these are."""
    if part.type not in _SCALES:
        return part.values()
    n_bytes = next(size for name, _, size in TENSOR_TYPES.values() if name == part.type)
    blocks = part.rows.view(-1, n_bytes)
    return torch.cat(
        [blocks[:, at : at + 2].contiguous().view(torch.float16) for at in _SCALES[part.type]]
    )


def _hashes_of_gguf(header: GGUFHeader) -> dict[str, str]:
    """Compute the SHA-256 of the bytes of each tensor, by its name in the file."""
    hashes = {}
    with open(header.path, "rb") as file:
        for name, tensor in header.tensors.items():
            file.seek(tensor.start)
            hashes[name] = sha256_bytes(file.read(tensor.n_bytes))
    return hashes
