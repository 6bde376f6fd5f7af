"""Rotary position embeddings: queries and keys are rotated by an angle that grows with position.

A score between a rotated query and a rotated key depends on the distance between their positions.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.base.errors import UserError

RotaryLayout = Literal["half", "interleaved"]


def rotary_tables(
    context_length: int,
    d_head: int,
    base: float | int = 10_000.0,
    layout: RotaryLayout = "half",
) -> tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]:
    """Cosines and sines of the rotation angles at each position, for `rotate`.

    Pair i at position t is rotated by the angle t * base^(-2i / D): the first pairs have the
    highest frequencies. Both members of a pair get its cosine; the first gets the negative sine.

    The two layouts differ only in which dimensions form a pair: "half" pairs i with i + D/2
    (GPT-NeoX, Hugging Face's Llama), "interleaved" pairs 2i with 2i + 1 (the paper, Meta's Llama).
    Weights can be permuted from one layout to the other; mixing the two gives wrong results.

    Raises:
        UserError: `d_head` is odd.

    Source: "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2.2.
    """
    if d_head % 2:
        raise UserError(f"d_head is {d_head}. Rotary positions need an even width of a head.")
    pair = torch.arange(0, d_head, 2, dtype=torch.float32)
    angles = torch.outer(
        torch.arange(context_length, dtype=torch.float32), base ** (-pair / d_head)
    )  # (T, D/2)
    cos, sin = angles.cos(), angles.sin()  # (T, D/2)
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

    Raises:
        UserError: `d_head` is odd.

    >>> rope = RotaryEmbedding(2, context_length=8)
    >>> rope(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    tensor([[0.5403, 0.8415]])
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        d_head: int,
        context_length: int,
        base: float | int = 10_000.0,
        layout: RotaryLayout = "half",
    ) -> None:
        super().__init__()
        self.layout: RotaryLayout = layout
        cos, sin = rotary_tables(context_length, d_head, base, layout)
        # Not persistent: they follow from the arguments, so checkpoints do not contain them.
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

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
            T, n_positions = x.shape[-2], len(self.cos)
            if n_positions < T:
                raise UserError(f"{T} positions do not fit in a context of {n_positions}.")
            return rotate(x, self.cos[:T], self.sin[:T], self.layout)
        cos, sin = self.at(positions)  # (..., T, D) each
        if 2 < cos.ndim < x.ndim:  # one row per batch: x has a dimension of heads in between
            cos, sin = (
                table.reshape(*table.shape[:-2], *(1,) * (x.ndim - table.ndim), *table.shape[-2:])
                for table in (cos, sin)
            )
        return rotate(x, cos, sin, self.layout)

    def at(
        self, positions: Int[Tensor, "*M T"]
    ) -> tuple[Float[Tensor, "*M T D"], Float[Tensor, "*M T D"]]:
        """Look up the cosines and sines of positions, for `rotate` and attention layers."""
        return self.cos[positions], self.sin[positions]
