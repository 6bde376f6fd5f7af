"""The tensors in an adapter file of peft: which module each belongs to, read and checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from groundup.base.errors import UsageError
from groundup.model.config import GPTConfig
from groundup.weights.adapter_config import AdapterConfig
from groundup.weights.adapter_names import PREFIX, Place, order_of_rows
from groundup.weights.safetensors_file import StoredTensor
from groundup.weights.sources import check_finite

A_NAME, B_NAME = ".lora_A.weight", ".lora_B.weight"
MAGNITUDE_NAME = ".lora_magnitude_vector"
"""The ends of the names, after the module."""


class Adapter(NamedTuple):
    """The adapter of one place, with rows in our order."""

    a: Tensor
    b: Tensor
    magnitude: Tensor | None
    scale: float


def adapters_by_module(
    stored: Mapping[str, StoredTensor], config: GPTConfig, known: Mapping[str, Place], path: Path
) -> dict[str, dict[str, StoredTensor]]:
    """Sort the tensors by the modules of transformers that they belong to.

    Raises:
        UserError: One of them belongs to no linear map of the model.
    """
    found: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in stored.items():
        bare = name.removeprefix(PREFIX).replace(f"{MAGNITUDE_NAME}.weight", MAGNITUDE_NAME)
        kind = next((kind for kind in (A_NAME, B_NAME, MAGNITUDE_NAME) if bare.endswith(kind)), "")
        module = bare.removesuffix(kind)
        if kind and module in known:
            found.setdefault(module, {})[kind] = tensor
            continue
        shown = name if len(name) <= 120 else f"{name[:120]}..."
        if any(word in bare for word in ("lm_head", "embed_tokens", "wte", "lora_embedding")):
            why = (
                "The embedding and the head of this model are one weight, so an adapter of one "
                "would change both"
                if config.tie_embeddings
                else "Adapters of the embedding and of the head are not supported"
            )
            raise UsageError(
                f"{shown} is a weight of the embedding or the head. {why}. An adapter of the "
                "linear maps of the blocks is expected.",
                where=path,
            )
        raise UsageError(
            f"{shown} belongs to no linear map of this model. It has {config.n_layers} layers, "
            f"with the modules {', '.join(dict.fromkeys(p.suffix for p in known.values()))}. An "
            "adapter that was trained on this model is expected.",
            where=path,
        )
    if not found:
        raise UsageError("The file has no adapters.", where=path)
    return found


def read_one(
    named: dict[str, StoredTensor],
    place: Place,
    config: AdapterConfig,
    model: GPTConfig,
    path: Path,
) -> Adapter:
    """Read the adapter of one module.

    Raises:
        UserError: A tensor is missing, or of another shape, or has NaN or infinite values.
    """
    rank, scale = config.of(place.module)
    n_rows = place.stop - place.start
    shapes: dict[str, tuple[int, ...]] = {A_NAME: (rank, place.n_columns), B_NAME: (n_rows, rank)}
    if config.variant == "dora":
        shapes[MAGNITUDE_NAME] = (n_rows,)
    if named.keys() != shapes.keys():
        different = sorted(named.keys() ^ shapes.keys())[0]
        state = "is there" if different in named else "is missing"
        raise UsageError(
            f"{place.module}{different} {state}. With use_dora "
            f"{'true' if config.variant == 'dora' else 'false'}, each module has "
            f"{', '.join(shape.removeprefix('.') for shape in shapes)}.",
            where=path,
        )
    tensors = {}
    for kind, shape in shapes.items():
        stored = named[kind]
        if stored.shape != shape:
            raise UsageError(
                f"{stored.name} has shape {stored.shape}, and {shape} is expected for rank {rank} "
                "and this model. An adapter that was trained on this model is expected.",
                where=path,
            )
        if stored.type not in ("F32", "F16", "BF16", "F64"):
            raise UsageError(f"{stored.name} is of type {stored.type}.", where=path)
        tensors[kind] = stored.read().float()
        check_finite(tensors[kind], stored.name, where=path)
    order = order_of_rows(model, place)
    if order is not None:
        inverse = order.argsort()
        tensors |= {kind: tensors[kind][inverse] for kind in tensors if kind != A_NAME}
    return Adapter(tensors[A_NAME], tensors[B_NAME], tensors.get(MAGNITUDE_NAME), scale)
