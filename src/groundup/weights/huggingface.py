"""Hugging Face folders, both ways: config.json and model.safetensors.

What is written here opens with `transformers.AutoModelForCausalLM.from_pretrained(folder)`, without
the internet and without code of ours. What is read here is a folder on disk; fetching it is not
this room's work.
"""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from groundup.base.errors import UserError, quoted
from groundup.base.files import atomic_folder, read_json, write_json
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights import gpt2, llama
from groundup.weights.checkpoint_format import fill_model, load_tensors

WRITTEN_FILES = frozenset(
    (
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    )
)
"""All that an export writes; a folder with anything else in it is not ours to replace."""


def export_huggingface(
    model: GPT, folder: Path | str, *, end_of_text_id: int | None = None
) -> None:
    """Write the model as a folder that transformers opens; the folder appears whole or not at all.

    Args:
        model: a model of the GPT-2, Llama or Qwen3 kind.
        folder: where to write; an earlier export there is replaced.
        end_of_text_id: the token that ends a text, for `generate` of transformers to stop at.

    Raises:
        UserError: no class of transformers computes this model, or the folder holds something else.
    """
    folder = Path(folder)
    refuse_foreign_folder(folder)
    with atomic_folder(folder) as temporary:
        write_huggingface(model, temporary, end_of_text_id=end_of_text_id)


def can_export(config: GPTConfig) -> bool:
    """Whether a class of transformers computes this model."""
    return gpt2.is_gpt2(config) or llama.is_llama(config)


def write_huggingface(model: GPT, folder: Path, *, end_of_text_id: int | None = None) -> None:
    """Write config.json, generation_config.json and model.safetensors into a folder."""
    if not can_export(model.config):
        raise UserError(
            "no class of transformers computes this mixture of choices",
            need="a model like GPT-2 (layer norm, learned positions, gelu, biases) or like Llama "
            "(rms norm, rotary positions, swiglu, no biases), without n-gram embeddings",
        )
    family = gpt2 if gpt2.is_gpt2(model.config) else llama
    about, tensors = family.write_config(model.config), family.write_tensors(model)
    ends = {"bos_token_id": end_of_text_id, "eos_token_id": end_of_text_id}
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    write_json(folder / "config.json", {**about, **ends, "dtype": dtype, "torch_dtype": dtype})
    write_json(folder / "generation_config.json", {**ends, "pad_token_id": end_of_text_id})
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refuse_foreign_folder(folder: Path) -> None:
    """Stop before a folder is replaced that holds more than an earlier export.

    Raises:
        UserError: it does; nothing was touched.
    """
    foreign = (
        [] if not folder.is_dir() else [f for f in folder.iterdir() if f.name not in WRITTEN_FILES]
    )
    if folder.is_file() or foreign:
        raise UserError(
            "this place is taken" + (f", among others by {foreign[0].name}" if foreign else ""),
            need="a new or empty folder, or an earlier export",
            where=folder,
            type_this=f"--out {quoted(f'{folder}-2')}",
        )


def import_huggingface(folder: Path | str) -> GPT:
    """Read a GPT-2, Llama or Qwen3 model from a folder: float32, on the CPU.

    Raises:
        UserError: files are missing, pickled or damaged, or the kind of model is not known here.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(
            "there is no config.json here",
            need="a folder with config.json and model.safetensors",
            where=folder,
            type_this="groundup import path/to/folder",
        )
    where = folder / "config.json"
    about = read_json(where)
    try:
        match about.get("model_type"):
            case "gpt2":
                config = gpt2.read_config(about, where=where)
                tensors = gpt2.read_tensors(read_safetensors(folder), config)
            case "llama" | "qwen3":
                config = llama.read_config(about, where=where)
                tensors = llama.read_tensors(read_safetensors(folder), config)
            case other:
                raise UserError(
                    f"model_type is {other!r}", need="gpt2, llama or qwen3", where=where
                )
    except KeyError as error:
        raise UserError(f"the entry {error} is missing", where=where) from error
    model = GPT(config)
    fill_model(model, tensors, where=folder)
    return model


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one file or from the shards that an index names.

    Raises:
        UserError: there is no safetensors file, or a shard is missing or damaged.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(read_json(index)["weight_map"].values()))
        return {k: v for shard in shards for k, v in load_tensors(folder / shard).items()}
    if (folder / "model.safetensors").is_file():
        return load_tensors(folder / "model.safetensors")
    pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt"))
    raise UserError(
        f"there is only {pickled[0].name}, a pickle, which could run any code on reading"
        if pickled
        else "there are no weights here",
        need="model.safetensors",
        where=folder,
    )
