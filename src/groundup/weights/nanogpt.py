"""Open a checkpoint of nanoGPT: the file ckpt.pt that its train.py writes.

It is a pickle. torch reads it without running code from it, and refuses every file that contains
more than tensors and plain values.
"""

import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.weights.gpt2 import LAYER_NAMES, TOP_NAMES
from groundup.weights.pretrained import Pretrained
from groundup.weights.sources import Source, check_size, readers
from groundup.weights.special_ids import SpecialIds

_COMPILED = "_orig_mod."
_PREFIX = "transformer."
_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_KNOWN = {*_SIZES, "bias", "dropout"}


@dataclass(frozen=True)
class _Mapped:
    """A tensor of the file, which torch maps into memory."""

    tensor: Tensor

    @property
    def type(self) -> str:
        return _TYPES.get(self.tensor.dtype, str(self.tensor.dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def read(self) -> Tensor:
        return self.tensor


def open_nanogpt(path: Path | str) -> Pretrained:
    """Open a checkpoint that nanoGPT's train.py wrote, also of a compiled model.

    Its GELU is the exact form.

    Raises:
        UserError: The file is missing or damaged, contains more than weights and settings, or is no
            checkpoint of nanoGPT.
    """
    path = Path(path)
    checkpoint = _loaded(path)
    args, weights = checkpoint.get("model_args"), checkpoint.get("model")
    if not isinstance(args, dict) or not isinstance(weights, dict):
        raise UserError(
            "This is a pickle of another program. A checkpoint of nanoGPT (a dictionary with "
            "`model` and `model_args`), a GGUF file, or a folder with config.json and "
            "model.safetensors is expected.",
            where=path,
        )
    stored = {
        str(name).removeprefix(_COMPILED): _Mapped(value)
        for name, value in weights.items()
        # The causal mask, which some versions store.
        if isinstance(value, Tensor) and not str(name).endswith(".attn.bias")
    }
    head, embedding = stored.get("lm_head.weight"), stored.get("transformer.wte.weight")
    is_tied = head is None or (embedding is not None and _is_equal(head.tensor, embedding.tensor))
    if is_tied:
        stored.pop("lm_head.weight", None)
    config = _config(args, is_tied, path)
    n_values = sum(each.tensor.numel() for each in stored.values())
    check_size(config, len(stored), n_values, where=path)
    return Pretrained(
        config=config,
        family="nanogpt",
        tensors=readers(stored, _sources(config), config, where=path),
        special_ids=SpecialIds(),
        files=(path,),
    )


def _loaded(path: Path) -> dict[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files in an older format; they are refused below
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise UserError("This file is missing.", where=path) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            "This file is a pickle with more than tensors and plain values, and reading it could "
            "run code. A checkpoint of nanoGPT, a GGUF file, or a folder with config.json and "
            "model.safetensors is expected.",
            where=path,
        ) from error
    except Exception as error:  # damaged files raise errors of many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"This file cannot be read as a checkpoint of nanoGPT ({reason}).", where=path
        ) from error
    return found if isinstance(found, dict) else {}


def _is_equal(head: Tensor, embedding: Tensor) -> bool:
    is_same_memory = head.data_ptr() == embedding.data_ptr() and head.shape == embedding.shape
    return is_same_memory or torch.equal(head, embedding)


def config_of(
    args: Mapping[str, Any], *, is_tied: bool, is_tanh: bool = False, dropout: float = 0.0
) -> GPTConfig:
    """Build our config from the fields of nanoGPT's.

    Args:
        args: The fields.
        is_tied: The head is the token embedding.
        is_tanh: The GELU is the tanh form, which the published GPT-2 weights were trained with.
        dropout: Fraction of activations that are set to zero in training.

    Raises:
        UserError: A field is out of its range.
    """
    has_bias = args.get("bias", True)
    return GPTConfig(
        vocab_size=args["vocab_size"],
        context_length=args["block_size"],
        d_model=args["n_embd"],
        n_layers=args["n_layer"],
        n_heads=args["n_head"],
        norm="layer",
        norm_eps=1e-5,
        positions="learned",
        qk_norm=False,
        activation="gelu" if is_tanh else "gelu-exact",
        bias=has_bias,
        qkv_bias=has_bias,
        tie_embeddings=is_tied,
        init="gpt2",
        dropout=dropout,
    )


def _config(args: Mapping[str, Any], is_tied: bool, path: Path) -> GPTConfig:
    missing = [name for name in _SIZES if name not in args]
    unknown = sorted(set(map(str, args)) - _KNOWN)
    if missing or unknown:
        found = f"has no {missing[0]}" if missing else f"has {unknown[0]}, which is unknown"
        raise UserError(
            f"model_args {found}. The settings of nanoGPT's GPTConfig are expected.", where=path
        )
    try:
        return config_of(args, is_tied=is_tied)
    except UserError as error:
        raise UserError(f"model_args: {error.message}", where=path) from error


def _sources(config: GPTConfig) -> Iterator[Source]:
    C, F = config.d_model, config.ff_width
    shapes = {
        "wte.weight": (config.vocab_size, C), "wpe.weight": (config.context_length, C),
        "attn.c_attn.weight": (3 * C, C), "attn.c_attn.bias": (3 * C,),
        "attn.c_proj.weight": (C, C), "mlp.c_fc.weight": (F, C), "mlp.c_fc.bias": (F,),
        "mlp.c_proj.weight": (C, F),
    }  # fmt: skip
    names = [(our, their, their) for our, their in TOP_NAMES]
    for layer in range(config.n_layers):
        names += [(f"blocks.{layer}.{our}", f"h.{layer}.{t}", t) for our, t, _ in LAYER_NAMES]
    for our, their, kind in names:
        if config.bias or not our.endswith(".bias"):
            yield Source(our, ((_PREFIX + their, shapes.get(kind, (C,))),))
    if not config.tie_embeddings:
        yield Source("head.weight", (("lm_head.weight", (config.vocab_size, C)),))
