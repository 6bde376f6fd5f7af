"""Open a Hugging Face folder: its config, and its weights one tensor at a time.

Paths in the folder are not trusted: no file outside of it is opened. The cache of huggingface_hub,
where files are links to its blobs, is the exception.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.base.errors import UserError
from groundup.base.files import read_json
from groundup.model.gpt import GPT
from groundup.weights import gpt2, llama, llama_config
from groundup.weights.pretrained import Pretrained
from groundup.weights.safetensors_file import StoredTensor, read_header
from groundup.weights.sources import build_model, check_size, readers
from groundup.weights.special_ids import read_special_ids

_log = logging.getLogger(__name__)

FAMILIES = ("gpt2", *llama_config.CLASSES)
_COMPARED_BYTES = 2**22
_READ_SUFFIXES = (".json", ".jinja", ".txt", ".bpe", ".tiktoken", ".md")
"""Of the files besides the weights that are read: config, tokenizer, chat template, README."""

# Entries of any config.json that change what a model computes, and the values without an effect.
_CHANGES_RESULTS: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "add_cross_attention": (None, False),
    "is_encoder_decoder": (None, False),
    "pruned_heads": (None, {}),
    "scale_attn_weights": (None, True),
    "scale_attn_by_inverse_layer_idx": (None, False),
    "rope_interleaved": (None, False),
    "use_mrope": (None, False),
    "partial_rotary_factor": (None, 1),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "query_pre_attn_scalar": (None,),
    "attention_multiplier": (None,),
    "embedding_multiplier": (None, 1),
    "residual_multiplier": (None, 1),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
    "clip_qkv": (None,),
    "no_rope_layers": (None, []),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
}
_READ = {
    *_CHANGES_RESULTS,
    "model_type", "vocab_size", "tie_word_embeddings", "head_dim", "n_positions", "n_ctx",
    "n_embd", "n_layer", "n_head", "n_inner", "activation_function", "layer_norm_epsilon",
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "rms_norm_eps", "max_position_embeddings",
    "original_max_position_embeddings", "rope_theta", "rope_scaling", "rope_parameters",
    "attention_bias", "mlp_bias", "sliding_window", "use_sliding_window", "max_window_layers",
    "layer_types", "bos_token_id", "eos_token_id", "pad_token_id", "license",
}  # fmt: skip
_WITHOUT_EFFECT = {
    "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "_name_or_path",
    "use_cache", "initializer_range", "pretraining_tp", "attention_dropout", "attn_pdrop",
    "embd_pdrop", "resid_pdrop", "summary_type", "summary_use_proj", "summary_activation",
    "summary_proj_to_labels", "summary_first_dropout", "reorder_and_upcast_attn",
    "task_specific_params", "id2label", "label2id", "is_llama_config", "is_decoder",
    "gradient_checkpointing", "output_past", "transformers.js_config", "_attn_implementation",
    "_attn_implementation_autoset", "output_attentions", "output_hidden_states", "return_dict",
    "problem_type", "unk_token_id", "sep_token_id", "decoder_start_token_id", "tokenizer_class",
    "prefix", "cross_attention_hidden_size", "chunk_size_feed_forward", "bad_words_ids",
    "mlp_dropout", "hidden_dropout", "finetuning_task", "unsloth_version", "unsloth_fixed",
    "tie_encoder_decoder", "max_length", "min_length", "do_sample", "top_k", "top_p",
    "temperature", "torchscript", "use_bfloat16",
}  # fmt: skip


def import_huggingface(folder: Path | str) -> GPT:
    """Read a model of GPT-2, Llama, Mistral, Qwen2 or Qwen3, in float32 on the CPU.

    Raises:
        UserError: See `open_huggingface`.
    """
    return build_model(open_huggingface(folder))


def open_huggingface(folder: Path | str) -> Pretrained:
    """Open a folder with config.json and safetensors files; the weights are not read yet.

    Raises:
        UserError: Files are missing, pickled, damaged or outside the folder, the architecture is
            not supported, or the weights do not fit the config.
    """
    folder = Path(folder)
    where = folder / "config.json"
    about = _read_about(folder)
    family = about.get("model_type")
    if family not in FAMILIES:
        raise UserError(
            f"model_type is {family!r}. Expected {', '.join(FAMILIES[:-1])} or {FAMILIES[-1]}.",
            where=where,
        )
    _check_entries(about, where)
    try:
        is_gpt2 = family == "gpt2"
        config = (gpt2 if is_gpt2 else llama_config).read_config(about, where=where)
    except UserError as error:  # of a setting; its name here is not the one in the file
        if error.where is not None:
            raise
        raise UserError(error.message, where=where) from error
    except KeyError as error:
        raise UserError(f"The entry {error} is missing.", where=where) from error
    except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise UserError(f"An entry has a wrong type or value ({error}).", where=where) from error
    special_ids = read_special_ids(folder)
    files = weight_files(folder)
    stored: dict[str, StoredTensor] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            their = (gpt2 if is_gpt2 else llama).their_name(name)
            if their in stored:
                raise UserError(
                    f"The tensor {name} is in {stored[their].path.name} and in {file.name}. One "
                    "tensor of each name is expected.",
                    where=folder,
                )
            if their is not None:
                stored[their] = tensor
    n_values = sum(tensor.n_bytes for tensor in stored.values()) // 2
    check_size(config, len(stored), n_values, where=where)
    if config.tie_embeddings and "lm_head.weight" in stored:
        embedding = "wte.weight" if is_gpt2 else "model.embed_tokens.weight"
        _check_tied(stored.pop("lm_head.weight"), stored.get(embedding), where)
    sources = gpt2.sources(config) if is_gpt2 else llama.sources(config, about)
    return Pretrained(
        config=config,
        family=family,
        tensors=readers(stored, sources, config, where=folder),
        special_ids=special_ids,
        files=(where, *files),
        license=_license(folder, about),
    )


def _read_about(folder: Path) -> dict[str, Any]:
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
    _check_links(folder)
    about = read_json(folder / "config.json")
    if not isinstance(about, dict):
        raise UserError(
            "This is not a JSON object with the settings of a model.", where=folder / "config.json"
        )
    return about


def _check_entries(about: Mapping[str, Any], where: Path) -> None:
    """Refuse settings that we do not compute, and log a warning for unknown ones."""
    for name, harmless in _CHANGES_RESULTS.items():
        if about.get(name) not in harmless:
            raise UserError(
                f"{name} is {about[name]!r}. Models with this setting are not supported.",
                where=where,
            )
    unknown = sorted(about.keys() - _READ - _WITHOUT_EFFECT)
    if unknown:
        _log.warning("These entries of %s are unknown and not used: %s", where, ", ".join(unknown))


def _check_tied(head: StoredTensor, embedding: StoredTensor | None, where: Path) -> None:
    """Check that a stored head is the embedding, a few rows at a time."""
    if embedding is None:
        return
    is_equal = (head.shape, head.type) == (embedding.shape, embedding.type)
    if is_equal:
        with open(head.path, "rb") as first, open(embedding.path, "rb") as second:
            first.seek(head.start)
            second.seek(embedding.start)
            for start in range(0, head.n_bytes, _COMPARED_BYTES):
                n = min(_COMPARED_BYTES, head.n_bytes - start)
                if first.read(n) != second.read(n):
                    is_equal = False
                    break
    if not is_equal:
        raise UserError(
            "tie_word_embeddings is true, and the weights have an lm_head.weight that differs from "
            "the embedding. tie_word_embeddings false, or weights without lm_head.weight, are "
            "expected.",
            where=where,
        )


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a folder: one, or the shards that an index lists.

    Raises:
        UserError: There is no safetensors file, or a shard is missing or outside the folder.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        # Every name is checked before the first file is opened.
        return [_inside(folder, name, index) for name in _shard_names(index)]
    if (folder / "model.safetensors").is_file():
        return [_inside(folder, "model.safetensors", folder)]
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
    if name.isprintable() and name.endswith(".safetensors"):
        path = folder / name
        if _is_inside(folder, path):
            return path
    raise UserError(
        f"{name!r} is refused. Expected a .safetensors file inside the folder, not a path or a "
        "link to another place.",
        where=where,
    )


def _is_inside(folder: Path, path: Path) -> bool:
    roots = [folder.resolve()]
    # In the cache of huggingface_hub the files of snapshots/<commit> are links to blobs/.
    if roots[0].parent.name == "snapshots":
        roots.append(roots[0].parents[1] / "blobs")
    return any(path.resolve().is_relative_to(root) for root in roots)


def _check_links(folder: Path) -> None:
    """Check that no file that may be read is a link to a place outside of the folder."""
    for path in sorted(folder.iterdir()):
        if path.suffix in _READ_SUFFIXES and path.is_file() and not _is_inside(folder, path):
            raise UserError(
                f"This is a link to {path.resolve()}, outside of the folder, and is not read. A "
                "file inside the folder is expected.",
                where=path,
            )


def _license(folder: Path, about: Mapping[str, Any]) -> str | None:
    """Read the license from the front matter of README.md, or from config.json."""
    readme = folder / "README.md"
    if readme.is_file():
        with open(readme, encoding="utf-8", errors="replace") as file:
            front = re.match(r"---\n(.*?)\n---", file.read(100_000), re.DOTALL)
        for name in ("license_name", "license"):
            pattern = rf"^{name}:[ \t]*(\S.*?)[ \t]*$"
            found = re.search(pattern, front[1], re.MULTILINE) if front else None
            if found:
                return found[1].strip("'\"")
    stated = about.get("license")
    return stated if isinstance(stated, str) else None
