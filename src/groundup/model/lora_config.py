"""Settings of LoRA. This file loads no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from groundup.base.fields import Config
from groundup.base.kinds import Count, OptionName, Positive, Section

Target = Literal["query", "key", "value", "attention_out", "gate", "up", "down"]
"""A linear map of a block. A model without a gated MLP has no "gate"."""
_LORA = Section("LoRA")


@dataclass(frozen=True, kw_only=True)
class LoRAConfig(Config):
    """Settings of the low-rank adapters: W x becomes W x + scale * B A x, with W frozen."""

    rank: Annotated[Count, _LORA, OptionName("lora_rank")] = 16
    """Rank of each adapter: the number of rows of A and of columns of B."""
    alpha: Annotated[Positive, Lt(1e35), _LORA, OptionName("lora_alpha")] = 32.0
    """Scale of the adapters: alpha / rank with lora and dora, alpha / sqrt(rank) with rslora."""
    dropout: Annotated[float, Ge(0), Lt(1), _LORA, OptionName("lora_dropout")] = 0.0
    """Fraction of the input of the adapters that is set to zero in training."""
    targets: Annotated[tuple[Target, ...], _LORA, OptionName("lora_targets")] = (
        "query", "key", "value", "attention_out", "gate", "up", "down",
    )  # fmt: skip
    """Linear maps that get an adapter."""
    variant: Annotated[Literal["lora", "rslora", "dora"], _LORA, OptionName("lora_variant")] = (
        "lora"
    )
    """LoRA, rank-stabilized LoRA, or DoRA, which also trains the length of each row."""

    @property
    def scale(self) -> float:
        """Factor of the adapters' outputs.

        Source: "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1; for rslora "A
            Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", section 3.
        """
        return self.alpha / (self.rank**0.5 if self.variant == "rslora" else self.rank)
