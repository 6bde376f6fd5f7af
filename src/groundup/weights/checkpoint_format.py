"""Our own file format of a model: `model.json` (what it is) and `model.safetensors` (its numbers).

Never pickle: reading a model cannot run code. `model.json` is written last and holds the checksum
of the numbers, so a folder that was cut off in the middle, or damaged since, is named and refused.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup.base.config import from_mapping, to_mapping
from groundup.base.errors import UserError
from groundup.base.files import atomic_path, read_json, sha256_file, write_json
from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters
from groundup.model.gpt import GPT

FORMAT_VERSION = 1


def save_model(model: GPT, folder: Path | str) -> None:
    """Write the model into a folder, which may hold other files too.

    Raises:
        UserError: the folder cannot be written to.
    """
    weights = Path(folder) / "model.safetensors"
    with atomic_path(weights) as temporary:
        save_tensors(stored_tensors(model), temporary)
    describe_weights(model.config, weights)


def describe_weights(config: GPTConfig, weights: Path) -> str:
    """Write `model.json` beside a file of weights: what they are, and their checksum.

    Returns:
        The checksum.

    Raises:
        UserError: the folder cannot be written to.
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
    """Read a model that `save_model` wrote; the weights come on the CPU.

    Raises:
        UserError: a file is missing, of another version, damaged, or does not fit its own config.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise UserError(
            "there is no model here",
            need="a checkpoint folder with model.json and model.safetensors",
            where=folder,
        )
    about = read_json(folder / "model.json")
    about = about if isinstance(about, dict) else {}
    if about.get("format") != "groundup model" or about.get("version") != FORMAT_VERSION:
        raise UserError(
            f"format {about.get('format')!r}, version {about.get('version')!r}",
            need=f"a groundup model of version {FORMAT_VERSION}",
            where=folder / "model.json",
        )
    if not all(isinstance(about.get(part), dict) for part in ("weights", "config")):
        raise UserError("this is damaged", need="another checkpoint", where=folder / "model.json")
    for name, checksum in about["weights"].items():
        if not (folder / name).is_file():
            raise UserError("the weights are missing", where=folder / name)
        if sha256_file(folder / name) != checksum:
            raise UserError(
                "the weights are damaged: their checksum is not the one in model.json",
                need="another checkpoint, or a fresh copy",
                where=folder / name,
            )
    config = from_mapping(GPTConfig, about["config"], where=str(folder / "model.json"))
    model = GPT(config)
    fill_model(model, load_tensors(folder / "model.safetensors"), where=folder)
    return model


def stored_tensors(model: GPT) -> dict[str, Tensor]:
    """The tensors to write: every parameter once, on the CPU. A tied head is its token table."""
    return {
        name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()
    }


def fill_model(model: GPT, tensors: dict[str, Tensor], *, where: Path) -> None:
    """Copy named tensors into the model's parameters; each must be there, fit, and be used.

    Raises:
        UserError: a tensor is missing, left over, or of another shape; the text names it.
    """
    parameters = dict(model.named_parameters())
    missing, extra = sorted(parameters.keys() - tensors.keys()), sorted(tensors.keys() - parameters)
    if missing or extra:
        raise UserError(
            f"weights missing: {', '.join(missing[:3]) or 'none'} ({len(missing)}); "
            f"not understood: {', '.join(extra[:3]) or 'none'} ({len(extra)})",
            need="weights that belong to the config beside them",
            where=where,
        )
    for name, parameter in parameters.items():
        tensor = tensors[name]
        if tensor.shape != parameter.shape:
            raise UserError(
                f"{name} has shape {tuple(tensor.shape)} and the config says "
                f"{tuple(parameter.shape)}",
                need="weights that belong to the config beside them",
                where=where,
            )
        parameter.data.copy_(tensor)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file; it is for the caller to make it whole or absent.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk too comes under this name
        raise OSError(str(error)) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: the file is missing or not in the safetensors format.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError("this file is missing", where=path) from error
    except SafetensorError as error:
        raise UserError(f"this is no whole safetensors file ({error})", where=path) from error


def find_checkpoint(path: Path | str) -> Path:
    """The checkpoint folder a path means: a checkpoint itself, or a run folder's best or latest.

    The text file `checkpoints/best` goes before `checkpoints/latest`, as in every verb that opens a
    run.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    if (path / "model.json").is_file():
        return path
    pointers = [path / "checkpoints" / name for name in ("best", "latest")]
    pointer = next((pointer for pointer in pointers if pointer.is_file()), None)
    if pointer is None:
        raise UserError(
            "there is no model here",
            need="a run folder with checkpoints, or a checkpoint folder",
            where=path,
            type_this="groundup pretrain",
        )
    checkpoint = pointer.parent / pointer.read_text(encoding="utf-8").strip()
    if not (checkpoint / "model.json").is_file():
        raise UserError(
            f"it names the checkpoint {checkpoint.name!r}, which holds no model", where=pointer
        )
    return checkpoint


def find_tokenizer(path: Path | str) -> Path | None:
    """The tokenizer.json of a run folder or of a checkpoint in it; None where there is none."""
    path = Path(path).resolve()
    places = (path, path.parent.parent if path.parent.name == "checkpoints" else path)
    for place in places:
        if (place / "tokenizer" / "tokenizer.json").is_file():
            return place / "tokenizer" / "tokenizer.json"
    return None
