"""The language model, top to bottom: norm, MLP, block, GPT.

Token ids are embedded as vectors; every block adds the outputs of its attention and its MLP to
them; a final norm and the head compute a logit for each token of the vocabulary at each position.
The config decides whether the class is GPT-2, a model of the Llama family or our own small model.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from groundup.base.errors import UserError
from groundup.model.attention import Attention, KeyValueCache, rotary_tables
from groundup.model.config import GPTConfig
from groundup.model.loss import head_cross_entropy
from groundup.model.ngram_embedding import NGramEmbedding
from groundup.model.uninitialized import Embedding, Linear


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, without subtracting the mean as LayerNorm does.

    Source: "Root Mean Square Layer Normalization", equation 4.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Normalize along the last axis."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def make_norm(config: GPTConfig) -> nn.Module:
    """Build the norm of the config: RMSNorm, or LayerNorm as in GPT-2."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)


class _SquaredReLU(torch.autograd.Function):
    """max(x, 0)^2, with one saved tensor and one kernel in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return torch.addcmul(gradient.new_zeros(()), gradient, positive, value=2)


squared_relu: Callable[[Tensor], Tensor] = _SquaredReLU.apply


class MLP(nn.Module):
    """Position-wise feed-forward network: linear, activation, linear.

    Source: "Gaussian Error Linear Units", section 2; for SwiGLU "GLU Variants Improve Transformer",
    equation 6; for the squared ReLU "Primer: Searching for Efficient Transformers", section 4.1.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.gated = config.activation == "swiglu"
        self.dropout = config.dropout
        # For swiglu the rows of the gate come first, then those that it multiplies: one matrix
        # product instead of two.
        self.up = Linear(config.d_model, config.ff_width * (1 + self.gated), bias=config.bias)
        self.down = Linear(config.ff_width, config.d_model, bias=config.bias)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Compute what the MLP adds to the residual stream."""
        if self.gated:
            gate, up = self.up(x).chunk(2, dim=-1)  # (B, T, F) each
            hidden = F.silu(gate) * up
        elif self.activation == "relu2":
            hidden = squared_relu(self.up(x))  # (B, T, F)
        else:
            hidden = F.gelu(self.up(x), approximate="tanh")  # (B, T, F)
        return F.dropout(self.down(hidden), self.dropout, self.training)


class Block(nn.Module):
    """One pre-norm transformer layer: x + attention(norm(x)), then x + MLP(norm(x)).

    Source: "On Layer Normalization in the Transformer Architecture", figure 1 (b), pre-norm.
    """

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        rotary: tuple[Tensor, Tensor] | None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Compute the residual stream after attention and MLP."""
        x = x + self.attention(self.attention_norm(x), rotary, cache)  # (B, T, C)
        stream: Tensor = x + self.mlp(self.mlp_norm(x))  # (B, T, C)
        return stream


def _checkpointed(
    block: nn.Module, x: Float[Tensor, "B T C"], rotary: tuple[Tensor, Tensor] | None
) -> Float[Tensor, "B T C"]:
    """Run a block with activation checkpointing: its backward pass computes it again.

    Source: "Training Deep Nets with Sublinear Memory Cost", section 3.
    """
    weights: dict[str, Tensor] = dict(block.named_parameters())

    def with_current_weights(x: Tensor) -> Tensor:
        result: Tensor = functional_call(block, weights, (x, rotary))
        return result

    # In mixed precision the block holds rounded copies of the weights only during the forward pass.
    # The closure keeps them for the recomputation.
    are_copies = not all(isinstance(weight, nn.Parameter) for weight in weights.values())
    run = with_current_weights if are_copies else block
    result: Tensor = checkpoint(run, x, *(() if are_copies else (rotary,)), use_reentrant=False)
    return result


class GPT(nn.Module):
    """A decoder-only transformer.

    Args:
        config: Sizes and choices of the architecture.
        seed: Random seed of the initial weights, the same on every device. torch's global random
            state is neither read nor changed.

    >>> model = GPT(GPTConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2), seed=1)
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 11])
    """

    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, config: GPTConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.n_used_ids = config.vocab_size
        """Ids from here on have no token; generation never draws them."""
        self.activation_checkpointing = False
        """Store only each block's input for the backward pass, and compute the rest again."""
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.position_embedding = (
            Embedding(config.context_length, config.d_model)
            if config.positions == "learned"
            else None
        )
        self.ngram_embedding = NGramEmbedding(config) if config.ngram > 1 else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.final_norm = make_norm(config)
        self.head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.token_embedding.weight
        if config.positions == "rotary":
            cos, sin = rotary_tables(
                config.context_length, config.head_width, config.rotary_base, config.rotary_layout
            )
            # Not persistent: they follow from the config, so checkpoints do not contain them.
            self.register_buffer("rotary_cos", cos, persistent=False)
            self.register_buffer("rotary_sin", sin, persistent=False)
        self.initialize(seed)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Set every weight from the seed: gains to 1, biases to 0, matrices by `config.init`.

        "gpt2": normal(0, 0.02). The two output projections of a block are divided by sqrt(2 L), so
        that the sum over all blocks has the same scale at any depth.
        "zero": the two output projections start at zero, so each block starts as the identity. The
        other matrices are orthogonal, with singular values of 1, or of sqrt(rows / columns) where
        there are more rows than columns. The query, key and value matrices are orthogonal per
        head, because Muon updates them per head. The token embedding is normal(0, 1), or normal(0,
        1 / C) with a tied head. An untied head starts at zero, so the first loss is ln V.
        "torch": the defaults of torch's layers: embeddings normal(0, 1), matrices uniform within
        1 / sqrt(columns).
        The n-gram embedding starts at zero, the gains of queries and keys at sqrt(qk_gain) each.
        With `look_back` the heads of the first layer start by attending to the token 1, 2, 3, ...
        positions back, and their output projection starts orthogonal.

        Source: "Exact solutions to the nonlinear dynamics of learning in deep linear neural
            networks", section 4, for orthogonal matrices.
        """
        generator = torch.Generator().manual_seed(seed)
        config = self.config
        for name, parameter in self.named_parameters():
            shape = parameter.shape
            if name.endswith("bias") or name.startswith("ngram_embedding"):
                parameter.zero_()
            elif name.endswith(("query_gain", "key_gain")):
                parameter.fill_(config.qk_gain**0.5)
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            elif config.init == "torch":
                if "embedding" in name:
                    parameter.normal_(generator=generator)
                else:
                    bound = shape[1] ** -0.5
                    parameter.uniform_(-bound, bound, generator=generator)
            elif config.init == "gpt2":
                is_output = name.endswith(("attention.out.weight", "mlp.down.weight"))
                std = 0.02 / (2 * config.n_layers) ** 0.5 if is_output else 0.02
                parameter.normal_(0.0, std, generator=generator)
            elif (
                name.endswith(("attention.out.weight", "mlp.down.weight")) or name == "head.weight"
            ):
                parameter.zero_()
            elif "embedding" in name:
                std = 1.0 / config.d_model if config.tie_embeddings else 1.0
                parameter.normal_(0.0, std, generator=generator)
            elif name.endswith("attention.qkv.weight"):
                for head in torch.split(parameter, config.head_width):
                    nn.init.orthogonal_(head, generator=generator)
            else:
                gain = max(1.0, shape[0] / shape[1]) ** 0.5
                nn.init.orthogonal_(parameter, gain=gain, generator=generator)
        if config.look_back:
            first = self.blocks[0]
            assert isinstance(first, Block)
            first.attention.look_back(config.rotary_base, generator)

    def hidden(
        self, ids: Int[Tensor, "B T"], *, cache: KeyValueCache | None = None
    ) -> Float[Tensor, "B T C"]:
        """Compute the hidden states after the final norm: the input of the head or a classifier.

        Raises:
            UserError: There are more positions than the context length.
        """
        start = 0 if cache is None else cache.length
        stop = start + ids.shape[1]
        if stop > self.config.context_length:
            raise UserError(
                f"{stop} tokens do not fit in the model's context of "
                f"{self.config.context_length}. Use a shorter text, or a model with a longer "
                "context_length."
            )
        x: Tensor = self.token_embedding(ids)  # (B, T, C)
        if self.ngram_embedding is not None:
            x = x + self.ngram_embedding(ids, None if cache is None else cache.ids).to(x.dtype)
        rotary = None
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[start:stop]  # (B, T, C)
        else:
            rotary = (
                self.rotary_cos[start:stop].to(x.dtype),
                self.rotary_sin[start:stop].to(x.dtype),
            )  # (T, D) each
        x = F.dropout(x, self.config.dropout, self.training)
        checkpointing = self.activation_checkpointing and torch.is_grad_enabled()
        for block in self.blocks:
            x = _checkpointed(block, x, rotary) if checkpointing else block(x, rotary, cache)
        if cache is not None:
            # After the last block: until then every layer appends at the same positions.
            cache.advance(ids)
        normed: Tensor = self.final_norm(x)  # (B, T, C)
        return normed

    def forward(
        self, ids: Int[Tensor, "B T"], *, cache: KeyValueCache | None = None
    ) -> Float[Tensor, "B T V"]:
        """Compute the logits of the next token at every position.

        With a cache, `ids` follow the stored positions and are added to them.
        """
        return self.logits(self.hidden(ids, cache=cache))

    def logits(self, hidden: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """Compute the logits from the result of `hidden`."""
        logits: Tensor = self.head(hidden)  # (B, T, V)
        return logits

    def loss(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        *,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Float[Tensor, ""]:
        """Compute the cross-entropy in nats over the targets that are not -100."""
        hidden = self.hidden(ids)  # (B, T, C)
        return head_cross_entropy(hidden, self.head.weight, targets, reduction=reduction)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.token_embedding.weight.device
