"""The language model, from its parts: the block and the GPT class.

Token ids are embedded as vectors; every block adds the outputs of its attention and its MLP to
them; a final norm and the head compute a logit for each token of the vocabulary at each position.
The config decides whether the class is GPT-2, a model of the Llama family or our own small model.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig, LayerKind
from groundup.model.delta import GatedDelta
from groundup.model.initial_weights import set_initial_weights
from groundup.model.layers import MLP, Embedding, LayerNorm, Linear, RMSNorm
from groundup.model.loss import head_cross_entropy
from groundup.model.multi_head import KeyValueCache, MultiHeadAttention
from groundup.model.ngram_embedding import NGramEmbedding
from groundup.model.packed import Documents, without_padding
from groundup.model.recompute import recomputed
from groundup.model.rotary import RotaryEmbedding
from groundup.model.state import AnyLayerState, TextState
from groundup.model.windowed import rotary_rows


def make_norm(config: GPTConfig) -> nn.Module:
    """Build the norm of the config: RMSNorm, or LayerNorm as in GPT-2."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return LayerNorm(config.d_model, config.norm_eps, bias=config.bias)


class Block(nn.Module):
    """One pre-norm transformer layer: x + attention(norm(x)), then x + MLP(norm(x)).

    `GPT.initialize` sets its weights; the constructor leaves them uninitialized.

    Source: "On Layer Normalization in the Transformer Architecture", figure 1 (b), pre-norm.
    """

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.kind = config.kind_of(layer)
        self.layer = layer
        self.attention_norm = make_norm(config)
        """The norm before attention, or before the gated delta rule."""
        self.attention = None if self.kind == "d" else _attention(config, layer)
        C, H, D = config.d_model, config.n_heads, config.head_width
        own = {"norm_eps": config.norm_eps, "dropout": config.dropout}
        self.delta = GatedDelta(C, H, D, **own) if self.kind == "d" else None
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(
            config.d_model,
            config.ff_width,
            activation=config.activation,
            bias=config.bias,
            dropout=config.dropout,
            initialize=False,
        )

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        rotary: tuple[Tensor, Tensor] | None,
        cache: KeyValueCache | None = None,
        documents: Documents | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Compute the residual stream after attention and MLP."""
        normed = self.attention_norm(x)
        if self.attention is not None:
            x = x + self.attention(normed, rotary, cache, documents=documents)
        else:
            assert self.delta is not None
            state = None if cache is None else cache.states.get(self.layer)
            mixed, state = self.delta(normed, state, documents)
            if cache is not None:
                cache.states[self.layer] = state
            x = x + mixed
        stream: Tensor = x + self.mlp(self.mlp_norm(x))  # (B, T, C)
        return stream

    def segment(
        self,
        x: Float[Tensor, "B T C"],
        rotary: tuple[Tensor, Tensor] | None,
        state: AnyLayerState | None,
    ) -> tuple[Float[Tensor, "B T C"], AnyLayerState]:
        """Compute a segment of a longer text; see `groundup.model.state`.

        Args:
            x: The residual stream at the positions of the segment.
            rotary: Cosines and sines of its positions, or of distances in a window.
            state: What the layer stores of the positions before. None: the segment begins the text.
        """
        normed = self.attention_norm(x)
        if self.attention is not None:
            mixed, state = self.attention.segment(normed, rotary, state)
        else:
            assert self.delta is not None
            mixed, state = self.delta(normed, state)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), state


def _attention(config: GPTConfig, layer: int) -> MultiHeadAttention:
    return MultiHeadAttention(
        config.d_model,
        config.n_heads,
        n_kv_heads=config.kv_heads,
        d_head=config.head_width,
        window=config.window_of(layer),
        relative=config.layers is not None and config.kind_of(layer) == "w",
        recompute=config.layers is not None,
        qkv_bias=config.qkv_bias,
        bias=config.bias,
        qk_norm=config.norm if config.qk_norm else None,
        norm_eps=config.norm_eps,
        rotary_layout=config.rotary_layout,
        dropout=config.dropout,
        layer=layer,
        initialize=False,
    )


def check_ids(
    ids: Tensor,
    *,
    vocab_size: int,
    context_length: int,
    start: int = 0,
    documents: Documents | None = None,
) -> None:
    """Check that these are token ids, (B, T), that a model can read.

    On a GPU the values are not read, because the step would have to wait for them.

    Args:
        ids: The token ids.
        vocab_size: Number of different tokens.
        context_length: Number of positions of the model.
        start: Number of positions before them.
        documents: The documents of a packed row.

    Raises:
        UserError: The shape or the type is another, an id is not in the vocabulary, there are more
            positions than the context length, or the documents are not those of one packed row.
    """
    found = ""
    if not isinstance(ids, Tensor):
        found = f"are of type {type(ids).__name__}"
    elif ids.dtype not in (torch.int64, torch.int32) or ids.ndim != 2 or not ids.shape[1]:
        found = f"are {tuple(ids.shape)} {str(ids.dtype).removeprefix('torch.')}"
    elif ids.device.type == "cpu" and ids.numel() and not torch.compiler.is_compiling():
        low, high = (int(end) for end in ids.aminmax())
        found = "" if low >= 0 and high < vocab_size else f"range from {low:,} to {high:,}"
    if found:
        raise UserError(
            f"The token ids {found}. A tensor (B, T) int64 below {vocab_size:,} is expected, for B "
            "texts of T tokens."
        )
    longest = start + ids.shape[1] if documents is None else documents.longest
    if longest > context_length:
        raise UserError(
            f"{longest} tokens do not fit in the model's context of "
            f"{context_length}. Use a shorter text, or a model with a longer context_length."
        )


class GPT(nn.Module):
    """A decoder-only transformer.

    Args:
        config: Sizes and choices of the architecture.
        seed: Random seed of the initial weights, the same on every device. torch's global random
            state is neither read nor changed.
        initialize: Set the weights. False leaves the memory uninitialized, for a caller that sets
            every weight.

    >>> model = GPT(GPTConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2), seed=1)
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 11])
    """

    def __init__(self, config: GPTConfig, *, seed: int = 0, initialize: bool = True) -> None:
        super().__init__()
        self.config = config
        self.n_used_ids = config.vocab_size
        """Ids from here on have no token; generation never draws them."""
        self.activation_checkpointing = False
        """Store only each block's input for the backward pass, and compute the rest again."""
        self.token_embedding = Embedding(config.vocab_size, config.d_model, initialize=False)
        self.position_embedding = (
            Embedding(config.context_length, config.d_model, initialize=False)
            if config.positions == "learned"
            else None
        )
        self.ngram_embedding = NGramEmbedding(config) if config.ngram > 1 else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        # For each kind of layer, whether it has rotary positions.
        self._rotates = {kind: config.rotates(i) for i, kind in enumerate(config.kinds)}
        self.final_norm = make_norm(config)
        self.head = Linear(config.d_model, config.vocab_size, bias=False, initialize=False)
        if config.tie_embeddings:
            self.head.weight = self.token_embedding.weight
        self.rotary = (
            RotaryEmbedding(
                config.head_width,
                config.context_length,
                config.rotary_base,
                config.rotary_layout,
                config.rotary_scaling,
                exact=True if config.is_mixed else None,
            )
            if config.positions == "rotary"
            else None
        )
        if initialize:
            self.initialize(seed)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Set every weight from the seed, as `set_initial_weights` describes."""
        generator, config = torch.Generator().manual_seed(seed), self.config
        set_initial_weights(self, config, generator)
        if config.look_back:
            first = self.blocks[0]
            assert isinstance(first, Block)
            assert first.attention is not None
            first.attention.look_back(config.rotary_base, generator, config.rotary_scaling)

    # The ids are annotated as plain tensors, so that `check_ids` sees wrong ones also where
    # jaxtyping checks annotations.
    def hidden(
        self, ids: Tensor, *, cache: KeyValueCache | None = None, lengths: Tensor | None = None
    ) -> Float[Tensor, "B T C"]:
        """Compute the hidden states after the final norm: the input of the head or a classifier.

        Args:
            ids: Token ids, (B, T) int64.
            cache: Holds the positions before them. None: `ids` are the start of the text.
            lengths: Number of tokens of each document, one after the other in the rows of `ids`;
                none crosses the end of a row, and 0 stands for no document. Each document is
                computed as if it were alone. None: a row is one document.

        Raises:
            UserError: `check_ids` refuses the ids, or the lengths do not add up to B T.
        """
        V, T = self.config.vocab_size, self.config.context_length
        shape, documents = ids.shape, None
        if lengths is None:
            start = 0 if cache is None else cache.length
            check_ids(ids, vocab_size=V, context_length=T, start=start)
        else:
            fits = ids.ndim == 2 and shape[1] <= T
            documents = Documents.of(lengths, ids.numel(), shape[1] if fits else None)
            check_ids(ids, vocab_size=V, context_length=T, documents=documents)
            ids = ids.reshape(1, -1)  # (1, N)
        start, before = (0, None) if cache is None else (cache.length, cache.ids)
        x = self._embed(ids, start, before, documents)
        rotary = self.rotary_tables(x, start, documents)
        x = F.dropout(x, self.config.dropout, self.training)
        checkpointing = self.activation_checkpointing and torch.is_grad_enabled()
        for block in self.blocks:
            assert isinstance(block, Block)
            if checkpointing:
                x = recomputed(block, x, rotary[block.kind], documents)
            else:
                x = block(x, rotary[block.kind], cache, documents)
        if cache is not None:
            # After the last block: until then every layer appends at the same positions.
            cache.advance(ids)
        normed: Tensor = self.final_norm(x)  # (B, T, C)
        return normed if documents is None else normed.view(*shape, -1)

    def segment(
        self, ids: Tensor, state: TextState | None = None
    ) -> tuple[Float[Tensor, "B T C"], TextState]:
        """Compute the hidden states of a segment of a text, and the state after it.

        The hidden states are those that `hidden` computes for the whole text.

        Args:
            ids: Token ids, (B, T) int64.
            state: The state after the segment before. None: `ids` are the start of the text.

        Raises:
            UserError: `check_ids` refuses the ids.
        """
        start = 0 if state is None else state.n_tokens
        V, T = self.config.vocab_size, self.config.context_length
        check_ids(ids, vocab_size=V, context_length=T, start=start)
        before = None if state is None else state.ids
        x = self._embed(ids, start, before)
        rotary = self.rotary_tables(x, start)
        x = F.dropout(x, self.config.dropout, self.training)
        layers = []
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            incoming = None if state is None else state.layers[number]
            x, outgoing = block.segment(x, rotary[block.kind], incoming)
            layers.append(outgoing)
        read = ids if before is None else torch.cat((before, ids), dim=1)
        last = read[:, max(0, read.shape[1] - self.config.ngram + 1) :].clone()
        normed: Tensor = self.final_norm(x)  # (B, T, C)
        return normed, TextState(start + ids.shape[1], last, tuple(layers))

    def _embed(
        self, ids: Tensor, start: int, before: Tensor | None, documents: Documents | None = None
    ) -> Float[Tensor, "B T C"]:
        """Embed the ids, which follow `before` at the position `start`."""
        positions = None if documents is None else documents.positions
        x: Tensor = self.token_embedding(ids)  # (B, T, C)
        if self.ngram_embedding is not None:
            x = x + self.ngram_embedding(ids, before, positions).to(x.dtype)
        if self.position_embedding is None:
            return x
        if positions is None:
            return x + self.position_embedding.weight[start : start + ids.shape[1]]  # (B, T, C)
        embedded: Tensor = self.position_embedding(positions)
        return x + embedded

    def rotary_tables(
        self, x: Float[Tensor, "B T C"], start: int = 0, documents: Documents | None = None
    ) -> dict[LayerKind, tuple[Tensor, Tensor] | None]:
        """Cosines and sines of the positions from `start` on, (T, D) each, for each kind of layer.

        Windows of `config.layers` rotate by distances, unless there are several documents.
        """
        tables: dict[LayerKind, tuple[Tensor, Tensor] | None] = {}
        for kind, rotates in self._rotates.items():
            tables[kind] = None
            if self.rotary is None or not rotates:
                continue
            if documents is not None:
                cos, sin = self.rotary.at(documents.positions)
            elif kind == "w" and self.config.layers is not None:
                config = self.config
                n_rows = rotary_rows(config.window_width, x.shape[1], x, config.head_width)
                cos, sin = self.rotary.between(0, n_rows)
            else:
                cos, sin = self.rotary.between(start, start + x.shape[1])
            tables[kind] = cos.to(x.dtype), sin.to(x.dtype)
        return tables

    def forward(self, ids: Tensor, *, cache: KeyValueCache | None = None) -> Float[Tensor, "B T V"]:
        """Compute the logits of the next token at every position.

        Args:
            ids: Token ids, (B, T) int64.
            cache: Holds the positions before `ids`, and gets those of `ids`.

        Raises:
            UserError: `check_ids` refuses the ids.
        """
        return self.logits(self.hidden(ids, cache=cache))

    def logits(self, hidden: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """Compute the logits from the result of `hidden`."""
        logits: Tensor = self.head(hidden)  # (B, T, V)
        return logits

    def loss(
        self,
        ids: Tensor,
        targets: Tensor,
        lengths: Tensor | None = None,
        *,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Float[Tensor, ""]:
        """Compute the cross-entropy in nats over the targets that are not -100.

        Args:
            ids: Token ids, (B, T) int64.
            targets: The id after each of them, of the same shape.
            lengths: Number of tokens of each document of each row, (B, D); 0 stands for no
                document, and what follows the documents of a row is padding. Each document is
                computed as if it were alone. None: a row is one document.
            reduction: See `cross_entropy`.

        Raises:
            UserError: `check_ids` refuses the ids.
        """
        if lengths is not None:
            keep_rows = self.training and self.config.dropout > 0
            ids, targets, lengths = without_padding(ids, targets, lengths, keep_rows=keep_rows)
        hidden = self.hidden(ids, lengths=lengths)  # (B, T, C)
        return head_cross_entropy(hidden, self.head.weight, targets, reduction=reduction)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.token_embedding.weight.device
