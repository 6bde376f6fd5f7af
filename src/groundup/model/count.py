"""What a model costs, from its config alone: parameters, arithmetic, memory. It loads no torch."""

from dataclasses import dataclass

from groundup.model.config import GPTConfig

LOGITS_AT_ONCE = 2**24
"""More logits than this are made, used and forgotten in parts: 64 MB of float32 each."""
ATTENTION_BLOCK = 128
"""So many queries at a time meet their keys where attention is made of plain products."""
FEW_POSITIONS = 512
"""Up to this context a CPU makes attention of plain products in float32, too."""


def parameters_by_part(config: GPTConfig) -> dict[str, int]:
    """Parameters of the token table, positions, attention, MLP, norms and head, over all layers.

    >>> parameters_by_part(GPTConfig.gpt2("124M"))["token table"]
    38597376
    """
    C, H, G, D = config.d_model, config.n_heads, config.kv_heads, config.head_width
    width, L, V = config.ff_width, config.n_layers, config.vocab_size
    qkv_rows = (H + 2 * G) * D
    attention = qkv_rows * C + H * D * C
    attention += config.qkv_bias * qkv_rows + config.bias * C
    attention += config.qk_norm * 2 * D
    up_rows = width * (2 if config.activation == "swiglu" else 1)
    mlp = up_rows * C + width * C + config.bias * (up_rows + C)
    norm = C * (2 if config.norm == "layer" and config.bias else 1)
    return {
        "token table": V * C,
        "n-gram table": (config.ngram - 1) * config.ngram_rows * C,
        "positions": config.context_length * C if config.positions == "learned" else 0,
        "attention": L * attention,
        "mlp": L * mlp,
        "norms": (2 * L + 1) * norm,
        "head": 0 if config.tie_embeddings else V * C,
    }


def count_parameters(config: GPTConfig) -> int:
    """All parameters, each counted once; a tied head is the token table and adds none.

    >>> count_parameters(GPTConfig.gpt2("124M", qkv_bias=False))
    124412160
    >>> count_parameters(GPTConfig.gpt2("124M", qkv_bias=False, tie_embeddings=False))
    163009536
    """
    return sum(parameters_by_part(config).values())


def forward_flops_per_token(config: GPTConfig, context_length: int | None = None) -> int:
    """Floating-point operations to push one token forward; a multiply and an add count as two.

    Matrix products only: everything else is below a few per cent. A position attends to half the
    context on average, for the causal mask leaves out the future.

    Args:
        config: the model.
        context_length: length T of the sequences, in tokens; None: the config's own.
    """
    T = config.context_length if context_length is None else context_length
    C, H, D = config.d_model, config.n_heads, config.head_width
    parts = parameters_by_part(config)
    biases_and_gains = config.n_layers * (
        config.qkv_bias * (H + 2 * config.kv_heads) * D
        + config.qk_norm * 2 * D
        + config.bias * (2 * C + config.ff_width * (2 if config.activation == "swiglu" else 1))
    )
    matrices = parts["attention"] + parts["mlp"] - biases_and_gains + config.vocab_size * C
    # Scores and mixing: 2 products of width D per head for each of the (T + 1) / 2 keys in view, 2
    # operations each.
    scores = config.n_layers * H * D * 2 * (T + 1)
    return 2 * matrices + scores


def flops_per_token(config: GPTConfig, context_length: int | None = None) -> int:
    """Operations to train on one token, forward and backward.

    Backward costs twice the forward pass: one product for the gradient of the input, one for that
    of the weight.

    Source: "Scaling Laws for Neural Language Models", section 2.1.
    """
    return 3 * forward_flops_per_token(config, context_length)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes held at the fullest moment of a training step, by part."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum of the parts."""
        return (
            self.weights_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.activations_bytes
            + self.logits_bytes
        )


def memory_bytes(
    config: GPTConfig,
    batch_size: int,
    *,
    context_length: int | None = None,
    weight_bytes: int = 4,
    activation_bytes: int = 4,
    optimizer_values_per_weight: float = 2.0,
    activation_checkpointing: bool = False,
    on_cpu: bool = False,
) -> Memory:
    """An estimate of the memory of one training step, in bytes.

    Activations are what backward needs again, counted for the code of `model/` as it runs without
    `torch.compile`: inputs of the products, of the norms, of the bend, and the attention's queries,
    keys, values and result. A CPU keeps more: the weights of attention where it is made of
    plain products (`attention.by_blocks`), and the norms' float32 copies where activations are
    rounded. The logits are held three times: as made, as log-probabilities, and as gradient; more
    than `LOGITS_AT_ONCE` are never there together, but the head's gradient is.

    Args:
        config: the model.
        batch_size: sequences per step.
        context_length: tokens per sequence; None: the config's own.
        weight_bytes: bytes of one weight and of one gradient.
        activation_bytes: bytes of one activation (2 under bfloat16).
        optimizer_values_per_weight: 2 for AdamW, 1 for momentum alone (Muon).
        activation_checkpointing: Keep only the input of each layer, and compute one layer at a
            time again.
        on_cpu: computed by a CPU, not a GPU.
    """
    T = config.context_length if context_length is None else context_length
    tokens = batch_size * T
    copies = on_cpu and activation_bytes < 4
    C, H, G, D = config.d_model, config.n_heads, config.kv_heads, config.head_width
    qkv, query_key = (H + 2 * G) * D, (H + G) * D
    attention = C + qkv + H * D  # what is projected, what comes of it, what is projected back
    attention += query_key * ((config.positions == "rotary") + config.qk_norm)
    if on_cpu and (copies or T <= FEW_POSITIONS):
        attention += H * _keys_in_view(T) + 2 * (H - G) * D  # weights; a key and a value per query
    else:
        attention += H * D  # the result, before heads stand side by side
    mlp = C + config.ff_width * (4 if config.activation == "swiglu" else 2)
    # An RMS norm keeps what it read and what it made of it, a layer norm what it read.
    norm = 2 * C if config.norm == "rms" else C
    norm_bytes = norm * (4 if copies and config.norm == "rms" else activation_bytes)
    layer = (attention + mlp + 2 * C * bool(config.dropout)) * activation_bytes + 2 * norm_bytes
    layer += 4 * query_key * (copies and config.qk_norm)
    if activation_checkpointing:
        layers = config.n_layers * C * activation_bytes + layer
    else:
        layers = config.n_layers * layer
    per_token_bytes = layers + norm_bytes + C * activation_bytes
    n_parameters = count_parameters(config)
    n_logits = tokens * config.vocab_size
    logits_bytes = min(n_logits, LOGITS_AT_ONCE) * 4 * 3
    if n_logits > LOGITS_AT_ONCE:
        logits_bytes += config.vocab_size * C * 4
    return Memory(
        weights_bytes=n_parameters * weight_bytes,
        gradients_bytes=n_parameters * weight_bytes,
        optimizer_bytes=int(n_parameters * optimizer_values_per_weight * 4),
        activations_bytes=tokens * per_token_bytes,
        logits_bytes=logits_bytes,
    )


def _keys_in_view(context_length: int) -> int:
    """How many keys a query meets on average when `ATTENTION_BLOCK` queries share theirs."""
    starts = range(0, context_length, ATTENTION_BLOCK)
    stops = [min(start + ATTENTION_BLOCK, context_length) for start in starts]
    pairs = sum((stop - start) * stop for start, stop in zip(starts, stops, strict=True))
    return pairs // context_length
