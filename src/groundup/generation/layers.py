"""The blocks of a model as few operations: norms, products, rotation and activation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.generation.kernels import (
    Form,
    Kernel,
    Kernels,
    Matrix,
    Product,
    choose,
    dtype_of,
    make_product,
)
from groundup.model.config import GPTConfig
from groundup.model.delta import DeltaMixer, GatedDelta
from groundup.model.gpt import GPT, Block
from groundup.model.lora import LoRALinear
from groundup.model.quantized import QuantizedWeight

Map = Callable[[Tensor], Tensor]
Watch = Callable[[int, Tensor, Tensor, Tensor], None]
"""Layer, the residual stream (N, C) before it, queries (N, H, D) and keys (N, G, D). The tensors
are overwritten afterwards. A gated delta rule has neither queries nor keys: both are empty."""


@runtime_checkable
class Attend(Protocol):
    """What passes between positions, and stores what later positions need."""

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (N, H D) for queries (N, H, D), keys and values (N, G, D) of attention."""

    def delta(self, layer: int, mixer: DeltaMixer, inputs: Tensor, rates: Tensor) -> Tensor:
        """Return (N, H D) for the inputs (N, 4 H D) and rates (N, 2 H) of a gated delta rule."""


@dataclass(frozen=True)
class _Layer:
    attention_norm: Map
    qkv: Product
    """Of a gated delta rule: its inputs."""
    head_norm: Map | None
    rotates: bool
    rates: Product | None
    mixer: DeltaMixer | None
    out: Product
    mlp_norm: Map
    up: Product
    down: Product


@dataclass(frozen=True)
class _Stack:
    """All layers with one kernel."""

    layers: list[_Layer]
    final_norm: Map
    head: Product
    dtype: torch.dtype


class Layers:
    """The blocks, the final norm and the head, for few and for many rows."""

    def __init__(self, config: GPTConfig, kernels: Kernels, few: _Stack, many: _Stack) -> None:
        self.kernels = kernels
        self._few, self._many = few, many
        self._n_heads, self._n_groups = config.n_heads, config.kv_heads
        self._width = config.head_width
        self._activate = _activation(config)

    def forward(
        self, x: Tensor, rotation: Tensor | None, attend: Attend, watch: Watch | None = None
    ) -> Tensor:
        """Compute the residual stream (N, C) after the last block. `x` is overwritten."""
        H, G, D = self._n_heads, self._n_groups, self._width
        stack = self._stack(x)
        dtype, activate = stack.dtype, self._activate
        # All layers write here: views are made once, and conversion to float32 is the copy.
        heads = x.new_empty(len(x), H + 2 * G, D)
        flat = heads.view(len(x), -1)
        queries_keys = heads.narrow(1, 0, H + G)
        pairs = queries_keys.view(torch.complex64) if rotation is not None else None
        queries, keys = heads.narrow(1, 0, H), heads.narrow(1, H, G)
        values = heads.narrow(1, H + G, G)
        for i, layer in enumerate(stack.layers):
            normed = layer.attention_norm(x)
            if layer.mixer is not None and layer.rates is not None:
                if watch is not None:
                    watch(i, x, x.new_empty(0), x.new_empty(0))
                inputs, rates = layer.qkv(normed).float(), layer.rates(normed).float()
                mixed = attend.delta(i, layer.mixer, inputs, rates)  # (N, H D)
            else:
                flat.copy_(layer.qkv(normed))
                if layer.head_norm is not None:
                    queries_keys.copy_(layer.head_norm(queries_keys))
                if layer.rotates and pairs is not None and rotation is not None:
                    pairs.mul_(rotation)
                if watch is not None:
                    watch(i, x, queries, keys)
                mixed = attend(i, queries, keys, values)  # (N, H D)
            x.add_(layer.out(mixed.to(dtype)))
            x.add_(layer.down(activate(layer.up(layer.mlp_norm(x)))))
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Compute the logits (N, V) of the residual stream (N, C)."""
        stack = self._stack(x)
        return stack.head(stack.final_norm(x))

    def _stack(self, x: Tensor) -> _Stack:
        return self._few if len(x) <= self.kernels.n_few else self._many


def make_layers(
    model: GPT, form: Form, blocks: Mapping[str, QuantizedWeight], *, measure: bool
) -> Layers:
    """Lay out the weights of a model for generation."""
    config = model.config
    order = _pairs(config).to(model.device) if config.positions == "rotary" else None

    def matrix(name: str, module: nn.Linear, rows: Tensor | None = None) -> Matrix:
        weight: Tensor | QuantizedWeight = blocks.get(name, module.weight)
        if isinstance(module, LoRALinear):
            weight = module.merged_weight()
        bias: Tensor | None = module.bias
        if rows is not None:
            weight = weight.select(rows) if isinstance(weight, QuantizedWeight) else weight[rows]
            bias = None if bias is None else bias[rows]
        return Matrix(weight, bias, is_int8=form == "int8")

    matrices: list[Matrix] = []
    for i, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        start, attention, delta = f"blocks.{i}", block.attention, block.delta
        if attention is not None:
            matrices += (
                matrix(f"{start}.attention.qkv.weight", attention.qkv, order),
                matrix(f"{start}.attention.out.weight", attention.out),
            )
        elif delta is not None:
            matrices += (
                matrix(f"{start}.delta.inputs.weight", delta.inputs),
                matrix(f"{start}.delta.out.weight", delta.out),
            )
        matrices += (
            matrix(f"{start}.mlp.up.weight", block.mlp.up),
            matrix(f"{start}.mlp.down.weight", block.mlp.down),
        )
    name = "token_embedding.weight" if config.tie_embeddings else "head.weight"
    matrices.append(matrix(name, model.head))
    kernels = choose(form, matrices, model.device, measure=measure)

    def stack(kernel: Kernel) -> _Stack:
        dtype = dtype_of(kernel)
        products = iter([make_product(kernel, each) for each in matrices])
        layers = []
        for i, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            qkv, out, up, down = (next(products) for _ in range(4))
            layers.append(
                _Layer(
                    attention_norm=_norm(config, block.attention_norm, dtype),
                    qkv=qkv,
                    head_norm=_head_norm(config, block),
                    rotates=config.rotates(i),
                    rates=None if block.delta is None else _plain(block.delta.rates, dtype),
                    mixer=None if block.delta is None else _mixer(block.delta),
                    out=out,
                    mlp_norm=_norm(config, block.mlp_norm, dtype),
                    up=up,
                    down=down,
                )
            )
        return _Stack(layers, _norm(config, model.final_norm, dtype), next(products), dtype)

    many = stack(kernels.many)
    few = stack(kernels.few) if kernels.n_few else many
    return Layers(config, kernels, few, many)


def _pairs(config: GPTConfig) -> Tensor:
    """The rows of qkv in an order in which the dimensions of a rotated pair are neighbors.

    Then one complex product rotates all queries and keys. Scores do not depend on the order of
    dimensions, if that of queries and keys is the same.
    """
    H, G, D = config.n_heads, config.kv_heads, config.head_width
    rows = torch.arange((H + 2 * G) * D).view(H + 2 * G, D)
    if config.rotary_layout == "half":
        rows[: H + G] = rows[: H + G].view(H + G, 2, D // 2).mT.reshape(H + G, D)
    return rows.flatten()


def _rms(width: int, eps: float, gain: Tensor, dtype: torch.dtype) -> Map:
    """x / sqrt(mean(x^2) + eps) * gain in four operations; torch's function takes twice as long."""
    least = torch.full((), (width * eps) ** 0.5, device=gain.device)
    scaled = gain.detach().float() * width**0.5

    def norm(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(least)
        normed: Tensor = (x / length).mul_(scaled).to(dtype)
        return normed

    return norm


def _norm(config: GPTConfig, module: nn.Module, dtype: torch.dtype) -> Map:
    weight, bias = module.weight, getattr(module, "bias", None)
    assert isinstance(weight, Tensor)
    if config.norm == "rms":
        return _rms(config.d_model, config.norm_eps, weight, dtype)
    gain = weight.detach().float()
    shift = None if bias is None else bias.detach().float()
    shape, eps = (config.d_model,), config.norm_eps
    return lambda x: F.layer_norm(x, shape, gain, shift, eps).to(dtype)


def _head_norm(config: GPTConfig, block: Block) -> Map | None:
    """The norm of queries and keys, (N, H + G, D)."""
    if block.attention is None:
        return None
    query_gain, key_gain = block.attention.query_gain, block.attention.key_gain
    if query_gain is None or key_gain is None:
        return None
    H, G, D = config.n_heads, config.kv_heads, config.head_width
    gains = torch.cat((query_gain.expand(H, D), key_gain.expand(G, D))).detach().float()
    if config.positions == "rotary":
        gains = gains.flatten()[_pairs(config)[: (H + G) * D].to(gains.device)].view(H + G, D)
    if config.norm == "rms":
        return _rms(D, config.norm_eps, gains, torch.float32)
    return lambda x: F.layer_norm(x, (D,), None, None, config.norm_eps).mul_(gains)


def _plain(module: nn.Linear, dtype: torch.dtype) -> Product:
    """A product with few rows, which no other kernel makes faster."""
    weight = module.weight.detach().to(dtype, copy=True)
    return lambda x: F.linear(x, weight)


def _mixer(delta: GatedDelta) -> DeltaMixer:
    mixer = delta.mixer()
    vectors = (mixer.taps, mixer.decay_log, mixer.decay_bias, mixer.gain)
    own = (x.detach().to(torch.float32, copy=True) for x in vectors)
    return DeltaMixer(*own, n_heads=mixer.n_heads, norm_eps=mixer.norm_eps)


def _activation(config: GPTConfig) -> Map:
    if config.activation == "swiglu":
        width = config.ff_width

        def swiglu(x: Tensor) -> Tensor:
            return F.silu(x.narrow(-1, 0, width)).mul_(x.narrow(-1, width, width))

        return swiglu
    if config.activation == "relu2":
        return lambda x: F.relu(x).square_()
    approximate = "tanh" if config.activation == "gelu" else "none"
    return lambda x: F.gelu(x, approximate=approximate)
