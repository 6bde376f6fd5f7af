"""Hashed embeddings of the last n tokens, added to those of single tokens.

"th" or "New York" says more than its last token alone, and attention takes many steps to learn
that. Each n-gram of 2, 3, ... tokens that ends at a position has an embedding, found by a hash. Two
n-grams may share a row; the layers above learn to separate them. The cost is a few additions per
token, at any number of rows. In short runs nothing else that was tried learns as much per second.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.model.config import GPTConfig

# A multiplicative hash below 2^31: products of a running hash and the factor stay below 2^51.
_FACTOR, _MODULUS = 1_000_003, 2**31 - 1


class NGramEmbedding(nn.Module):
    """The sum of one hashed embedding for each length from 2 to `config.ngram` tokens.

    Source: "N-Grammer: Augmenting Transformers with Latent n-grams", section 3, with token ids
        instead of its clusters.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_lengths, self.n_rows = config.ngram - 1, config.ngram_rows
        self.weight = nn.Parameter(torch.empty(self.n_lengths * self.n_rows, config.d_model))

    def rows(
        self,
        ids: Int[Tensor, "B T"],
        before: Int[Tensor, "B P"] | None = None,
        positions: Int[Tensor, " T"] | None = None,
    ) -> Int[Tensor, "B T N"]:
        """Compute the row of each n-gram length at each position.

        Args:
            ids: Token ids.
            before: The token ids before them, if the text is read in parts. None: `ids` are the
                start of the text.
            positions: Position of each token in its document; no n-gram begins before position 0.
        """
        T = ids.shape[1]
        ids = ids.long()
        known = ids if before is None else torch.cat((before[:, -self.n_lengths :], ids), dim=1)
        # 0 means "before the start of the text", so the value of a token is its id plus 1.
        padded = F.pad(known + 1, (self.n_lengths + T - known.shape[1], 0))  # (B, n_lengths + T)
        hashed = ids
        found = []
        for back in range(1, self.n_lengths + 1):
            earlier = padded[:, self.n_lengths - back : self.n_lengths - back + T]  # (B, T)
            if positions is not None:
                earlier = earlier * (positions >= back)
            hashed = (hashed * _FACTOR + earlier) % _MODULUS
            found.append(hashed % self.n_rows + (back - 1) * self.n_rows)
        return torch.stack(found, dim=-1)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        before: Int[Tensor, "B P"] | None = None,
        positions: Int[Tensor, " T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Look up and add the embeddings of the n-grams that end at each position."""
        rows = self.rows(ids, before, positions)  # (B, T, N)
        return F.embedding(rows, self.weight).sum(dim=-2)
