"""Write pretrained weights as a checkpoint, one tensor at a time, with the hash of each.

A GGUF file becomes the checkpoint's file as it is, so that its tensors stay quantized.
"""

from functools import partial
from pathlib import Path

from groundup.base.files import sha256_bytes, write_json
from groundup.base.gguf import is_gguf, read_gguf_header
from groundup.weights.checkpoint_format import describe_weights
from groundup.weights.pretrained import Pretrained
from groundup.weights.safetensors_file import write_tensors
from groundup.weights.sources import parameter_shapes, read_finite

HASHES = "tensors.json"


def write_checkpoint(pretrained: Pretrained, folder: Path) -> None:
    """Write a checkpoint folder: model.json, the weights, and tensors.json.

    Every value is checked. The caller makes sure that the folder is complete or absent.

    Raises:
        UserError: A weight is NaN or infinite, or of another shape than the config states.
        OSError: The folder cannot be written to.
    """
    file = pretrained.files[0]
    where = file if len(pretrained.files) == 1 else file.parent
    folder.mkdir(parents=True)
    shapes = parameter_shapes(pretrained.config)
    if is_gguf(file):
        from groundup.weights.checkpoint_format import save_gguf_checkpoint

        for name in shapes:
            read_finite(pretrained, name, where=where)
        save_gguf_checkpoint(file, folder, pretrained.config)
        hashes = _hashes_of_gguf(file)
    else:
        tensors = {name: partial(read_finite, pretrained, name, where=where) for name in shapes}
        weights = folder / "model.safetensors"
        hashes = write_tensors(weights, shapes, tensors)
        describe_weights(pretrained.config, weights)
    write_json(folder / HASHES, {"format": "SHA-256 of the bytes of each tensor", "sha256": hashes})


def _hashes_of_gguf(path: Path) -> dict[str, str]:
    """Compute the SHA-256 of the bytes of each tensor, by its name in the file."""
    hashes = {}
    with open(path, "rb") as file:
        for name, tensor in read_gguf_header(path).tensors.items():
            file.seek(tensor.start)
            hashes[name] = sha256_bytes(file.read(tensor.n_bytes))
    return hashes
