"""The state of a text between two segments: what each layer needs of the positions before.

A text can be computed in segments, one after the other: `GPT.segment` takes the state before a
segment and returns its hidden states and the state after it. The results are those of the whole
text, up to rounding. All tensors of a state are differentiable: a segment can be computed again
with its incoming state as a leaf, and the gradient of that leaf is the gradient of the outgoing
state of the segment before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from groundup.model.config import LayerKind
from groundup.model.key_buffer import KeyBuffer, KeyState

LayerState = tuple[Tensor, Tensor]
"""What one layer stores, the batch B first.

- Full attention (`g`): keys and values of all S positions before, (B, G, S, D) each.
- Attention in a window (`w`): the same, of the last min(S, window - 1) positions.
- Gated delta rule (`d`): the matrix of each head in float32, (B, H, D, D), and the inputs of the
  convolution at the last positions, (B, 3, 3 H D), zeros before the start of the text.
"""
AnyLayerState = LayerState | KeyState
"""The same. Full attention may store a part of a buffer instead, which holds gradients, too."""


@dataclass(frozen=True)
class TextState:
    """What a model needs of the positions before a segment."""

    n_tokens: int
    """Number of positions before."""
    ids: Int[Tensor, "B n"]
    """The last token ids, as many as the n-gram embedding needs, at most all of them."""
    layers: tuple[AnyLayerState | None, ...]
    """What each layer stores. None: nothing is before."""

    @classmethod
    def start(cls, kinds: Sequence[LayerKind], ids: Int[Tensor, "B T"]) -> "TextState":
        """Return the state before the first of several segments of `ids`, for a backward pass.

        Full layers get a buffer for the keys and values of all positions.
        """
        T = ids.shape[1]
        layers = tuple(KeyState(KeyBuffer(T)) if kind == "g" else None for kind in kinds)
        return cls(0, ids[:, :0], layers)

    def as_leaves(self) -> "TextState":
        """View the state without its history, as leaves that collect their gradients."""
        return self.with_tensors([x.detach().requires_grad_() for x in self.tensors()])

    def detached(self) -> "TextState":
        """View the state without its history, so that gradients stop before it."""
        return self.with_tensors([x.detach() for x in self.tensors()])

    def tensors(self) -> list[Tensor]:
        """List the tensors of all layers, those that have gradients."""
        return [x for layer in self.layers if isinstance(layer, tuple) for x in layer]

    def with_tensors(self, tensors: list[Tensor]) -> "TextState":
        """The same state with other tensors, in the order of `tensors`."""
        pairs = iter(zip(tensors[::2], tensors[1::2], strict=True))
        layers = (next(pairs) if isinstance(layer, tuple) else layer for layer in self.layers)
        return TextState(self.n_tokens, self.ids, tuple(layers))
