"""The metadata of a GGUF file: the architecture of the model, and the ids that end a text.

Every key of an architecture that changes what is computed is honored or refused by name.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from groundup.base.errors import UserError
from groundup.base.gguf import GGUFHeader
from groundup.weights.gguf_names import FAMILIES
from groundup.weights.special_ids import SpecialIds

_LARGEST = 2**31 - 1
_SIZES = (
    *("vocab_size", "context_length", "embedding_length", "feed_forward_length", "block_count"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length"),
    *("attention.value_length", "rope.dimension_count"),
)
_HONORED = {
    *_SIZES,
    *("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "rope.freq_base"),
    "attention.sliding_window",
    *(f"rope.scaling.{name}" for name in ("type", "factor", "original_context_length")),
    *(f"rope.scaling.yarn_{name}" for name in ("beta_fast", "beta_slow", "attn_factor")),
    *(f"rope.scaling.yarn_{name}" for name in ("ext_factor", "log_multiplier")),
}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    # keys that change what is computed, and the values at which they change nothing
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "attn_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "pooling_type": (0,),
    "residual_scale": (0, 1),
    "rope.scale_linear": (0, 1),
    "rope.scaling.attn_factor": (0, 1),
    "tensor_data_layout": ("Meta AI original pth",),
    "use_parallel_residual": (False,),
}
_WITHOUT_EFFECT = {"rope.scaling.finetuned"}
"""A key that only states where a model is from."""


class Metadata:
    """The keys of one file, checked as they are read."""

    def __init__(self, header: GGUFHeader) -> None:
        self.values, self.path = header.metadata, header.path
        self.family = self._family()

    def _family(self) -> str:
        family = self.values.get("general.architecture")
        if family not in FAMILIES:
            self.refuse("general.architecture", f"{', '.join(FAMILIES)} are supported.")
        if self.values.get("general.type", "model") != "model":
            self.refuse("general.type", "A complete model is expected.")
        if self.values.get("split.count", 1) not in (0, 1):
            self.refuse("split.count", "A model in one file is expected.")
        assert isinstance(family, str)
        return family

    def size(self, name: str, default: int | None = None) -> int:
        """Read a whole number, which may be stated once per layer if all are equal."""
        key = f"{self.family}.{name}"
        value = self.values.get(key, default)
        if value is None:
            raise UserError(f"The key {key!r} is missing.", where=self.path)
        if isinstance(value, np.ndarray) and len(value) and (value == value[0]).all():
            value = value[0].item()
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
            self.refuse(key, f"A whole number from 1 to {_LARGEST:,} is expected.")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Read a positive number. One in float32 is taken as the decimal that it was made from."""
        key = f"{self.family}.{name}"
        value = self.values.get(key, default)
        if value is None:
            raise UserError(f"The key {key!r} is missing.", where=self.path)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < math.inf:
            self.refuse(key, "A positive number is expected.")
        single = np.float32(value)
        return float(str(single)) if float(single) == value else float(value)

    def check_keys(self) -> None:
        """Refuse a key of the architecture that is unknown, or has an effect that is not computed.

        Raises:
            UserError: The message names the key.
        """
        for key, value in self.values.items():
            name = key.removeprefix(f"{self.family}.")
            if name == key or name in _HONORED or name in _WITHOUT_EFFECT:
                continue
            if name not in _NEUTRAL:
                raise UserError(
                    f"The key {key[:80]!r} is not supported. The model could be computed wrongly.",
                    where=self.path,
                )
            if not any(type(value) in _alike(each) and value == each for each in _NEUTRAL[name]):
                self.refuse(key, f"Only {_NEUTRAL[name][-1]!r} is supported.")

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise an error that names the key and its value."""
        value = repr(self.values.get(key))
        shown = value if len(value) < 80 else f"{value[:80]}..."
        raise UserError(f"{key} is {shown}. {expected}", where=self.path)


def _alike(value: Any) -> tuple[type, ...]:
    """Types that may have this value: 0 may be a whole number or not, but not False."""
    return (int, float) if type(value) is int else (type(value),)


def special_ids_of(values: Mapping[str, Any], where: Path) -> SpecialIds:
    """Read the ids that begin and end texts: all of the ids of ends end a text.

    Raises:
        UserError: An entry is no token id.
    """

    def of(name: str) -> list[int]:
        key = f"tokenizer.ggml.{name}_token_id"
        value = values.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise UserError(f"{key} is {value!r}. A token id is expected.", where=where)
        return [] if value is None else [value]

    ends = list(dict.fromkeys(of("eos") + of("eot") + of("eom")))
    named = {"bos_token_id": of("bos"), "eos_token_id": ends[:1], "pad_token_id": of("padding")}
    config = {name: ids[0] for name, ids in named.items() if ids}
    return SpecialIds(config=config, generation={"eos_token_id": ends} if len(ends) > 1 else {})
