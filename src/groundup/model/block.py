"""One layer of the model: attention, or a gated delta rule, and the MLP."""

from jaxtyping import Float
from torch import Tensor, nn

from groundup.model.config import GPTConfig
from groundup.model.delta import GatedDelta
from groundup.model.layers import MLP, LayerNorm, RMSNorm
from groundup.model.multi_head import KeyValueCache, MultiHeadAttention
from groundup.model.packed import Documents
from groundup.model.state import LayerState


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
        self.delta = (
            GatedDelta(
                config.d_model,
                config.n_heads,
                config.head_width,
                norm_eps=config.norm_eps,
                dropout=config.dropout,
            )
            if self.kind == "d"
            else None
        )
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
        state: LayerState | None,
    ) -> tuple[Float[Tensor, "B T C"], LayerState]:
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
