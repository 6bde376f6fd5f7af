"""The forward pass for generation: keys and values are stored, and rows of any lengths share it.

`GPT.forward` is written for training; for one token at a time, half of its time passes between the
matrix products. The decoder computes the same logits with few operations, in the layout of weights
that this machine multiplies fastest. Tests hold it equal to `GPT.forward`.
"""

import copy
import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.generation.attention import ReadAttention, StepAttention
from groundup.generation.kernels import Form as Form
from groundup.generation.layers import Attend, Layers, Watch, make_layers
from groundup.generation.rows import Row as Row
from groundup.generation.rows import Rows, row_bytes
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.quantized import QuantizedWeight

_log = logging.getLogger(__name__)

CHUNK = 512
"""Positions of a prompt that are read at a time, which bounds the memory."""
PADDED_ROWS = 8
"""With `deterministic`, every product of a step has this number of rows."""


class Decoder:
    """Compute next-token logits for rows of stored positions.

    Args:
        model: The weights. They are copied where a form or a layout differs; the model is not kept.
        form: How weights are stored and multiplied: "float32"; "bfloat16"; "int8", with one scale
            per row; or "file", the quantized blocks of a GGUF file.
        blocks: The quantized weights by parameter name, for the form "file".
        deterministic: The logits of a row have the same bits alone and beside any other rows. A
            step always computes 8 rows, and attends row by row.
        measure: Measure which operators are fastest on this machine. False chooses by the
            processor.

    Raises:
        UserError: The form is "file" and there are no blocks.
    """

    def __init__(
        self,
        model: GPT,
        *,
        form: Form = "float32",
        blocks: Mapping[str, QuantizedWeight] | None = None,
        deterministic: bool = False,
        measure: bool = True,
    ) -> None:
        if form == "file" and not blocks:
            raise UserError('The form "file" needs quantized weights, and there are none.')
        self.config: GPTConfig = model.config
        self.n_used_ids = model.n_used_ids
        self.form: Form = form
        self.deterministic = deterministic
        self.device = model.device
        """Where the weights are."""
        with torch.inference_mode():
            # A measurement could choose another operator in the next process.
            self._layers: Layers = make_layers(
                model, form, blocks or {}, measure=measure and not deterministic
            )
        self.kernels = self._layers.kernels
        """The operators in use."""
        rounded = "rounded to int8, and multiplied" if form == "int8" else "multiplied"
        if form != "float32" and self.kernels.many.endswith("float32"):
            _log.warning(
                "Weights are %s in float32, not in the form %s: this processor has no bfloat16 "
                "units, or is slower with them.",
                rounded,
                form,
            )
        elif form in ("int8", "file") and self.device.type != "cpu":
            _log.warning(
                "Weights are %s in bfloat16, and take as much memory: only a CPU multiplies the "
                "form %s.",
                rounded,
                form,
            )
        self._embedding = model.token_embedding.weight.detach()
        self._position_embedding = model.position_embedding
        self._ngrams, self._rotary = model.ngram_embedding, model.rotary
        self.windows = [self.config.window_of(i) for i in range(self.config.n_layers)]
        """The sliding window of each layer."""
        self.n_computed = 0
        """Number of positions computed so far."""
        self._rows = Rows(self.config, self.device)

    def apart(self) -> "Decoder":
        """Return a decoder with the same weights and rows of its own, for another thread."""
        other = copy.copy(self)
        other._rows = Rows(self.config, self.device)
        return other

    @torch.inference_mode()
    def new_row(self, n_positions: int | None = None) -> Row:
        """Make an empty row. Its memory is freed when it is no longer referenced.

        Args:
            n_positions: Expected number of positions, prompt and answer. None: the memory grows
                with the text.
        """
        return self._rows.new_row(n_positions)

    @torch.inference_mode()
    def copied_row(self, row: Row, length: int, n_positions: int | None = None) -> Row:
        """Make a row that begins with the first `length` positions of another.

        Args:
            row: The row to copy.
            length: Number of positions to copy.
            n_positions: As for `new_row`.

        Raises:
            UserError: As `Row.truncate`.
        """
        return self._rows.copied(row, length, n_positions)

    def drop_rows(self) -> None:
        """Drop all rows, of which none may be used again.

        A step that was interrupted may have left a row with half of a token.
        """
        self._rows = Rows(self.config, self.device)

    @torch.inference_mode()
    def make_room(self, sizes: Sequence[int]) -> None:
        """Make room for new rows with these numbers of positions: faster than one after another."""
        self._rows.make_room(sizes)

    @torch.inference_mode()
    def trim(self) -> None:
        """Free the memory that is kept for further rows."""
        self._rows.trim()

    @property
    def n_bytes(self) -> int:
        """Memory of the keys and values of all rows, in bytes."""
        return self._rows.n_bytes

    def row_bytes(self, n_positions: int) -> int:
        """Memory of the keys and values of a row with this number of positions, in bytes."""
        return row_bytes(self.config, n_positions)

    @torch.inference_mode()
    def read(
        self, ids: Sequence[int], row: Row, *, n_last: int = 1, watch: Watch | None = None
    ) -> Tensor:
        """Append ids to a row, and compute the logits after each of the last `n_last` ids.

        Args:
            ids: The token ids.
            row: The row.
            n_last: Number of positions with logits.
            watch: Called before the attention of each layer, for `CHUNK` ids at a time.

        Returns:
            Logits (n_last, V) float32 on the CPU. Ids without a token have minus infinity.

        Raises:
            UserError: There are no ids, an id is not in the vocabulary, or they do not fit in the
                context. The row is unchanged.
        """
        self._check(ids)
        if not 1 <= n_last <= len(ids):
            raise UserError(f"n_last is {n_last}. Expected 1 to {len(ids)}, the number of ids.")
        self._rows.check(row, len(ids))
        self._rows.collect()
        self._rows.reserve(row, len(ids))
        hidden: list[Tensor] = []
        for first in range(0, len(ids), CHUNK):
            chunk = list(ids[first : first + CHUNK])
            positions = range(row.length, row.length + len(chunk))
            attend = ReadAttention(row, len(chunk), self.windows)
            x = self.hidden([chunk], [row.ids], positions, attend, watch)
            row.advance(chunk)
            n_wanted = n_last - (len(ids) - first - len(chunk))
            if n_wanted > 0:
                hidden.append(x[-n_wanted:])
        return self.logits(hidden[0] if len(hidden) == 1 else torch.cat(hidden))

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], rows: Sequence[Row]) -> Tensor:
        """Append one token to each row, and compute the logits after it.

        Returns:
            Logits (R, V) float32 on the CPU. Ids without a token have minus infinity.

        Raises:
            UserError: The numbers of tokens and rows differ, a row occurs twice, a token is not in
                the vocabulary, or a row is at the end of the context. The rows are unchanged.
        """
        self._check(tokens)
        if len(tokens) != len(rows) or len({id(row) for row in rows}) != len(rows):
            raise UserError(
                f"There are {len(tokens)} tokens for {len(rows)} rows. Expected one token for each "
                "of the rows, all of them different."
            )
        for row in rows:
            self._rows.check(row, 1)
        self._rows.collect()
        for row in rows:
            self._rows.reserve(row, 1)
        # Rows that are neighbors in memory are neighbors in the batch.
        order = sorted(range(len(rows)), key=lambda i: rows[i].order)
        size = PADDED_ROWS if self.deterministic else len(rows)
        parts = [
            self._step([tokens[i] for i in part], [rows[i] for i in part])
            for part in (order[first : first + size] for first in range(0, len(rows), size))
        ]
        logits = parts[0] if len(parts) == 1 else torch.cat(parts)
        if order == sorted(order):
            return logits
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return logits[inverse]

    def _step(self, tokens: list[int], rows: list[Row]) -> Tensor:
        n_rows = len(rows)
        attend = StepAttention(rows, self.windows, alone=self.deterministic)
        positions = [row.length for row in rows]
        n_padding = PADDED_ROWS - n_rows if self.deterministic else 0
        batch = [[token] for token in tokens + [0] * n_padding]
        before = [row.ids for row in [*rows, *rows[:1] * n_padding]]
        x = self.hidden(batch, before, positions + [0] * n_padding, attend)
        for token, row in zip(tokens, rows, strict=True):
            row.advance([token])
        return self.logits(x)[:n_rows]

    def _check(self, ids: Sequence[int]) -> None:
        if not len(ids):
            raise UserError("There are no token ids. Expected at least one.")
        if not 0 <= min(ids) <= max(ids) < self.config.vocab_size:
            raise UserError(
                f"The token ids range from {min(ids):,} to {max(ids):,}. Expected ids from 0 to "
                f"{self.config.vocab_size - 1:,}."
            )

    def hidden(
        self,
        ids: Sequence[Sequence[int]],
        before: Sequence[Sequence[int]],
        positions: Sequence[int],
        attend: Attend,
        watch: Watch | None = None,
    ) -> Tensor:
        """Compute the residual stream (N, C) float32 after the last block.

        Args:
            ids: Token ids, rows of equal length.
            before: The ids before each row.
            positions: The position of each of the N ids.
            attend: What passes between positions.
            watch: Called before the attention of each layer.
        """
        tokens = torch.tensor(ids, device=self.device)  # (R, T)
        self.n_computed += tokens.numel()
        x = self._embedding.index_select(0, tokens.view(-1)).float()  # (N, C)
        if self._ngrams is not None:
            n = self._ngrams.n_lengths
            last = [list(each[-n:]) for each in before]
            # -1 stands for "before the start of the text".
            padded = torch.tensor([[-1] * (n - len(b)) + b for b in last], device=self.device)
            x += self._ngrams(tokens, padded).flatten(0, 1)
        rotation = None
        if self._position_embedding is not None or self._rotary is not None:
            places = torch.tensor(positions, device=self.device)  # (N,)
            if self._position_embedding is not None:
                x += self._position_embedding.weight[places]
            elif self._rotary is not None:
                rotation = self._rotation(*self._rotary.at(places))
        return self._layers.forward(x, rotation, attend, watch)

    def _rotation(self, cos: Tensor, sin: Tensor) -> Tensor:
        """The rotation of each pair as a complex number, (N, 1, D / 2)."""
        if self.config.rotary_layout == "half":
            half = cos.shape[1] // 2
            cos, sin = cos[:, :half], sin[:, half:]
        else:
            cos, sin = cos[:, ::2], sin[:, 1::2]
        return torch.complex(cos.float(), sin.float())[:, None]

    def logits(self, x: Tensor) -> Tensor:
        """Compute the logits (N, V) float32 on the CPU of the residual stream (N, C)."""
        logits = self._layers.logits(x).float().cpu()  # (N, V)
        if self.n_used_ids < self.config.vocab_size:
            logits[:, self.n_used_ids :] = float("-inf")
        return logits
