"""Embeddings of the last few tokens together, beside those of single tokens.

"th" or "New York" says more than its last token alone, and attention takes many steps to find that
out. Here each run of 2, 3, ... tokens that ends at a position has a row of its own to learn, found
by a hash: two runs may share a row, and the layers above sort that out. It costs a few additions a
token, whatever the size of the table. In short runs nothing else learns as much a second.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from groundup.model.config import GPTConfig

# A multiplicative hash below 2^31: products of a running hash and the factor stay below 2^51.
_FACTOR, _MODULUS = 1_000_003, 2**31 - 1


class NGramEmbedding(nn.Module):
    """The sum of one hashed row for each length from 2 to `config.ngram` tokens.

    Source: "N-Grammer: Augmenting Transformers with Latent n-grams", section 3, with the tokens
        themselves in place of its clusters.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_lengths, self.n_rows = config.ngram - 1, config.ngram_rows
        self.weight = nn.Parameter(torch.empty(self.n_lengths * self.n_rows, config.d_model))

    def rows(
        self, ids: Int[Tensor, "B T"], before: Int[Tensor, "B P"] | None = None
    ) -> Int[Tensor, "B T N"]:
        """The row of each length at each position; what lies before the text counts as nothing.

        Args:
            ids: Tokens.
            before: The tokens before them, where a text is read in parts.
        """
        T = ids.shape[1]
        ids = ids.long()
        known = ids if before is None else torch.cat((before[:, -self.n_lengths :], ids), dim=1)
        # 0 is "nothing", so that every token is one more than its id.
        padded = F.pad(known + 1, (self.n_lengths + T - known.shape[1], 0))
        hashed = ids
        found = []
        for back in range(1, self.n_lengths + 1):
            earlier = padded[:, self.n_lengths - back : self.n_lengths - back + T]
            hashed = (hashed * _FACTOR + earlier) % _MODULUS
            found.append(hashed % self.n_rows + (back - 1) * self.n_rows)
        return torch.stack(found, dim=-1)

    def forward(
        self, ids: Int[Tensor, "B T"], before: Int[Tensor, "B P"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What the last tokens mean together, at each position."""
        rows = self.rows(ids, before)
        return F.embedding(rows, self.weight).sum(dim=-2)
