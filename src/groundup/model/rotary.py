"""Rotary position embeddings: queries and keys are rotated by an angle that grows with position.

A score between a rotated query and a rotated key depends on the distance between their positions.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.model.config import RotaryScaling

RotaryLayout = Literal["half", "interleaved"]

_LARGEST_TABLE = 16_384
"""Positions whose cosines and sines are kept in memory; those after them are computed when needed:
a table for a context of 131,072 positions would take 134 MB."""
_EXACT_FROM = 65_536
"""Above this context length, angles are computed in float64: float32 angles at position 1,500,000
are wrong by up to 0.14."""


def rotary_frequencies(
    d_head: int, base: float | int, scaling: RotaryScaling | None = None
) -> tuple[Float[Tensor, " P"], float]:
    """Compute the angle of each of P pairs per position, and the scale of cosines and sines.

    Without scaling the angle of pair i is base^(-2i / D), and the scale is 1.

    "linear" divides every angle by the factor. "llama3" divides the angles of the long wavelengths,
    keeps those of the short ones, and interpolates in between. "yarn" does the same by the number
    of rotations within the original context, and scales cosines and sines.

    Source: "Extending Context Window of Large Language Models via Positional Interpolation",
        section 3; "The Llama 3 Herd of Models", section 3.2; "YaRN: Efficient Context Window
        Extension of Large Language Models", sections 3.2 and 3.4.
    """
    pair = torch.arange(0, d_head, 2, dtype=torch.float32)
    if scaling is None:
        return base ** (-pair / d_head), 1.0
    # The order of operations of transformers: at position 9,000 an angle that is rounded in another
    # way moves the logits.
    wavelengths = base ** (pair / d_head)
    angles = 1.0 / wavelengths
    if scaling.kind == "linear":
        return angles / scaling.factor, 1.0
    assert scaling.original_context is not None
    T, factor = scaling.original_context, scaling.factor
    if scaling.kind == "llama3":
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        lengths = 2 * math.pi / angles
        scaled = torch.where(lengths > T / low, angles / factor, angles)
        smooth = (T / lengths - low) / (high - low)
        between = (1 - smooth) * scaled / factor + smooth * scaled
        is_between = ~(lengths < T / high) * ~(lengths > T / low)
        return torch.where(is_between, between, scaled), 1.0
    first, last = (
        d_head * math.log(T / (n_rotations * 2 * math.pi)) / (2 * math.log(base))
        for n_rotations in (scaling.beta_fast, scaling.beta_slow)
    )
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, d_head - 1)
    if first == last:
        last += 0.001  # the ramp divides by the difference
    ramp = ((torch.arange(d_head // 2, dtype=torch.float32) - first) / (last - first)).clamp(0, 1)
    kept = 1 - ramp
    scale = scaling.attention_factor
    if scale is None:
        scale = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
    return 1.0 / (factor * wavelengths) * (1 - kept) + angles * kept, scale


def rotary_tables(
    context_length: int,
    d_head: int,
    base: float | int = 10_000.0,
    layout: RotaryLayout = "half",
    scaling: RotaryScaling | None = None,
    *,
    exact: bool = False,
) -> tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]:
    """Cosines and sines of the rotation angles at each position, for `rotate`.

    Pair i at position t is rotated by the angle t * base^(-2i / D), unless the frequencies are
    scaled (`rotary_frequencies`): the first pairs have the highest frequencies. Both members of a
    pair get its cosine; the first gets the negative sine.

    The two layouts differ only in which dimensions form a pair: "half" pairs i with i + D/2
    (GPT-NeoX, Hugging Face's Llama), "interleaved" pairs 2i with 2i + 1 (the paper, Meta's Llama).
    Weights can be permuted from one layout to the other; mixing the two gives wrong results.
    With `exact` the angles are computed in float64.

    Raises:
        UserError: `d_head` is odd.

    Source: "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2.2.
    """
    if d_head % 2:
        raise UserError(f"d_head is {d_head}. Rotary positions need an even width of a head.")
    angles, scale = rotary_frequencies(d_head, base, scaling)
    positions = torch.arange(context_length, dtype=torch.float64 if exact else torch.float32)
    return _tables(positions, angles, scale, layout)


def _tables(
    positions: Float[Tensor, "*M T"],
    frequencies: Float[Tensor, " P"],
    scale: float,
    layout: RotaryLayout,
) -> tuple[Float[Tensor, "*M T D"], Float[Tensor, "*M T D"]]:
    angles = positions[..., None] * frequencies.to(positions.dtype)  # (..., T, D/2)
    cos, sin = angles.cos().float(), angles.sin().float()  # (..., T, D/2)
    if scale != 1.0:
        cos, sin = cos * scale, sin * scale
    if layout == "half":
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return cos.repeat_interleave(2, dim=-1), torch.stack((-sin, sin), dim=-1).flatten(-2)


def rotate(
    x: Float[Tensor, "*N T D"],
    cos: Float[Tensor, "*#M T D"],
    sin: Float[Tensor, "*#M T D"],
    layout: RotaryLayout = "half",
) -> Float[Tensor, "*N T D"]:
    """Rotate each pair of dimensions of each head by the angle of its position.

    (a, b) becomes (a cos - b sin, b cos + a sin): each value times the cosine, plus the other
    value of its pair times the signed sine.

    >>> tables = rotary_tables(2, 2, 10_000.0)
    >>> rotate(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), *tables)[1]
    tensor([0.5403, 0.8415])
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    if layout == "half":
        swapped = x.roll(x.shape[-1] // 2, dims=-1)
    else:
        swapped = x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return torch.addcmul(x * cos, swapped, sin)


class RotaryEmbedding(nn.Module):
    """The tables of `rotary_tables` up to a context length, and the rotation by them.

    Args:
        d_head: Width of a head, an even number.
        context_length: Number of positions.
        base: Base of the wavelengths (theta).
        layout: Which dimensions form a pair; see `rotary_tables`.
        scaling: Change of the frequencies; see `rotary_frequencies`.
        exact: Compute the angles in float64. None: above a context length of 65,536.

    Raises:
        UserError: `d_head` is odd.

    >>> rope = RotaryEmbedding(2, context_length=8)
    >>> rope(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    tensor([[0.5403, 0.8415]])
    """

    cos: Tensor
    """Cosines of the first positions, those of the whole context unless it is very long."""
    sin: Tensor
    """Sines of these positions, the first of each pair negative."""

    def __init__(
        self,
        d_head: int,
        context_length: int,
        base: float | int = 10_000.0,
        layout: RotaryLayout = "half",
        scaling: RotaryScaling | None = None,
        *,
        exact: bool | None = None,
    ) -> None:
        super().__init__()
        self.layout: RotaryLayout = layout
        self.context_length = context_length
        self.exact = context_length > _EXACT_FROM if exact is None else exact
        n_rows = min(context_length, _LARGEST_TABLE)
        cos, sin = rotary_tables(n_rows, d_head, base, layout, scaling, exact=self.exact)
        # Not persistent: they follow from the arguments, so checkpoints do not contain them.
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        # No buffer, because a model that is converted to bfloat16 still needs it in float32.
        self._frequencies, self._scale = rotary_frequencies(d_head, base, scaling)

    def extend(self, context_length: int) -> None:
        """Allow more positions."""
        self.context_length = context_length
        self.exact = self.exact or context_length > _EXACT_FROM

    def forward(
        self, x: Float[Tensor, "*N T D"], positions: Int[Tensor, "*M T"] | None = None
    ) -> Float[Tensor, "*N T D"]:
        """Rotate `x` by its positions.

        Args:
            x: Queries or keys.
            positions: The position of each of the T vectors, the same for all leading dimensions
                or one row per batch. None: 0 to T - 1.

        Raises:
            UserError: There are more vectors than positions.
            IndexError: A position is not below the context length (on a CPU).
        """
        if positions is None:
            T, n_positions = x.shape[-2], self.context_length
            if n_positions < T:
                raise UserError(f"{T} positions do not fit in a context of {n_positions}.")
            return rotate(x, *self.between(0, T), self.layout)
        cos, sin = self.at(positions)  # (..., T, D) each
        if 2 < cos.ndim < x.ndim:  # one row per batch: x has a dimension of heads in between
            cos, sin = (
                table.reshape(*table.shape[:-2], *(1,) * (x.ndim - table.ndim), *table.shape[-2:])
                for table in (cos, sin)
            )
        return rotate(x, cos, sin, self.layout)

    def between(self, start: int, stop: int) -> tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]:
        """Return the cosines and sines of the positions from `start` to before `stop`."""
        if stop <= len(self.cos):
            return self.cos[start:stop], self.sin[start:stop]
        positions = torch.arange(start, stop, device=self.cos.device)
        return self._computed(positions)

    def at(
        self, positions: Int[Tensor, "*M T"]
    ) -> tuple[Float[Tensor, "*M T D"], Float[Tensor, "*M T D"]]:
        """Look up the cosines and sines of positions, for `rotate` and attention layers.

        Raises:
            IndexError: A position is not below the context length (on a CPU).
        """
        if self.context_length <= len(self.cos):
            return self.cos[positions], self.sin[positions]
        if positions.device.type == "cpu" and bool((positions >= self.context_length).any()):
            raise IndexError(f"A position is not below the context of {self.context_length}.")
        return self._computed(positions)

    def _computed(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        if self._frequencies.device != self.cos.device:
            self._frequencies = self._frequencies.to(self.cos.device)  # once: a graph cannot copy
        positions = positions.double() if self.exact else positions.float()
        cos, sin = _tables(positions, self._frequencies, self._scale, self.layout)
        return cos.to(self.cos.dtype), sin.to(self.cos.dtype)
