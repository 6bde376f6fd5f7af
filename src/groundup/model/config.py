"""The architecture of a model: every number and choice that fixes its parameters, without torch.

One class describes three families. The defaults are the fast small model that `groundup pretrain`
trains on a laptop; `GPTConfig.gpt2` is GPT-2, with exactly its parameters, and `GPTConfig.llama` is
the Llama family. This file does not import torch, so that planning and `--help` stay fast.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, cast

from annotated_types import Ge, Lt

from groundup.base.errors import UserError
from groundup.base.fields import Config
from groundup.base.kinds import Count, Mark, Pattern, Positive, Section, Whole

_Shape = Annotated[Count, Mark.SHAPE]
_EXPERIMENTAL = Section("Experimental")
_Float32 = Annotated[Positive, Lt(1e35)]
_Layers = Annotated[str, Pattern("[wdg]*", "a pattern of the letters w, d and g")]
_WINDOW = 512
LayerKind = Literal["w", "d", "g"]
"""Attention to a window, gated delta rule, or attention to all positions before."""

GPT2_SIZES: dict[str, tuple[int, int, int]] = {
    # name: (n_layers, n_heads, d_model); source: see `GPTConfig.gpt2`.
    "124M": (12, 12, 768),
    "355M": (24, 16, 1024),
    "774M": (36, 20, 1280),
    "1558M": (48, 25, 1600),
}


@dataclass(frozen=True, kw_only=True)
class RotaryScaling(Config):
    """How rotary frequencies were changed so that a model reads beyond its original context.

    Raises:
        UserError: A setting is out of its range, or one that the kind needs is missing.
    """

    kind: Literal["linear", "llama3", "yarn"] = "linear"
    """The rule; `groundup.model.rotary.rotary_frequencies` has the formulas."""
    factor: _Float32 = 1.0
    """Scale of the wavelengths."""
    original_context: Count | None = None
    """Context length before the change, in tokens. None: not used, with linear."""
    low_frequency_factor: _Float32 = 1.0
    """Scales wavelengths above original_context / this completely, with llama3."""
    high_frequency_factor: _Float32 = 4.0
    """Leaves wavelengths below original_context / this unchanged, with llama3."""
    beta_fast: _Float32 = 32.0
    """Leaves pairs that rotate more often in the original context unchanged, with yarn."""
    beta_slow: _Float32 = 1.0
    """Scales pairs that rotate less often in the original context completely, with yarn."""
    truncate: bool = True
    """Round the two limits to whole pairs, with yarn."""
    attention_factor: _Float32 | None = None
    """Scale of the rotated queries and keys, with yarn. None: 0.1 ln(factor) + 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind != "linear" and self.original_context is None:
            raise UserError(f"The rotary scaling {self.kind!r} needs original_context.")
        if self.kind == "llama3" and self.high_frequency_factor <= self.low_frequency_factor:
            raise UserError(
                f"high_frequency_factor is {self.high_frequency_factor:g}. A number above "
                f"low_frequency_factor, which is {self.low_frequency_factor:g}, is expected."
            )


@dataclass(frozen=True, kw_only=True)
class GPTConfig(Config):
    """Architecture of a model.

    >>> GPTConfig().head_width, GPTConfig(d_model=64, n_heads=4).ff_width
    (64, 192)
    >>> GPTConfig.gpt2("124M").ff_width
    3072
    >>> GPTConfig(d_model=100, n_heads=3)
    Traceback (most recent call last):
        ...
    groundup.base.errors.UserError: ...

    Raises:
        UserError: A setting is out of its range, or two of them do not fit together.
    """

    vocab_size: Annotated[Count, Mark.NO_OPTION] = 2048
    """Number of different tokens. Pretraining takes it from the tokenizer."""
    context_length: Count = 256
    """Number of tokens that the model sees at once."""
    d_model: _Shape = 192
    """Width of the residual stream."""
    n_layers: _Shape = 4
    """Number of transformer blocks."""
    n_heads: _Shape = 3
    """Number of attention heads per layer."""
    n_kv_heads: _Shape | None = None
    """Number of key and value heads, each shared by a group of query heads. None: as n_heads."""
    d_head: _Shape | None = None
    """Width of one attention head. None: d_model / n_heads."""
    d_ff: Count | None = None
    """Width inside the MLP. None: 4 d_model; with swiglu 8/3 d_model, rounded up to 64."""
    norm: Literal["rms", "layer"] = "rms"
    """Normalization: RMSNorm, or LayerNorm as in GPT-2."""
    norm_eps: _Float32 = 1e-6
    """Constant that keeps a norm from dividing by zero."""
    positions: Literal["rotary", "learned"] = "rotary"
    """Position information: rotary embeddings, or a learned embedding as in GPT-2."""
    rotary_layout: Literal["half", "interleaved"] = "half"
    """Pairs that are rotated in a head: i and i + d_head/2, or 2i and 2i + 1."""
    rotary_base: _Float32 = 10_000.0
    """Base of the rotary wavelengths (theta)."""
    rotary_scaling: Annotated[RotaryScaling, Mark.NO_OPTION] | None = None
    """Change of the rotary frequencies for a longer context. None: unchanged."""
    sliding_window: Annotated[Count, Mark.NO_OPTION] | None = None
    """Number of positions that a position attends to, itself included. None: all before it."""
    sliding_layers: Annotated[tuple[Whole, ...], Mark.NO_OPTION] | None = None
    """Layers with the sliding window, counted from 0. None: every layer."""
    layers: Annotated[_Layers, Mark.SHAPE] | None = None
    """Kind of each layer: w attends to a window, d is a gated delta rule, g attends to all.
    A pattern such as wwwg is repeated. None: g everywhere."""
    window: Count | None = None
    """Positions that a layer w attends to, itself included. None: 512, at most the context."""
    qk_norm: bool = True
    """Normalize each query and key, which keeps attention stable at high learning rates."""
    qk_gain: Annotated[_Float32, _EXPERIMENTAL] = 1.0
    """Initial scale of the attention scores with qk_norm. It is trained."""
    activation: Literal["swiglu", "gelu", "gelu-exact", "relu2"] = "swiglu"
    """MLP: SwiGLU, GELU as in GPT-2 (tanh form), exact GELU, or squared ReLU, the fastest."""
    ngram: Annotated[Count, _EXPERIMENTAL] = 1
    """Longest n-gram of tokens that has its own embedding. 1: single tokens only."""
    ngram_rows: Annotated[Count, _EXPERIMENTAL] = 16_384
    """Rows of the embedding table for each n-gram length. N-grams share rows by a hash."""
    bias: bool = False
    """Use biases in the norms, the attention output and the MLP."""
    qkv_bias: bool = False
    """Use biases in the query, key and value projections."""
    tie_embeddings: bool = True
    """Use the token embedding as the output head."""
    init: Literal["zero", "gpt2", "torch"] = "zero"
    """Initial weights: each block as the identity, GPT-2's normal(0, 0.02), or torch's own."""
    look_back: Annotated[bool, _EXPERIMENTAL] = False
    """Initialize the first layer's heads to attend 1, 2, 3 ... tokens back.
    Needs qk_norm and qkv_bias."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Fraction of activations that are set to zero in training."""

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads, never None."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_width(self) -> int:
        """Width D of one head, never None."""
        return self.d_model // self.n_heads if self.d_head is None else self.d_head

    def window_of(self, layer: int) -> int | None:
        """Sliding window of a layer, in positions; None: the layer attends to all before it."""
        if self.layers is not None:
            return self.window_width if self.kind_of(layer) == "w" else None
        slides = self.sliding_layers is None or layer in self.sliding_layers
        return self.sliding_window if slides else None

    @property
    def window_width(self) -> int:
        """Positions that a layer `w` attends to, never None."""
        return min(_WINDOW, self.context_length) if self.window is None else self.window

    def kind_of(self, layer: int) -> LayerKind:
        """Kind of a layer: "w", "d" or "g"."""
        if self.layers is not None:
            return cast("LayerKind", self.layers[layer % len(self.layers)])
        return "g" if self.window_of(layer) is None else "w"

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """Kind of each layer, in order."""
        if self.layers is None and self.sliding_window is None:
            full: tuple[LayerKind, ...] = ("g",)
            return full * self.n_layers  # at once: a hostile config may say a million
        return tuple(self.kind_of(layer) for layer in range(self.n_layers))

    def with_layers(self, n_layers: int, first: int = 0) -> "GPTConfig":
        """Build the config of a smaller model with layers `first`, `first` + 1 ... of this one."""
        if self.layers is None:
            layers = range(first, first + n_layers)
            slides = self.sliding_layers
            slides = slides and tuple(layers.index(k) for k in slides if k in layers)
            return replace(self, n_layers=n_layers, sliding_layers=slides)
        kept = "".join(self.kind_of(first + i) for i in range(n_layers))
        window = self.window if "w" in kept else None
        model = replace(self, n_layers=n_layers, layers=kept, window=window, look_back=False)
        return replace(model, look_back=self.look_back and model.rotates(0))

    @property
    def is_mixed(self) -> bool:
        """Whether `layers` has other letters than g: then `g` has no rotary positions."""
        return self.layers is not None and set(self.layers) != {"g"}

    def rotates(self, layer: int) -> bool:
        """Whether a layer rotates its queries and keys by their positions.

        Full attention of a mixed model does not: the other layers know the order of the tokens.

        Source: "Kimi Linear: An Expressive, Efficient Attention Architecture", section 4.
        """
        kind = self.kind_of(layer)
        return self.positions == "rotary" and kind != "d" and not (kind == "g" and self.is_mixed)

    @property
    def ff_width(self) -> int:
        """Width F inside the MLP, never None."""
        if self.d_ff is not None:
            return self.d_ff
        if self.activation == "swiglu":
            # Three matrices instead of two: two thirds of 4 C keeps the parameter count; 64 suits
            # the kernels.
            return -(-8 * self.d_model // (3 * 64)) * 64
        return 4 * self.d_model

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_head is None and self.d_model % self.n_heads:
            raise UserError(
                f"d_model {self.d_model} is not divisible by {self.n_heads} heads. Choose n_heads "
                "so that it divides d_model, or set d_head.",
                settings={"n_heads": _nearest_divisor(self.d_model, self.n_heads)},
            )
        if self.n_heads % self.kv_heads:
            raise UserError(
                f"{self.n_heads} query heads cannot share {self.kv_heads} key and value heads "
                "evenly. Choose n_kv_heads so that it divides n_heads.",
                settings={"n_kv_heads": _nearest_divisor(self.n_heads, self.kv_heads)},
            )
        if self.positions == "rotary" and self.head_width % 2:
            raise UserError(
                f"Rotary positions need an even d_head, and it is {self.head_width}. "
                "It is d_model / n_heads unless it is set."
            )
        if self.sliding_layers is not None and (
            self.sliding_window is None or max(self.sliding_layers, default=0) >= self.n_layers
        ):
            raise UserError(
                f"sliding_layers is {list(self.sliding_layers)}. Layers below n_layers, which is "
                f"{self.n_layers}, and a sliding_window are expected."
            )
        self._check_layers()
        if self.rotary_scaling is not None and self.positions != "rotary":
            raise UserError('rotary_scaling needs positions="rotary".')
        if self.look_back and not (self.positions == "rotary" and self.qk_norm and self.qkv_bias):
            raise UserError(
                'look_back needs positions="rotary", qk_norm=True and qkv_bias=True.',
                settings={"positions": "rotary", "qk_norm": True, "qkv_bias": True},
            )

    def _check_layers(self) -> None:
        if self.window is not None and "w" not in (self.layers or ""):
            raise UserError(
                f"window is {self.window}, and no layer has a window. A pattern with w is expected "
                "in layers.",
                settings={"layers": "w"},
            )
        if self.layers is None:
            return
        if not self.layers or self.n_layers % len(self.layers):
            raise UserError(
                f"layers is {self.layers!r}, and the model has {self.n_layers} layers. One letter "
                "per layer, or a pattern whose length divides the number of layers, is expected.",
                settings={"layers": ((self.layers or "w") * self.n_layers)[: self.n_layers]},
            )
        if "w" in self.layers and self.window_width > self.context_length:
            raise UserError(
                f"window is {self.window}, and the context length is {self.context_length}. A "
                "window of at most the context length is expected.",
                settings={"context_length": self.window_width},
            )
        if self.sliding_window is not None or self.sliding_layers is not None:
            raise UserError(
                "Both layers and sliding_window are set. Only one of them is expected: in layers, "
                "w is a layer with a sliding window, and window is its width."
            )
        if self.look_back and not self.rotates(0):
            raise UserError(
                f"look_back needs rotary positions in the first layer, and layers is "
                f"{self.layers!r}. A pattern that begins with w is expected.",
                settings={"layers": "w" + self.layers[1:]},
            )

    @classmethod
    def gpt2(
        cls,
        size: str = "124M",
        *,
        vocab_size: int = 50_257,
        context_length: int = 1024,
        qkv_bias: bool = True,
        tie_embeddings: bool = True,
        dropout: float = 0.0,
    ) -> "GPTConfig":
        """GPT-2 as published, in one of its four sizes.

        The published 124M weights have biases on queries, keys and values: 124,439,808 parameters.
        Courses that build GPT-2 by hand often leave those biases out (`qkv_bias=False`):
        124,412,160 with tied embeddings and 163,009,536 without (`tie_embeddings=False`).

        Raises:
            UserError: There is no such size.

        Source: "Language Models are Unsupervised Multitask Learners", section 2.3 and table 2.
        """
        if size not in GPT2_SIZES:
            raise UserError(
                f"There is no GPT-2 of size {size!r}. The sizes are {', '.join(GPT2_SIZES)}."
            )
        n_layers, n_heads, d_model = GPT2_SIZES[size]
        return cls(
            vocab_size=vocab_size,
            context_length=context_length,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            norm="layer",
            norm_eps=1e-5,
            positions="learned",
            qk_norm=False,
            activation="gelu",
            bias=True,
            qkv_bias=qkv_bias,
            tie_embeddings=tie_embeddings,
            init="gpt2",
            dropout=dropout,
        )

    @classmethod
    def llama(
        cls,
        *,
        vocab_size: int = 32_000,
        context_length: int = 2048,
        d_model: int = 2048,
        n_layers: int = 22,
        n_heads: int = 32,
        n_kv_heads: int | None = 4,
        d_head: int | None = None,
        d_ff: int | None = 5632,
        norm_eps: float = 1e-5,
        rotary_layout: Literal["half", "interleaved"] = "half",
        rotary_base: float = 10_000.0,
        qk_norm: bool = False,
        tie_embeddings: bool = False,
    ) -> "GPTConfig":
        """The Llama family, by default TinyLlama's 1.1 billion parameters.

        With `qk_norm=True` it is the Qwen3 family.

        Source: "LLaMA: Open and Efficient Foundation Language Models", section 2.2; grouped-query
            attention as in "GQA: Training Generalized Multi-Query Transformer Models", section 2.2.
        """
        return cls(
            vocab_size=vocab_size,
            context_length=context_length,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=d_head,
            d_ff=d_ff,
            norm_eps=norm_eps,
            rotary_layout=rotary_layout,
            rotary_base=rotary_base,
            qk_norm=qk_norm,
            tie_embeddings=tie_embeddings,
            init="gpt2",
        )


def _nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` that is nearest to `wanted`."""
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: abs(d - wanted))
