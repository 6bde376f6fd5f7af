"""Import and export of Hugging Face model folders: config.json and model.safetensors.

An exported folder opens with `transformers.AutoModelForCausalLM.from_pretrained(folder)`, without
internet access and without custom code. Import reads a folder on disk; it does not download.
"""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, read_json, write_json
from groundup.model.config import GPTConfig
from groundup.model.count import count_parameters
from groundup.model.gpt import GPT
from groundup.weights import gpt2, llama
from groundup.weights.checkpoint_format import fill_model, load_tensors
from groundup.weights.special_ids import SpecialIds, one_end

WRITTEN_FILES = frozenset(
    (
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    )
)
"""Files of an export. A folder with any other file in it is not replaced."""


def export_huggingface(
    model: GPT, folder: Path | str, *, end_of_text_id: int | None = None
) -> None:
    """Write the model as a folder that transformers opens. An interrupted export leaves no folder.

    Args:
        model: A model of the GPT-2, Llama or Qwen3 architecture.
        folder: Output folder. An earlier export in it is replaced.
        end_of_text_id: Token id at which `generate` of transformers stops. None: no such token.

    Raises:
        UserError: No class of transformers computes this model, or the folder contains other files.
    """
    folder = Path(folder)
    refuse_foreign_folder(folder)
    with atomic_folder(folder) as temporary:
        write_huggingface(model, temporary, one_end(end_of_text_id))


def can_export(config: GPTConfig) -> bool:
    """Whether a class of transformers computes a model with this config."""
    if config.ngram > 1:  # none of the families has it
        return False
    return gpt2.is_gpt2(config) or llama.is_llama(config)


_PRODUCER = {"producer": "groundup"}
"""In the header of exported weights, so that a later export knows that it may replace them."""
_LONGEST_HEADER = 10**8


def write_huggingface(model: GPT, folder: Path, ids: SpecialIds) -> None:
    """Write config.json, generation_config.json and model.safetensors into a folder."""
    if not can_export(model.config):
        raise UserError(
            "There is no class of transformers for this combination of model settings. Expected "
            "the settings of GPT-2 (layer norm, learned positions, gelu, biases) or of Llama (rms "
            "norm, rotary positions, swiglu, no biases), without n-gram embeddings."
        )
    family = gpt2 if gpt2.is_gpt2(model.config) else llama
    about, tensors = family.write_config(model.config), family.write_tensors(model)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    write_json(
        folder / "config.json", {**about, **ids.config, "dtype": dtype, "torch_dtype": dtype}
    )
    write_json(folder / "generation_config.json", dict(ids.generation))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt", **_PRODUCER})


def _is_own_export(folder: Path) -> bool:
    """Whether the weights were written by this package, as their header states."""
    try:
        with open(folder / "model.safetensors", "rb") as file:
            length = min(int.from_bytes(file.read(8), "little"), _LONGEST_HEADER)
            header = json.loads(file.read(length))
        return bool(header["__metadata__"].items() >= _PRODUCER.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def refuse_foreign_folder(folder: Path) -> None:
    """Check that replacing the folder deletes nothing but an earlier export.

    Raises:
        UserError: The path is a file, or the folder contains other files. Nothing was changed.
    """
    inside = list(folder.iterdir()) if folder.is_dir() else []
    foreign = [file for file in inside if file.name not in WRITTEN_FILES]
    found = f"The folder contains {foreign[0].name}." if foreign else ""
    if inside and not found and not _is_own_export(folder):
        found = "The folder contains a model that groundup did not export."
    if folder.is_file() or found:
        raise UserError(
            f"{found or 'This is a file.'} Expected a new or empty folder, or an earlier export.",
            where=folder,
            settings={"out": f"{folder}-2"},
        )


def import_huggingface(folder: Path | str) -> GPT:
    """Read a GPT-2, Llama or Qwen3 model from a folder, in float32 on the CPU.

    Raises:
        UserError: Files are missing, pickled, damaged or outside the folder, or the architecture
            is not supported.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "This is a file." if folder.is_file() else "There is no folder of this name."
        raise UserError(
            f"{found} A Hugging Face folder with config.json and model.safetensors is expected. "
            "`hf download openai-community/gpt2 --local-dir gpt2` downloads one.",
            where=folder,
        )
    if not (folder / "config.json").is_file():
        raise UserError(
            "There is no config.json. A Hugging Face folder with config.json and model.safetensors "
            "is expected.",
            where=folder,
        )
    where = folder / "config.json"
    about = read_json(where)
    if not isinstance(about, dict):
        raise UserError("This is not a JSON object with the settings of a model.", where=where)
    try:
        match about.get("model_type"):
            case "gpt2":
                config = gpt2.read_config(about, where=where)
                tensors = gpt2.read_tensors(_read_weights(folder, config), config)
            case "llama" | "qwen3":
                config = llama.read_config(about, where=where)
                tensors = llama.read_tensors(_read_weights(folder, config), config)
            case other:
                raise UserError(
                    f"model_type is {other!r}. Expected gpt2, llama or qwen3.", where=where
                )
    except UserError as error:  # of a setting; its name here is not the one in the file
        if error.where is not None:
            raise
        raise UserError(error.message, where=where) from error
    except KeyError as error:
        raise UserError(f"The entry {error} is missing.", where=where) from error
    except (TypeError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise UserError(f"An entry has a wrong type or value ({error}).", where=where) from error
    model = GPT(config)
    fill_model(model, tensors, where=folder)
    return model


def _read_weights(folder: Path, config: GPTConfig) -> dict[str, Tensor]:
    """Read the weights, and refuse a config that is far larger before any memory is used for it."""
    tensors = read_safetensors(folder)
    found, expected = sum(t.numel() for t in tensors.values()), count_parameters(config)
    if expected > 10 * found + 10_000_000:
        raise UserError(
            f"The config describes a model of {expected:,} parameters, and the weights have "
            f"{found:,}. A config that matches the weights is expected.",
            where=folder / "config.json",
        )
    return tensors


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder, from one file or from the shards that an index lists.

    Raises:
        UserError: There is no safetensors file, or a shard is missing, damaged or outside the
            folder.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        # Every name is checked before the first file is opened.
        shards = [_inside(folder, name, index) for name in _shard_names(index)]
        return {k: v for shard in shards for k, v in load_tensors(shard).items()}
    if (folder / "model.safetensors").is_file():
        return load_tensors(_inside(folder, "model.safetensors", folder))
    pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt"))
    found = "The folder contains no weights."
    if pickled:
        found = f"The weights are a pickle ({pickled[0].name}), which can run code when it is read."
    raise UserError(f"{found} Expected model.safetensors.", where=folder)


def _shard_names(index: Path) -> list[str]:
    """List the distinct file names of an index."""
    about = read_json(index)
    weight_map = about.get("weight_map") if isinstance(about, dict) else None
    names = weight_map.values() if isinstance(weight_map, dict) else [None]
    if not all(isinstance(name, str) for name in names):
        raise UserError("Expected a weight_map from tensor names to file names.", where=index)
    return sorted(set(names))


def _inside(folder: Path, name: str, where: Path) -> Path:
    """Return the path of a weights file after checking that it does not lead out of the folder."""
    roots = [folder.resolve()]
    # In the cache of huggingface_hub the files of snapshots/<commit> are links to blobs/.
    if roots[0].parent.name == "snapshots":
        roots.append(roots[0].parents[1] / "blobs")
    if name.isprintable() and name.endswith(".safetensors"):
        path = folder / name
        if any(path.resolve().is_relative_to(root) for root in roots):
            return path
    raise UserError(
        f"{name!r} is refused. Expected a .safetensors file inside the folder, not a path or a "
        "link to another place.",
        where=where,
    )
