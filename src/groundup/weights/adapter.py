"""LoRA adapters as files: the format of peft.

A folder holds `adapter_config.json` and `adapter_model.safetensors`. The metadata of the latter
also names the base that the adapter was trained on, by a hash of its weights.
"""

import hashlib
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn

from groundup.base.errors import UsageError
from groundup.base.files import atomic_folder, write_json
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.lora import LoRALinear, Part, has_lora, lora_layers, lora_parameters
from groundup.model.lora_config import LoRAConfig
from groundup.weights.adapter_config import CONFIG_FILE, AdapterConfig, read_adapter_config
from groundup.weights.adapter_names import PREFIX, Place, order_of_rows, places
from groundup.weights.adapter_tensors import (
    A_NAME,
    B_NAME,
    MAGNITUDE_NAME,
    Adapter,
    adapters_by_module,
    read_one,
)
from groundup.weights.checkpoint_format import save_tensors
from groundup.weights.gpt2 import is_gpt2
from groundup.weights.safetensors_file import read_header_and_metadata

WEIGHTS_FILE = "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter of peft."""
    return (folder / CONFIG_FILE).is_file()


def weights_sha256(model: nn.Module) -> str:
    """Hash the weights of a model without its adapters, as bfloat16.

    So the hash is the same while the weights are kept in bfloat16 for training.
    """
    digest = hashlib.sha256()
    adapters = lora_parameters(model)
    for name, parameter in sorted(model.named_parameters()):
        if name not in adapters:
            digest.update(f"{name} {tuple(parameter.shape)}".encode())
            data = parameter.detach().to("cpu", torch.bfloat16).contiguous()
            digest.update(data.view(torch.int16).numpy().data)
    return digest.hexdigest()


def save_adapter(
    model: GPT, folder: Path | str, *, base_sha256: str = "", base_name: str = ""
) -> None:
    """Write the adapters of a model in the format of peft.

    Args:
        model: A model with adapters.
        folder: The folder to write. It must not exist, or be an earlier adapter.
        base_sha256: `weights_sha256` of the base. Empty: it is computed.
        base_name: The base model, as `base_model_name_or_path` of peft. Empty: none.

    Raises:
        UserError: The model has no adapters, or the folder cannot be written.
    """
    if not has_lora(model):
        raise UsageError("The model has no LoRA adapters. A model after add_lora is expected.")
    found = _adapters_of(model)
    first = next(iter(lora_layers(model).values())).config
    is_rslora = first.variant == "rslora"
    sizes = {
        place.module: (len(each.a), each.scale * len(each.a) ** (0.5 if is_rslora else 1.0))
        for place, each in found
    }
    (rank, alpha), _ = Counter(sizes.values()).most_common(1)[0]
    tensors: dict[str, Tensor] = {}
    for place, each in found:
        name = PREFIX + place.module
        tensors[name + A_NAME], tensors[name + B_NAME] = each.a, each.b
        if each.magnitude is not None:
            tensors[name + MAGNITUDE_NAME] = each.magnitude
    sha256 = base_sha256 or weights_sha256(model)
    n_ids = str(model.n_used_ids)
    metadata = {"producer": "groundup", "base_sha256": sha256, "n_ids": n_ids}
    with atomic_folder(folder) as temporary:
        ready = {name: tensor.float().cpu().clone() for name, tensor in tensors.items()}
        save_tensors(ready, temporary / WEIGHTS_FILE, **metadata)
        write_json(
            temporary / CONFIG_FILE,
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": base_name or None,
                "r": rank,
                "lora_alpha": alpha,
                "lora_dropout": first.dropout,
                "use_rslora": is_rslora,
                "use_dora": first.variant == "dora",
                "target_modules": _target_modules(model.config, [place for place, _ in found]),
                "rank_pattern": {m: r for m, (r, _) in sizes.items() if r != rank},
                "alpha_pattern": {m: x for m, (_, x) in sizes.items() if x != alpha},
                "bias": "none",
                "fan_in_fan_out": is_gpt2(model.config),  # its linear maps compute x W
                "init_lora_weights": True,
                "inference_mode": True,
                "modules_to_save": None,
            },
        )


def _target_modules(config: GPTConfig, found: list[Place]) -> list[str]:
    """Name the modules: by the end of their names if every layer has them."""
    counts = Counter(place.suffix for place in found)
    if set(counts.values()) == {config.n_layers}:
        return sorted(counts)
    return [place.module for place in found]


@torch.no_grad()
def _adapters_of(model: GPT) -> list[tuple[Place, Adapter]]:
    """List the adapters of a model by the modules of transformers, with rows in their order."""
    layers, found = lora_layers(model), []
    for place in places(model.config).values():
        layer = layers.get(place.layer)
        if layer is None:
            continue
        inside = [
            (i, each)
            for i, each in enumerate(layer.adapters())
            if place.start <= each[0].start and each[0].stop <= place.stop
        ]
        if not inside:
            continue
        _, (part, a, b, magnitude) = inside[0]
        if (part.start, part.stop) != (place.start, place.stop):
            # Several parts of ours are one matrix of theirs: one adapter of their joint rank.
            r = layer.config.rank
            columns = [column for i, _ in inside for column in range(i * r, (i + 1) * r)]
            spread, rows = layer.spread_b(), slice(place.start, place.stop)
            a, b = layer.lora_a[columns], spread[rows][:, columns]
            if magnitude is not None:
                magnitude = torch.linalg.vector_norm(layer.merged_weight(), dim=1)[rows]
        order = order_of_rows(model.config, place)
        if order is not None:
            b, magnitude = b[order], None if magnitude is None else magnitude[order]
        found.append((place, Adapter(a, b, magnitude, layer.config.scale)))
    return found


def load_adapter(model: GPT, folder: Path | str, *, any_base: bool = False) -> AdapterConfig:
    """Add the adapters of a folder in the format of peft to a model, and freeze the rest.

    Args:
        model: The base that the adapter was trained on. It is changed in place.
        folder: Has adapter_config.json and adapter_model.safetensors.
        any_base: Accept another base of the same shapes. An adapter that peft wrote does not say
            which weights it was trained on, so it is always accepted.

    Raises:
        UserError: The adapter is invalid, needs what is not supported, or was trained on another
            base. The model is unchanged.
    """
    folder = Path(folder)
    if has_lora(model):
        raise UsageError("The model has LoRA adapters already. A model without is expected.")
    config = read_adapter_config(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file() and (folder / "adapter_model.bin").is_file():
        raise UsageError(
            "The weights are in adapter_model.bin, a pickle file, which can run code. "
            "adapter_model.safetensors is expected; save_pretrained of peft writes it.",
            where=folder,
        )
    stored, metadata = read_header_and_metadata(path)
    known = places(model.config)
    named = adapters_by_module(stored, model.config, known, path)
    layers: dict[str, list[tuple[Place, Adapter]]] = {}
    for module, place in known.items():
        if module in named:
            each = read_one(named[module], place, config, model.config, path)
            layers.setdefault(place.layer, []).append((place, each))
    trained_on = metadata.get("base_sha256", "")
    if trained_on and not any_base and trained_on != (found := weights_sha256(model)):
        if (n_ids := int(metadata.get("n_ids", 0))) > model.n_used_ids:
            raise UsageError(
                f"The adapter was trained on a model of {n_ids:,} tokens, and this one has "
                f"{model.n_used_ids:,}: chat tokens were added before the training, and their "
                "embeddings are in the complete fine-tuned model only. That model is expected in "
                "place of the adapter.",
                where=folder,
            )
        raise UsageError(
            f"The adapter was trained on another base ({config.base_name or 'without a name'}), "
            f"whose weights have the hash {trained_on[:12]}. Those of this model have "
            f"{found[:12]}. The model that it was trained on is expected.",
            where=folder,
        )
    modules = dict(model.named_modules())
    built = {name: _layer(modules[name], each, config) for name, each in layers.items()}
    model.requires_grad_(False)
    for name, layer in built.items():
        owner, _, own = name.rpartition(".")
        setattr(modules[owner], own, layer)
    return config


@torch.no_grad()
def _layer(
    base: nn.Module, adapters: list[tuple[Place, Adapter]], config: AdapterConfig
) -> LoRALinear:
    """Make a linear map with these adapters, which may differ in rank and scale."""
    assert isinstance(base, nn.Linear)
    rank, scale = max(len(each.a) for _, each in adapters), adapters[0][1].scale
    alpha = scale * (rank**0.5 if config.variant == "rslora" else rank)
    settings = LoRAConfig(rank=rank, alpha=alpha, dropout=config.dropout, variant=config.variant)
    parts = [Part(place.suffix, place.start, place.stop) for place, _ in adapters]
    layer = LoRALinear(base, parts, settings)
    layer.lora_a.zero_()  # a part of a smaller rank leaves rows and columns zero
    for (_, each), (_, a, b, magnitude) in zip(adapters, layer.adapters(), strict=True):
        r = len(each.a)
        a[:r], b[:, :r] = each.a, each.b * (each.scale / scale)
        if magnitude is not None and each.magnitude is not None:
            magnitude.copy_(each.magnitude)
    return layer
