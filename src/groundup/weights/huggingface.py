"""Export of Hugging Face model folders: config.json and model.safetensors.

An exported folder opens with `transformers.AutoModelForCausalLM.from_pretrained(folder)`, without
internet access and without custom code. `huggingface_folder` reads such folders.
"""

import json
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.files import atomic_folder, write_json
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.weights import gpt2, llama, llama_config
from groundup.weights.checkpoint_format import save_tensors
from groundup.weights.layer_patterns import refuse_pattern
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
        model: A model of the GPT-2, Llama, Mistral, Qwen2 or Qwen3 architecture.
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
    return gpt2.is_gpt2(config) or llama_config.family_of(config) is not None


_PRODUCER = {"producer": "groundup"}
"""In the header of exported weights, so that a later export knows that it may replace them."""
_LONGEST_HEADER = 10**8


def write_huggingface(model: GPT, folder: Path, ids: SpecialIds) -> None:
    """Write config.json, generation_config.json and model.safetensors into a folder."""
    refuse_pattern(model.config)
    if not can_export(model.config):
        raise UserError(
            "There is no class of transformers for this combination of model settings. Expected "
            "the settings of GPT-2 (layer norm, learned positions, gelu, biases) or of Llama (rms "
            "norm, rotary positions, swiglu, no biases), without n-gram embeddings."
        )
    if gpt2.is_gpt2(model.config):
        about, tensors = gpt2.write_config(model.config), gpt2.write_tensors(model)
    else:
        about, tensors = llama_config.write_config(model.config), llama.write_tensors(model)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    write_json(
        folder / "config.json", {**about, **ids.config, "dtype": dtype, "torch_dtype": dtype}
    )
    write_json(folder / "generation_config.json", dict(ids.generation))
    save_tensors(tensors, folder / "model.safetensors", **_PRODUCER)


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
