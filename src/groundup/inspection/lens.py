"""What each layer would have said next, and where each head looked, after one text.

The numbers come from the decoder that generates, so that they are those of the answer.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.base.errors import UserError
from groundup.generation.decoder import Decoder
from groundup.model.attention import attention_weights

MOST_TOKENS = 1024
"""Length of a text that is looked into, at most: it bounds the time and the memory."""


@dataclass(frozen=True)
class Lens:
    """The last position of a text, seen from inside."""

    logits: Float[Tensor, "N V"]
    """The logits of the final norm and the head after the embedding and after each layer, N = L + 1
    rows. The last row has the logits of the model."""
    attention: Float[Tensor, "L H T"]
    """The weight of each position for the last one; those of a head sum to one."""


@torch.inference_mode()
def look(decoder: Decoder, ids: list[int]) -> Lens:
    """Read a text, and look at its last position.

    Other threads may use the decoder at the same time.

    Raises:
        UserError: There are no tokens, or more than `MOST_TOKENS` or than fit in the context, or an
            id is not in the vocabulary.

    Source: "interpreting GPT: the logit lens" (nostalgebraist, 2020).
    """
    if len(ids) > MOST_TOKENS:
        raise UserError(
            f"The text up to this token has {len(ids):,} tokens. A look inside reads at most "
            f"{MOST_TOKENS:,}."
        )
    decoder = decoder.apart()
    n_layers = decoder.config.n_layers
    stream: list[Tensor] = [torch.empty(0)] * n_layers
    queries: list[Tensor] = [torch.empty(0)] * n_layers
    keys: list[list[Tensor]] = [[] for _ in range(n_layers)]

    def watch(layer: int, x: Tensor, q: Tensor, k: Tensor) -> None:
        # The tensors are overwritten by the next layer. Of several chunks the last one counts.
        stream[layer], queries[layer] = x[-1:].clone(), q[-1:].clone()
        keys[layer].append(k.clone())

    last = decoder.read(ids, decoder.new_row(len(ids)), watch=watch)  # (1, V)
    weights = []
    for q, parts, window in zip(queries, keys, decoder.windows, strict=True):
        k = torch.cat(parts).transpose(0, 1)[None]  # (1, G, T, D)
        weights.append(attention_weights(q.transpose(0, 1)[None], k, window=window)[0, :, 0])
    return Lens(
        logits=torch.cat((decoder.logits(torch.cat(stream)), last)),
        attention=torch.stack(weights).float().cpu(),
    )
