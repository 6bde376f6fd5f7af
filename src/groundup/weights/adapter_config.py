"""adapter_config.json of peft: what it says, checked.

A field that changes what the adapter computes is honored, or refused by its name; so is a field
that is not known here, unless it is empty.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from groundup.base.errors import UsageError
from groundup.base.files import read_json

CONFIG_FILE = "adapter_config.json"
_LARGEST_RANK, _LARGEST_ALPHA = 65_536, 1e30
_LONGEST_PATTERN = 1000
_HONORED = frozenset(
    (
        "peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "rank_pattern",
        "alpha_pattern", "base_model_name_or_path",
    )
)  # fmt: skip
_WITHOUT_EFFECT = frozenset(
    (
        # The names of the tensors say which modules have adapters.
        "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
        # How peft stores, initializes or runs an adapter.
        "auto_mapping", "peft_version", "task_type", "revision", "inference_mode", "fan_in_fan_out",
        "megatron_core", "qalora_group_size", "ensure_weight_tying", "runtime_config", "eva_config",
        "lora_ga_config",
    )
)  # fmt: skip
_REASONS = {
    "bias": "the biases of the base are trained, too",
    "modules_to_save": "whole modules are trained besides the adapters",
    "lora_bias": "the adapters have biases",
    "trainable_token_indices": "rows of the token embedding are trained",
    "layer_replication": "layers of the base are repeated",
    "target_parameters": "parameters that belong to no linear map have adapters",
    "init_lora_weights": "the weights of the base were changed before training",
}
_INITIALIZATIONS = (True, False, None, "gaussian", "eva", "orthogonal", "true", "false")
"""Those that leave the base as it is."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What an adapter_config.json says of the adapters."""

    rank: int
    alpha: float
    dropout: float
    variant: Literal["lora", "rslora", "dora"]
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    base_name: str | None

    def of(self, module: str) -> tuple[int, float]:
        """Return rank and scale of the adapter of a module."""
        rank = _matching(self.rank_pattern, module, self.rank)
        alpha = _matching(self.alpha_pattern, module, self.alpha)
        return rank, alpha / (rank**0.5 if self.variant == "rslora" else rank)


def _matching(pattern: dict[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that is the module, or the end of its name, as in peft."""
    found = (key for key in pattern if re.match(rf"(.*\.)?({key})$", module))
    return pattern.get(next(found, ""), default)


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read and check the adapter_config.json of a folder.

    Raises:
        UserError: It is missing or invalid, or states what is not supported.
    """
    where = folder / CONFIG_FILE
    if not where.is_file():
        raise UsageError(
            f"There is no adapter here. A folder with {CONFIG_FILE} and adapter_model.safetensors, "
            "as peft writes them, is expected.",
            where=folder,
        )
    about = read_json(where)
    if not isinstance(about, dict) or about.get("peft_type") != "LORA":
        found = about.get("peft_type") if isinstance(about, dict) else None
        raise UsageError(f"peft_type is {found!r}. LORA is expected.", where=where)
    _refuse_unsupported(about, where)
    is_dora, is_rslora = (_flag(about, name, where) for name in ("use_dora", "use_rslora"))
    if is_dora and is_rslora:
        raise UsageError(
            "use_dora and use_rslora are both true. At most one of them is supported.", where=where
        )
    ranks = _pattern(about, "rank_pattern", where)
    alphas = _pattern(about, "alpha_pattern", where)
    name = about.get("base_model_name_or_path")
    return AdapterConfig(
        rank=_rank("r", about.get("r", 8), where),
        alpha=_positive("lora_alpha", about.get("lora_alpha", 8), where),
        dropout=_dropout(about.get("lora_dropout", 0.0), where),
        variant="dora" if is_dora else "rslora" if is_rslora else "lora",
        rank_pattern={
            key: _rank(f"rank_pattern {key}", value, where) for key, value in ranks.items()
        },
        alpha_pattern={
            key: _positive(f"alpha_pattern {key}", v, where) for key, v in alphas.items()
        },
        base_name=name if isinstance(name, str) else None,
    )


def _refuse_unsupported(about: dict[str, Any], where: Path) -> None:
    for name, value in about.items():
        if name in _HONORED or name in _WITHOUT_EFFECT or value in (None, False, "", [], {}):
            continue
        if name == "bias" and value == "none":
            continue
        if name == "init_lora_weights" and value in _INITIALIZATIONS:
            continue
        reason = _REASONS.get(name, "it may change what the adapter computes")
        raise UsageError(
            f"{name} is {str(value)[:100]!r}: {reason}, which is not supported. An adapter without "
            "it is expected. peft can merge such an adapter into its base (merge_and_unload); the "
            "merged model can be imported.",
            where=where,
        )


def _flag(about: dict[str, Any], name: str, where: Path) -> bool:
    value = about.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {str(value)[:100]!r}. true or false is expected.", where=where)
    return value


def _pattern(about: dict[str, Any], name: str, where: Path) -> dict[str, Any]:
    value = about.get(name) or {}
    if not isinstance(value, dict) or len(value) > _LONGEST_PATTERN:
        raise UsageError(f"{name} is not a table of module names and numbers.", where=where)
    for key in value:
        # peft reads keys as regular expressions, which can take forever; names are enough.
        if not re.fullmatch(r"[\w.\-]{1,200}", key):
            raise UsageError(
                f"{name} has the key {key[:100]!r}. The name of a module is expected; regular "
                "expressions are not supported.",
                where=where,
            )
    return value


def _rank(name: str, value: Any, where: Path) -> int:
    if type(value) is not int or not 1 <= value <= _LARGEST_RANK:
        raise UsageError(
            f"{name} is {str(value)[:100]!r}. A whole number from 1 to {_LARGEST_RANK:,} is "
            "expected.",
            where=where,
        )
    return value


def _positive(name: str, value: Any, where: Path) -> float:
    if type(value) not in (int, float) or not 0 < value < _LARGEST_ALPHA:
        raise UsageError(
            f"{name} is {str(value)[:100]!r}. A number above 0 is expected.", where=where
        )
    return float(value)


def _dropout(value: Any, where: Path) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise UsageError(
            f"lora_dropout is {str(value)[:100]!r}. A number from 0 to below 1 is expected.",
            where=where,
        )
    return float(value)
