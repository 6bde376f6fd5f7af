"""The shape of a model: every number and choice that fixes its parameters, without torch.

One class describes three families. The fields' own defaults are the fast small model that `groundup
pretrain` trains on a laptop; `GPTConfig.gpt2` is GPT-2 to the last parameter and `GPTConfig.llama`
is the Llama family. The file loads no torch, so that planning and `--help` stay quick.
"""

from dataclasses import dataclass
from typing import Literal

from groundup.base.errors import UserError

GPT2_SIZES: dict[str, tuple[int, int, int]] = {
    # name: (n_layers, n_heads, d_model); source: see `GPTConfig.gpt2`.
    "124M": (12, 12, 768),
    "355M": (24, 16, 1024),
    "774M": (36, 20, 1280),
    "1558M": (48, 25, 1600),
}


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """What a model is made of.

    >>> GPTConfig().head_width, GPTConfig(d_model=64, n_heads=4).ff_width
    (64, 192)
    >>> GPTConfig.gpt2("124M").ff_width
    3072
    >>> GPTConfig(d_model=100, n_heads=3)
    Traceback (most recent call last):
        ...
    groundup.base.errors.UserError: ...

    Raises:
        UserError: a size is not positive, or the sizes do not fit each other.
    """

    vocab_size: int = 2048
    """how many different tokens there are; pretrain takes it from the tokenizer"""
    context_length: int = 256
    """how many tokens the model sees at once"""
    d_model: int = 192
    """width of the stream of numbers that runs through the layers"""
    n_layers: int = 4
    """how many blocks (attention, then MLP) stand on each other"""
    n_heads: int = 3
    """attention heads per layer"""
    n_kv_heads: int | None = None
    """heads for keys and values, shared by groups of query heads; None: as many as n_heads"""
    d_head: int | None = None
    """width of one head; None: d_model / n_heads"""
    d_ff: int | None = None
    """width inside the MLP; None: 4 d_model, for swiglu 8/3 d_model, up to a multiple of 64"""
    norm: Literal["rms", "layer"] = "rms"
    """normalisation: root mean square, or mean and variance as in GPT-2"""
    norm_eps: float = 1e-6
    """the small number that keeps a norm from dividing by zero"""
    positions: Literal["rotary", "learned"] = "rotary"
    """how the model knows the order: queries and keys are turned, or a learned table is added"""
    rotary_layout: Literal["half", "interleaved"] = "half"
    """which two numbers of a head turn together: i and i + d_head/2, or 2i and 2i + 1"""
    rotary_base: float = 10_000.0
    """wavelength factor of the slowest turning pair"""
    qk_norm: bool = True
    """normalise each query and key, which keeps attention calm at high learning rates"""
    qk_gain: float = 1.0
    """with qk_norm: how sharp attention starts, a factor on its scores; it is learnt on"""
    activation: Literal["swiglu", "gelu", "relu2"] = "swiglu"
    """the MLP: gated SiLU, GELU in its tanh form as in GPT-2, or the square of ReLU, the fastest"""
    ngram: int = 1
    """longest run of tokens that has an embedding of its own; 1: single tokens only"""
    ngram_rows: int = 16_384
    """rows of the table for each length of run; runs share rows by a hash"""
    bias: bool = False
    """biases in the norms, the attention output and the MLP"""
    qkv_bias: bool = False
    """biases in the query, key and value projections"""
    tied_head: bool = True
    """the output head is the token table itself"""
    init: Literal["zero", "gpt2", "torch"] = "zero"
    """starting weights: each block as the identity, GPT-2's normal(0, 0.02), or torch's own"""
    look_back: bool = False
    """the first layer's heads start by looking 1, 2, 3 ... tokens back; for qk_norm and qkv_bias"""
    dropout: float = 0.0
    """share of activations dropped in training, in [0, 1)"""

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads, never None."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_width(self) -> int:
        """Width D of one head, never None."""
        return self.d_model // self.n_heads if self.d_head is None else self.d_head

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
        for name in (
            "vocab_size",
            "context_length",
            "d_model",
            "n_layers",
            "n_heads",
            "kv_heads",
            "head_width",
            "ngram",
            "ngram_rows",
        ):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{name} is {getattr(self, name)}", need="a whole number of at least 1"
                )
        if self.ff_width < 1:
            raise UserError(f"d_ff is {self.ff_width}", need="a whole number of at least 1")
        if self.d_head is None and self.d_model % self.n_heads:
            raise UserError(
                f"d_model {self.d_model} does not divide into {self.n_heads} heads",
                need="n_heads that divides d_model, or d_head given",
                type_this=f"n_heads={_nearest_divisor(self.d_model, self.n_heads)}",
            )
        if self.n_heads % self.kv_heads:
            raise UserError(
                f"{self.n_heads} query heads cannot share {self.kv_heads} key heads evenly",
                need="n_kv_heads that divides n_heads",
                type_this=f"n_kv_heads={_nearest_divisor(self.n_heads, self.kv_heads)}",
            )
        if self.positions == "rotary" and self.head_width % 2:
            raise UserError(
                f"rotary positions turn pairs, and a head is {self.head_width} wide",
                need="an even d_head (it is d_model / n_heads unless given)",
            )
        for name, value, choices in (
            ("norm", self.norm, ("rms", "layer")),
            ("positions", self.positions, ("rotary", "learned")),
            ("rotary_layout", self.rotary_layout, ("half", "interleaved")),
            ("activation", self.activation, ("swiglu", "gelu", "relu2")),
            ("init", self.init, ("zero", "gpt2", "torch")),
        ):
            if value not in choices:
                raise UserError(f"{name} is {value!r}", need=f"one of {', '.join(choices)}")
        if self.look_back and not (self.positions == "rotary" and self.qk_norm and self.qkv_bias):
            raise UserError(
                "look_back is set in biases of queries that are normed and turned",
                need='positions="rotary", qk_norm=True and qkv_bias=True',
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout is {self.dropout}", need="a share of at least 0 and below 1")
        for name in ("norm_eps", "rotary_base", "qk_gain"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}", need="a number above 0")

    @classmethod
    def gpt2(
        cls,
        size: str = "124M",
        *,
        vocab_size: int = 50_257,
        context_length: int = 1024,
        qkv_bias: bool = True,
        tied_head: bool = True,
        dropout: float = 0.0,
    ) -> "GPTConfig":
        """GPT-2 as published, in one of its four sizes.

        The published 124M weights have biases on queries, keys and values: 124,439,808 parameters.
        Courses that build GPT-2 by hand often leave those biases out (`qkv_bias=False`):
        124,412,160 with the tied head and 163,009,536 with a head of its own (`tied_head=False`).

        Raises:
            UserError: there is no such size.

        Source: "Language Models are Unsupervised Multitask Learners", section 2.3 and table 2.
        """
        if size not in GPT2_SIZES:
            raise UserError(
                f"there is no GPT-2 of size {size!r}", need=f"one of {', '.join(GPT2_SIZES)}"
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
            tied_head=tied_head,
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
        tied_head: bool = False,
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
            tied_head=tied_head,
            init="gpt2",
        )


def _nearest_divisor(number: int, wish: int) -> int:
    """The divisor of `number` that lies nearest to `wish`."""
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: abs(d - wish))
