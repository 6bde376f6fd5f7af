"""A layer with the gated delta rule in place of attention: its state does not grow with the text.

Queries, keys and values pass through a short causal convolution. Each head decays its state by a
factor, and writes at a rate, that depend on the token. The output is normalized and gated.

Source: "Gated Delta Networks: Improving Mamba2 with Delta Rule", figure 1, as in Qwen3-Next.
"""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from groundup.model.count import DELTA_TAPS as N_TAPS
from groundup.model.delta_rule import delta_step, gated_delta_rule
from groundup.model.layers import Linear, silu
from groundup.model.packed import Documents
from groundup.model.state import LayerState

_DECAY_SPANS = 16.0, 4096.0
"""The state of the first head decays by a factor of e in 16 positions, that of the last in 4,096,
before training."""


class GatedDelta(nn.Module):
    """The gated delta rule as a layer.

    Args:
        d_model: Width of input and output.
        n_heads: Number of heads.
        d_head: Width of a query, a key and a value.
        norm_eps: Constant that keeps the norm of the output from dividing by zero.
        dropout: Fraction of the outputs that are set to zero in training.

    >>> layer = GatedDelta(8, n_heads=2, d_head=4)
    >>> layer.initialize(torch.Generator().manual_seed(1), "torch")
    >>> output, (matrices, inputs) = layer(torch.ones(1, 5, 8))
    >>> output.shape, matrices.shape, inputs.shape
    (torch.Size([1, 5, 8]), torch.Size([1, 2, 4, 4]), torch.Size([1, 3, 24]))
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_head: int,
        *,
        norm_eps: float = 1e-6,
        dropout: float | int = 0.0,
    ) -> None:
        super().__init__()
        self.n_heads, self.d_head = n_heads, d_head
        self.norm_eps, self.dropout = norm_eps, dropout
        width = n_heads * d_head
        # Rows: the queries of all heads, the keys, the values, and the gates of the output.
        self.inputs = Linear(d_model, 4 * width, bias=False, initialize=False)
        # Rows: the rates of all heads, and their decays.
        self.rates = Linear(d_model, 2 * n_heads, bias=False, initialize=False)
        self.taps = nn.Parameter(torch.empty(N_TAPS, 3 * width))
        self.decay_log = nn.Parameter(torch.empty(n_heads))
        self.decay_bias = nn.Parameter(torch.empty(n_heads))
        self.gain = nn.Parameter(torch.empty(d_head))
        self.out = Linear(width, d_model, bias=False, initialize=False)

    @torch.no_grad()
    def initialize(
        self, generator: torch.Generator, init: Literal["zero", "gpt2", "torch"], n_layers: int = 1
    ) -> None:
        """Set every weight; see `GPT.initialize` for the matrices.

        With "zero" the rates and decays are the same for every token at first. The decays of the
        heads are different.
        """
        first, last = map(math.log, _DECAY_SPANS)
        spans = torch.linspace(first, last, self.n_heads).exp()
        self.decay_log.zero_()
        self.decay_bias.copy_(torch.expm1(1.0 / spans).log())  # the inverse of softplus
        self.gain.fill_(1.0)
        self.taps.uniform_(-(N_TAPS**-0.5), N_TAPS**-0.5, generator=generator)
        for matrix in (self.inputs.weight, self.rates.weight, self.out.weight):
            if init == "torch":
                bound = matrix.shape[1] ** -0.5
                matrix.uniform_(-bound, bound, generator=generator)
            elif init == "gpt2":
                std = 0.02 / (2 * n_layers) ** 0.5 if matrix is self.out.weight else 0.02
                matrix.normal_(0.0, std, generator=generator)
            elif matrix is self.inputs.weight:
                for head in torch.split(matrix, self.d_head):
                    nn.init.orthogonal_(head, generator=generator)
            else:
                matrix.zero_()

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        state: LayerState | None = None,
        documents: Documents | None = None,
    ) -> tuple[Float[Tensor, "B T C"], LayerState]:
        """Return the output, and the state after the last position.

        Args:
            x: The input.
            state: The state after the position before; see `groundup.model.state`. None: zero.
            documents: The documents of a packed row; each starts with a state of zero.
        """
        inputs, rates = self.inputs(x), self.rates(x)
        mixed, state = self.mixer().mix(inputs, rates, state, documents)
        return F.dropout(self.out(mixed), self.dropout, self.training), state

    def mixer(self) -> "DeltaMixer":
        """Return what is between the products with matrices."""
        own = self.taps, self.decay_log, self.decay_bias, self.gain
        return DeltaMixer(*own, n_heads=self.n_heads, norm_eps=self.norm_eps)


@dataclass(frozen=True)
class DeltaMixer:
    """Convolution, gated delta rule, norm and gate: the layer without its products."""

    taps: Float[Tensor, "K W"]
    decay_log: Float[Tensor, " H"]
    decay_bias: Float[Tensor, " H"]
    gain: Float[Tensor, " D"]
    _: KW_ONLY
    n_heads: int
    norm_eps: float

    def mix(
        self,
        inputs: Float[Tensor, "B T I"],
        rates: Float[Tensor, "B T J"],
        state: LayerState | None = None,
        documents: Documents | None = None,
    ) -> tuple[Float[Tensor, "B T W"], LayerState]:
        """Return the input of the output projection, and the state after the last position.

        Args:
            inputs: Queries, keys, values and gates of all heads, 4 H D wide.
            rates: Rates and decays of all heads, 2 H wide.
            state: As in `GatedDelta`.
            documents: As in `GatedDelta`.
        """
        B, T, width = *inputs.shape[:2], inputs.shape[2] // 4
        H, D = self.n_heads, width // self.n_heads
        exact = torch.promote_types(inputs.dtype, torch.float32)
        inputs, gates = torch.split(inputs, [3 * width, width], dim=-1)
        if state is None:
            tail = inputs.new_zeros(B, N_TAPS - 1, 3 * width)
            matrices = inputs.new_zeros(B, H, D, D, dtype=exact)
        else:
            matrices, tail = state
        positions = None if documents is None else documents.positions
        mixed = convolution(inputs, self.taps.to(inputs.dtype), tail, positions)
        q, k, v = mixed.view(B, T, 3, H, D).unbind(2)  # (B, T, H, D) each
        rate, decay = torch.chunk(rates.to(exact), 2, dim=-1)  # (B, T, H) each
        rate = rate.sigmoid()
        decay = -self.decay_log.to(exact).exp() * F.softplus(decay + self.decay_bias)
        if T == 1 and not torch.is_grad_enabled():
            q, k, v, decay, rate = (x[:, 0] for x in (q, k, v, decay, rate))
            read, matrices = delta_step(q, k, v, decay, rate, matrices)
            read = read[:, None].to(inputs.dtype)
        else:
            starts = None if positions is None else (positions == 0)[None]
            read, matrices = gated_delta_rule(q, k, v, decay, rate, matrices, starts=starts)
        normed = F.rms_norm(read, (D,), self.gain.to(read.dtype), self.norm_eps)
        tail = torch.cat((tail, inputs[:, 1 - N_TAPS :]), dim=1)[:, 1 - N_TAPS :]
        return (normed * silu(gates.view_as(normed))).flatten(2), (matrices, tail)


class _Convolution(torch.autograd.Function):
    """silu of a causal convolution of each channel; the backward pass computes it again."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, taps: Tensor, tail: Tensor, positions: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, taps, tail, positions)
        return silu(_convolved(x, taps, tail, positions))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, taps, tail, positions = ctx.saved_tensors
        inner = _convolved(x, taps, tail, positions)
        gradient = torch.ops.aten.silu_backward(gradient, inner)  # (B, T, W)
        d_x = gradient * taps[-1]
        d_taps, d_tail = torch.empty_like(taps), torch.zeros_like(tail)
        d_taps[-1] = torch.einsum("btw,btw->w", gradient, x)
        T, n_tail = x.shape[1], tail.shape[1]
        for distance in range(1, n_tail + 1):
            at, n = -1 - distance, min(distance, T)
            masked = _masked(gradient, positions, distance)
            d_x[:, : T - n] += masked[:, n:] * taps[at]
            here = slice(n_tail - distance, n_tail - distance + n)
            d_tail[:, here] += masked[:, :n] * taps[at]
            d_taps[at] = torch.einsum("btw,btw->w", masked[:, n:], x[:, : T - n])
            d_taps[at] += torch.einsum("btw,btw->w", masked[:, :n], tail[:, here])
        return d_x, d_taps, d_tail, None


def _convolved(x: Tensor, taps: Tensor, tail: Tensor, positions: Tensor | None) -> Tensor:
    """Add products with one tap at a time: torch's convolution takes five times as long."""
    T, n_tail = x.shape[1], tail.shape[1]
    result = x * taps[-1]
    for distance in range(1, n_tail + 1):
        tap, n = taps[-1 - distance], min(distance, T)
        earlier = x[:, : T - n]
        if positions is not None:
            earlier = earlier * (positions[n:, None] >= distance)
        result[:, n:].addcmul_(earlier, tap)
        if positions is None:
            result[:, :n].addcmul_(tail[:, n_tail - distance : n_tail - distance + n], tap)
    return result


def _masked(gradient: Tensor, positions: Tensor | None, distance: int) -> Tensor:
    """Zero where the position `distance` before belongs to another document."""
    return gradient if positions is None else gradient * (positions[:, None] >= distance)


def convolution(
    x: Float[Tensor, "B T W"],
    taps: Float[Tensor, "K W"],
    tail: Float[Tensor, "B K1 W"],
    positions: Tensor | None = None,
) -> Float[Tensor, "B T W"]:
    """Compute silu(sum over i of taps[-1 - i] x[t - i]) for each channel.

    Args:
        x: The inputs.
        taps: One factor per distance and channel; the last one is for the current position.
        tail: The K - 1 inputs before x, zeros at the start of a text.
        positions: Position of each input in its document, (T,): nothing of the document before is
            read. None: all are of one document.
    """
    result: Tensor = _Convolution.apply(x, taps, tail, positions)  # type: ignore[no-untyped-call]
    return result
