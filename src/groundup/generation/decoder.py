"""The forward pass for generation: keys and values are stored, and rows of any lengths share it.

`GPT.forward` is written for training; one token at a time, most of its time is spent between the
products. The decoder computes the same logits from the same weights with few operations: tests hold
it equal to `GPT.forward`.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.base.errors import UserError
from groundup.generation.rows import Row as Row
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT, Block

Form = Literal["float32", "bfloat16", "int8", "file"]

_CHUNK = 256
"""Positions that a prompt is read at a time, which bounds the memory."""

_Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class Decoder:
    """Compute next-token logits for rows of stored positions.

    Args:
        model: The weights. They are read, not changed, and shared where the form allows it.
        form: How weights are stored and multiplied.
        deterministic: A row has the same bits alone and beside any others.
    """

    def __init__(self, model: GPT, *, form: Form = "float32", deterministic: bool = False) -> None:
        self.config: GPTConfig = model.config
        self.n_used_ids = model.n_used_ids
        self.form: Form = form
        self.deterministic = deterministic
        self._model = model
        self._device = model.device
        self._dtype = model.token_embedding.weight.dtype

    def new_row(self, n_positions: int | None = None) -> Row:
        """Make an empty row.

        Args:
            n_positions: Expected number of positions, prompt and answer. None: memory grows with
                the text.
        """
        return Row(self.config, n_positions=n_positions, device=self._device, dtype=self._dtype)

    @torch.inference_mode()
    def read(self, ids: Sequence[int], row: Row, *, n_last: int = 1) -> Tensor:
        """Append ids to a row, and compute the logits after the last `n_last` of them.

        Returns:
            Logits (n_last, V) float32 on the CPU; ids without a token have minus infinity.

        Raises:
            UserError: There are no ids, an id is not in the vocabulary, or they do not fit in the
                context.
        """
        self._check(ids)
        if not 1 <= n_last <= len(ids):
            raise UserError(f"n_last is {n_last}. Expected 1 to {len(ids)}, the number of ids.")
        row.reserve(row.length + len(ids))
        hidden: list[Tensor] = []
        for first in range(0, len(ids), _CHUNK):
            chunk = ids[first : first + _CHUNK]

            def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return self._attend(row, layer, q, k, v)

            positions = range(row.length, row.length + len(chunk))
            before = row.ids[-self.config.ngram :]
            x = self._blocks([chunk], [before], positions, attend)
            row.advance(chunk)
            n_after = len(ids) - first - len(chunk)
            n_here = min(len(chunk), n_last - n_after)
            if n_here > 0:
                hidden.append(x[-n_here:])
        return self._logits(torch.cat(hidden))

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], rows: Sequence[Row]) -> Tensor:
        """Append one token to each row, and compute the logits after it.

        Returns:
            Logits (R, V) float32 on the CPU; ids without a token have minus infinity.

        Raises:
            UserError: The numbers of tokens and rows differ, a row occurs twice, a token is not in
                the vocabulary, or a row has no position left.
        """
        self._check(tokens)
        if len(tokens) != len(rows) or len({id(row) for row in rows}) != len(rows):
            raise UserError(
                f"There are {len(tokens)} tokens for {len(rows)} rows. Expected one token for each "
                "of the rows, all of them different."
            )
        for row in rows:
            row.reserve(row.length + 1)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            parts = (
                self._attend(row, layer, q[i : i + 1], k[i : i + 1], v[i : i + 1])
                for i, row in enumerate(rows)
            )
            return torch.cat(list(parts))

        positions = [row.length for row in rows]
        befores = [row.ids[-self.config.ngram :] for row in rows]
        x = self._blocks([[token] for token in tokens], befores, positions, attend)
        for token, row in zip(tokens, rows, strict=True):
            row.advance([token])
        return self._logits(x)

    def _check(self, ids: Sequence[int]) -> None:
        if not ids:
            raise UserError("There are no token ids. Expected at least one.")
        if not 0 <= min(ids) <= max(ids) < self.config.vocab_size:
            raise UserError(
                f"The token ids range from {min(ids):,} to {max(ids):,}. Expected ids from 0 to "
                f"{self.config.vocab_size - 1:,}."
            )

    def _blocks(
        self,
        ids: Sequence[Sequence[int]],
        before: Sequence[Sequence[int]],
        positions: Sequence[int],
        attend: _Attend,
    ) -> Tensor:
        """Compute the residual stream (N, C) after the last block, for texts of equal length."""
        model, config = self._model, self.config
        H, G, D = config.n_heads, config.kv_heads, config.head_width
        tokens = torch.tensor(ids, device=self._device)  # (R, T)
        places = torch.tensor(positions, device=self._device)  # (N,)
        x = model.token_embedding.weight[tokens.flatten()]  # (N, C)
        if model.ngram_embedding is not None:
            n = config.ngram - 1
            padded = [[-1] * (n - len(part)) + list(part) for part in (b[-n:] for b in before)]
            earlier = torch.tensor(padded, device=self._device)  # (R, n)
            x = x + model.ngram_embedding(tokens, earlier).flatten(0, 1)
        cos = sin = None
        if model.position_embedding is not None:
            x = x + model.position_embedding.weight[places]
        elif model.rotary is not None:
            cos, sin = (table[:, None].to(x.dtype) for table in model.rotary.at(places))
        for layer, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            attention = block.attention
            heads = attention.qkv(block.attention_norm(x)).view(-1, H + 2 * G, D)
            q, k, v = heads.split((H, G, G), dim=1)
            if attention.query_gain is not None and attention.key_gain is not None:
                norm = F.rms_norm if config.norm == "rms" else F.layer_norm
                q = norm(q, (D,), attention.query_gain, eps=config.norm_eps)
                k = norm(k, (D,), attention.key_gain, eps=config.norm_eps)
            if cos is not None and sin is not None:
                q, k = (self._rotate(part, cos, sin) for part in (q, k))
            mixed = attend(layer, q, k, v)  # (N, H, D)
            x = x + attention.out(mixed.flatten(1))
            x = x + block.mlp(block.mlp_norm(x))
        return x

    def _rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if self.config.rotary_layout == "half":
            swapped = x.roll(x.shape[-1] // 2, dims=-1)
        else:
            swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        return torch.addcmul(x * cos, swapped, sin)

    def _attend(self, row: Row, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of new positions of one row; (T, heads, D) each."""
        T, S = q.shape[0], row.length + q.shape[0]
        keys, values = row.store(layer, k.transpose(0, 1), v.transpose(0, 1))  # (G, S, D) each
        mask = None
        if 1 < T < S:
            mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
        mixed = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            keys[None],
            values[None],
            attn_mask=mask,
            is_causal=T == S and T > 1,
            enable_gqa=self.config.n_heads != self.config.kv_heads,
        )
        return mixed[0].transpose(0, 1)

    def _logits(self, x: Tensor) -> Tensor:
        logits = self._model.head(self._model.final_norm(x)).float().cpu()  # (N, V)
        logits[:, self.n_used_ids :] = float("-inf")
        return logits
