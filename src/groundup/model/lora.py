"""LoRA: train two thin matrices beside each frozen weight, and add their product to it at the end.

One weight of ours may hold several matrices of other projects: queries, keys and values are one
matrix, and so are gate and up of a gated MLP. Each of these parts has its own A and B, as in peft;
the A of all parts are stacked, so that one product reads the input for all of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.model.gpt import GPT, Block
from groundup.model.layers import Linear
from groundup.model.lora_config import LoRAConfig


class Part(NamedTuple):
    """Some rows of a weight, with an adapter of their own."""

    target: str
    start: int
    stop: int


class LoRALinear(Linear):
    """A frozen linear map, plus the adapters of its parts.

    Args:
        base: The linear map. Its weight and its bias are shared, not copied.
        parts: The rows that have adapters, in order.
        config: Rank, scale, dropout and variant.

    Source: "LoRA: Low-Rank Adaptation of Large Language Models", equation 3; "DoRA:
        Weight-Decomposed Low-Rank Adaptation", equation 5, with the norm detached as in its section
        4.3.
    """

    def __init__(self, base: nn.Linear, parts: Sequence[Part], config: LoRAConfig) -> None:
        super().__init__(base.in_features, 0, bias=False, initialize=False)
        self.out_features = base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.parts, self.config = tuple(parts), config
        self.is_enabled = True
        self.train(base.training)
        r, device = config.rank, base.weight.device
        rows = sum(part.stop - part.start for part in self.parts)
        # float32 also beside a weight in bfloat16: small updates would be lost to rounding.
        self.lora_a = nn.Parameter(torch.zeros(len(parts) * r, base.in_features, device=device))
        self.lora_b = nn.Parameter(torch.zeros(rows, r, device=device))
        self.magnitude: nn.Parameter | None = None
        if config.variant == "dora":
            lengths = torch.linalg.vector_norm(base.weight.detach().float(), dim=1)
            pieces = [lengths[part.start : part.stop] for part in self.parts]
            self.magnitude = nn.Parameter(torch.cat(pieces))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw A; B stays zero, so that the model starts unchanged.

        A is uniform within 1 / sqrt(columns), as in peft.
        """
        first = torch.empty(self.lora_a.shape)
        nn.init.kaiming_uniform_(first, a=5**0.5, generator=generator)
        self.lora_a.copy_(first)

    def adapters(self) -> Iterator[tuple[Part, Tensor, Tensor, Tensor | None]]:
        """Yield each part with its A (r, d_in), its B (rows, r) and its magnitudes (rows,)."""
        row, r = 0, self.config.rank
        for i, part in enumerate(self.parts):
            rows = slice(row, row + part.stop - part.start)
            magnitude = None if self.magnitude is None else self.magnitude[rows]
            yield part, self.lora_a[i * r : (i + 1) * r], self.lora_b[rows], magnitude
            row = rows.stop

    def spread_b(self) -> Float[Tensor, "O R"]:
        """Lay out the B of all parts for one product with the stacked A: on a diagonal of blocks.

        The product with the zeros beside the blocks costs less than joining one product per part.
        """
        blocks, end = [], 0
        for part, _, b, _ in self.adapters():
            blocks += [b.new_empty(part.start - end, 0), b]  # rows without an adapter are zero
            end = part.stop
        blocks.append(self.lora_b.new_empty(self.out_features - end, 0))
        spread: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
        return spread

    def forward(self, x: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """Compute the output of the linear map with its adapters."""
        if not self.is_enabled:
            return super().forward(x)
        flat = x.reshape(-1, self.in_features)  # (N, I)
        # All parts share the zeros of the dropout. The frozen product has none; with DoRA, that of
        # peft has.
        dropped = F.dropout(flat, self.config.dropout, self.training)
        low = F.linear(dropped, self.lora_a.to(x.dtype))  # (N, parts r)
        b = self.spread_b()
        update = (self.config.scale * b).to(x.dtype).t()  # (parts r, O)
        if self.magnitude is None:
            result = F.linear(flat, self.weight, self.bias).addmm_(low, update)
        else:
            result = F.linear(flat, self.weight).addmm_(low, update)
            result = result * self.ratios(b).to(x.dtype)
            result = result if self.bias is None else result + self.bias
        return result.view(*x.shape[:-1], -1)  # (..., O)

    @torch.no_grad()
    def merged_weight(self) -> Float[Tensor, "O I"]:
        """Compute the weight that gives the same outputs, in float32."""
        if not self.is_enabled:
            return self.weight.detach().float()
        b = self.spread_b()
        merged = self._sum(b)
        return merged if self.magnitude is None else merged * self.ratios(b)[:, None]

    def ratios(self, b: Float[Tensor, "O R"]) -> Float[Tensor, " O"]:
        """Compute by how much DoRA scales each row: its magnitude over its length.

        The length is a constant in the backward pass, as the paper proposes.
        """
        assert self.magnitude is not None
        with torch.no_grad():
            lengths = torch.linalg.vector_norm(self._sum(b), dim=1).clamp(min=1e-30)
        pieces, end = [], 0
        for part, _, _, magnitude in self.adapters():
            assert magnitude is not None
            rows = lengths[part.start : part.stop]
            pieces += [lengths.new_ones(part.start - end), magnitude / rows]
            end = part.stop
        return torch.cat([*pieces, lengths.new_ones(self.out_features - end)])

    def _sum(self, b: Tensor) -> Float[Tensor, "O I"]:
        """The weight plus the update, before the magnitudes, in float32."""
        scale = self.config.scale
        return torch.addmm(self.weight.float(), b.float(), self.lora_a.float(), alpha=scale)


def add_lora(model: GPT, config: LoRAConfig, *, seed: int) -> None:
    """Freeze the model, and add adapters to the linear maps that the config names.

    The weights of the model may be bfloat16; the adapters are float32. Their names are those of the
    weight with `lora_a`, `lora_b` and `magnitude`.

    Args:
        model: It is changed in place; its outputs stay the same until the adapters are trained.
        config: Rank, scale, dropout, targets and variant.
        seed: Random seed of A, the same on every device.

    Raises:
        UserError: The model has adapters already, or none of the targets.

    >>> from groundup.model.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2))
    >>> add_lora(model, LoRAConfig(rank=2, targets=("query", "value")), seed=1)
    >>> sorted(lora_parameters(model))[:2]
    ['blocks.0.attention.qkv.lora_a', 'blocks.0.attention.qkv.lora_b']
    """
    if has_lora(model):
        raise UserError("The model has LoRA adapters already. Merge them with merge_lora first.")
    generator = torch.Generator().manual_seed(seed)
    made: list[tuple[nn.Module, str, LoRALinear]] = []
    for block in model.blocks:
        assert isinstance(block, Block)
        for owner, name, every in linear_maps(block):
            parts = [part for part in every if part.target in config.targets]
            if parts:
                made.append((owner, name, LoRALinear(getattr(owner, name), parts, config)))
                made[-1][2].initialize(generator)
    if not made:
        raise UserError(
            f"The model has none of the targets {', '.join(config.targets) or '(none given)'}. Its "
            "linear maps are query, key, value, attention_out, gate (only with swiglu), up, down.",
            settings={"lora_targets": ("query", "value")},
        )
    model.requires_grad_(False)
    for owner, name, layer in made:
        setattr(owner, name, layer)


def linear_maps(block: Block) -> tuple[tuple[nn.Module, str, tuple[Part, ...]], ...]:
    """List the linear maps of a block: the module that has it, its name there, and its parts."""
    attention, mlp = block.attention, block.mlp
    F2, C = mlp.up.weight.shape
    F1 = F2 // 2 if mlp.gated else 0
    if attention is not None:
        H, G, D = attention.n_heads, attention.n_kv_heads, attention.d_head
        mixer: tuple[nn.Module, str] = (attention, "qkv")
    else:
        assert block.delta is not None
        H = G = block.delta.n_heads
        D = block.delta.d_head
        mixer = (block.delta, "inputs")
    return (
        (
            *mixer,
            (
                Part("query", 0, H * D),
                Part("key", H * D, (H + G) * D),
                Part("value", (H + G) * D, (H + 2 * G) * D),
            ),
        ),
        (mixer[0], "out", (Part("attention_out", 0, C),)),
        (mlp, "up", (*([Part("gate", 0, F1)] if mlp.gated else []), Part("up", F1, F2))),
        (mlp, "down", (Part("down", 0, C),)),
    )


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """List the linear maps with adapters by their names."""
    return {n: module for n, module in model.named_modules() if isinstance(module, LoRALinear)}


def has_lora(model: nn.Module) -> bool:
    """Whether the model has adapters."""
    return any(isinstance(module, LoRALinear) for module in model.modules())


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """List the parameters of the adapters by their names in the model."""
    return {
        f"{name}.{own}": parameter
        for name, layer in lora_layers(model).items()
        for own, parameter in layer.named_parameters()
        if own not in ("weight", "bias")
    }


@torch.no_grad()
def merge_lora(model: GPT) -> GPT:
    """Make a model without adapters that computes the same; `model` itself is unchanged.

    The arithmetic is float32, and each weight is rounded once to its dtype. With float32 weights
    the outputs are equal up to the order of sums; with bfloat16 weights they are not, because the
    sum of weight and update is rounded.
    """
    merged = GPT(model.config, initialize=False)
    merged.n_used_ids = model.n_used_ids
    layers = lora_layers(model)
    given = dict(model.named_parameters())
    for name, parameter in merged.named_parameters():
        owner, _, kind = name.rpartition(".")
        source = given[name]
        value = source.detach()
        if owner in layers and kind == "weight":
            value = layers[owner].merged_weight()
        parameter.data = value.to(source.dtype, copy=True)
    return merged.to(model.device).train(model.training)


@contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """Compute with the model as it was before `add_lora`, inside the `with` block.

    For the log-probabilities of the reference model without a second copy of the weights.
    """
    layers = list(lora_layers(model).values())
    before = [layer.is_enabled for layer in layers]
    try:
        for layer in layers:
            layer.is_enabled = False
        yield
    finally:
        for layer, is_enabled in zip(layers, before, strict=True):
            layer.is_enabled = is_enabled
