"""Parameters, FLOPs and memory of a model, computed from its config without loading torch."""

from dataclasses import dataclass

from groundup.model.config import GPTConfig

# Constants of loss.py and attention.py. They are defined in this file because the memory estimate
# needs them and must not load torch.
LOGITS_AT_ONCE = 2**24
"""Number of logits that are kept for the backward pass at most: 64 MB of float32."""
LOGITS_BYTES = 2**28
"""Above that, their gradient is computed at once. A CPU computes logits of up to this size in
one part: each part but the first adds another gradient of the head."""
HEAD_ROWS = 128
"""On a GPU the head has a multiple of this number of rows inside the loss."""
_GPU_ROWS, _GPU_LOGITS = 2**13, 2**31
"""Positions whose logits a GPU computes at a time, at least; and logits, if the step is compiled:
above that, kernels need 64-bit indices."""
ATTENTION_BLOCK = 128
"""Number of queries per matrix product in `attention_blocks`."""
FEW_POSITIONS = 512
"""Context length up to which a CPU uses `attention_blocks` in float32."""
LONG = 1024
"""Positions up to which full attention of a model with `layers` stores its weights in bfloat16."""
DELTA_CHUNK = 64
"""Positions that the gated delta rule computes by one product of matrices."""
DELTA_AT_ONCE, DELTA_AT_ONCE_ON_GPU = 2**17, 2**24
"""Values of one kind that it computes at once: on a CPU they must fit in its cache."""
_DELTA_KINDS = 29
"""Kinds of values in its backward pass, in float32. Measured."""
DELTA_TAPS = 4
"""Positions that its convolution reads, the current one included."""


def gpu_loss_rows(vocab_size: int, *, compiled: bool) -> int:
    """Number of positions whose logits a GPU computes at a time.

    A compiled step stores them in the format of the activations, and computes all of them if it
    can. Otherwise there are float32 copies.

    >>> gpu_loss_rows(50_257, compiled=False), gpu_loss_rows(50_257, compiled=True)
    (8192, 42690)
    """
    at_once = _GPU_LOGITS if compiled else LOGITS_AT_ONCE
    return max(_GPU_ROWS, at_once // _padded(vocab_size))


def _padded(vocab_size: int) -> int:
    return -(-vocab_size // HEAD_ROWS) * HEAD_ROWS


def parameters_by_part(config: GPTConfig) -> dict[str, int]:
    """Count the parameters of embeddings, attention, MLP, norms and head, over all layers.

    A gated delta rule, which replaces attention in its layer, counts as attention.

    >>> parameters_by_part(GPTConfig.gpt2("124M"))["token table"]
    38597376
    """
    C, H, G, D = config.d_model, config.n_heads, config.kv_heads, config.head_width
    width, L, V = config.ff_width, config.n_layers, config.vocab_size
    qkv_rows = (H + 2 * G) * D
    attention = qkv_rows * C + H * D * C
    attention += config.qkv_bias * qkv_rows + config.bias * C
    attention += config.qk_norm * 2 * D
    delta = 5 * H * D * C + 2 * H * C + _delta_vectors(config)
    n_delta = config.kinds.count("d")
    up_rows = width * (2 if config.activation == "swiglu" else 1)
    mlp = up_rows * C + width * C + config.bias * (up_rows + C)
    norm = C * (2 if config.norm == "layer" and config.bias else 1)
    return {
        "token table": V * C,
        "n-gram table": (config.ngram - 1) * config.ngram_rows * C,
        "positions": config.context_length * C if config.positions == "learned" else 0,
        "attention": (L - n_delta) * attention + n_delta * delta,
        "mlp": L * mlp,
        "norms": (2 * L + 1) * norm,
        "head": 0 if config.tie_embeddings else V * C,
    }


def _delta_vectors(config: GPTConfig) -> int:
    """Parameters of a gated delta rule that are in no matrix product."""
    H, D = config.n_heads, config.head_width
    return 3 * DELTA_TAPS * H * D + 2 * H + D


def count_parameters(config: GPTConfig) -> int:
    """Count all parameters once. A tied head is the token embedding and adds none.

    >>> count_parameters(GPTConfig.gpt2("124M", qkv_bias=False))
    124412160
    >>> count_parameters(GPTConfig.gpt2("124M", qkv_bias=False, tie_embeddings=False))
    163009536
    """
    return sum(parameters_by_part(config).values())


def forward_flops_per_token(config: GPTConfig, context_length: int | None = None) -> int:
    """Estimate the FLOPs of a forward pass per token. A multiply and an add count as two.

    Only matrix products count; everything else is below a few percent. With the causal mask a
    position attends to half the context on average, or to a sliding window. A gated delta rule has
    products with its state, and within a chunk.

    Args:
        config: Architecture of the model.
        context_length: Length T of the sequences, in tokens. None: `config.context_length`.
    """
    T = config.context_length if context_length is None else context_length
    C, H, D = config.d_model, config.n_heads, config.head_width
    parts = parameters_by_part(config)
    n_delta = config.kinds.count("d")
    of_mlp = C + config.ff_width * (2 if config.activation == "swiglu" else 1)
    of_attention = config.qkv_bias * (H + 2 * config.kv_heads) * D + config.qk_norm * 2 * D
    biases_and_gains = config.n_layers * config.bias * of_mlp
    biases_and_gains += (config.n_layers - n_delta) * (of_attention + config.bias * C)
    biases_and_gains += n_delta * _delta_vectors(config)
    matrices = parts["attention"] + parts["mlp"] - biases_and_gains + config.vocab_size * C
    # Scores and weighted sums: 2 products of width D per head for each visible key, 2 FLOPs each.
    attends = [layer for layer, kind in enumerate(config.kinds) if kind != "d"]
    pairs = sum(_visible_pairs(T, config.window_of(layer)) for layer in attends)
    delta = 2 * H * (3 * D**2 + 5 * DELTA_CHUNK * D)
    return 2 * matrices + 4 * H * D * pairs // T + n_delta * delta


def _visible_pairs(context_length: int, window: int | None) -> int:
    """Number of pairs of a query and a key that it sees.

    >>> _visible_pairs(4, None), _visible_pairs(4, 2), _visible_pairs(4, 9)
    (10, 7, 10)
    """
    W = context_length if window is None else min(window, context_length)
    return W * (W + 1) // 2 + (context_length - W) * W


def flops_per_token(config: GPTConfig, context_length: int | None = None) -> int:
    """Estimate the training FLOPs per token, forward and backward.

    The backward pass costs twice the forward pass: one product for the gradient of the input, one
    for the gradient of the weight.

    Source: "Scaling Laws for Neural Language Models", section 2.1.
    """
    return 3 * forward_flops_per_token(config, context_length)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak memory of a training step in bytes, by part."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int

    @property
    def total_bytes(self) -> int:
        """Sum of the parts."""
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
    compiled: bool = False,
    in_segments: bool = False,
) -> Memory:
    """Estimate the memory of one training step, in bytes.

    Activations are the tensors that the backward pass needs, counted for the code of `model/`
    without `torch.compile`: the inputs of matrix products, norms and activation functions, and the
    queries, keys, values and output of attention. A CPU stores more: the attention weights where
    `attention_blocks` runs, normalized inputs, and float32 copies in the norms where activations
    are bfloat16. Logits in float32 are stored three times: as computed, as log-probabilities, and
    as gradient. In bfloat16, and above `LOGITS_AT_ONCE`, they are stored once, with the gradient of
    the head. A GPU computes those of `gpu_loss_rows` positions at a time, and a compiled step there
    computes the outputs of norms and activation functions again.

    Args:
        config: Architecture of the model.
        batch_size: Sequences per step.
        context_length: Tokens per sequence. None: `config.context_length`.
        weight_bytes: Bytes of one weight and of one gradient.
        activation_bytes: Bytes of one activation (2 with bfloat16).
        optimizer_values_per_weight: 2 for AdamW, 1 for momentum alone (Muon).
        activation_checkpointing: Each layer stores its input only, and one layer at a time is
            computed again.
        on_cpu: Whether the step runs on a CPU.
        compiled: Whether the step is compiled for a GPU.
        in_segments: Whether the sequences are segments of longer ones: no attention weights are
            stored.
    """
    T = config.context_length if context_length is None else context_length
    tokens = batch_size * T
    copies = on_cpu and activation_bytes < 4
    C, H, G, D = config.d_model, config.n_heads, config.kv_heads, config.head_width
    qkv, query_key = (H + 2 * G) * D, (H + G) * D
    mixers = [
        _mixer_values(config, layer, T, on_cpu=on_cpu, copies=copies, in_segments=in_segments)
        for layer in range(config.n_layers)
    ]
    mlp = C + config.ff_width * (4 if config.activation == "swiglu" else 2)
    # A norm stores its input, and RMSNorm on a CPU the normalized input.
    norm = 2 * C if config.norm == "rms" and on_cpu else C
    norm_bytes = norm * (4 if copies and config.norm == "rms" else activation_bytes)
    dropped = 2 * C * bool(config.dropout) * (activation_bytes if on_cpu else 1)
    others = mlp * activation_bytes + dropped + 2 * norm_bytes
    others += 4 * query_key * (copies and config.qk_norm)
    each = [others + mixer * activation_bytes for mixer in mixers]
    if compiled and not on_cpu:
        rotated = query_key * (config.positions == "rotary" or config.qk_norm)
        up = config.ff_width * (2 if config.activation == "swiglu" else 1)
        layer = (2 * C + qkv + rotated + H * D + up) * activation_bytes
        each = [layer + (kind == "d") * 8 * H * D * activation_bytes for kind in config.kinds]
    if activation_checkpointing:
        layers = config.n_layers * C * activation_bytes + max(each)
    else:
        layers = sum(each)
    per_token_bytes = layers + norm_bytes + C * activation_bytes
    n_parameters = count_parameters(config)
    n_logits = tokens * config.vocab_size
    if on_cpu:
        logits_bytes = n_logits * 4 * 3
        if n_logits > LOGITS_AT_ONCE or (copies and not compiled):
            logits_bytes = min(n_logits * activation_bytes, LOGITS_BYTES)
            logits_bytes += config.vocab_size * C * (4 + activation_bytes)
    else:
        logits_bytes = _gpu_logits_bytes(config, tokens, activation_bytes, compiled=compiled)
    activations_bytes = tokens * per_token_bytes
    if "d" in config.kinds and not on_cpu:
        n_values = tokens * H * max(D, DELTA_CHUNK)
        activations_bytes += _DELTA_KINDS * 4 * min(n_values, DELTA_AT_ONCE_ON_GPU)
    return Memory(
        weights_bytes=n_parameters * weight_bytes,
        gradients_bytes=n_parameters * weight_bytes,
        optimizer_bytes=int(n_parameters * optimizer_values_per_weight * 4),
        activations_bytes=activations_bytes,
        logits_bytes=logits_bytes,
    )


def _mixer_values(
    config: GPTConfig,
    layer: int,
    context_length: int,
    *,
    on_cpu: bool,
    copies: bool,
    in_segments: bool,
) -> int:
    """Values per token that attention, or a gated delta rule, stores for the backward pass."""
    C, H, G, D = config.d_model, config.n_heads, config.kv_heads, config.head_width
    kind, T = config.kind_of(layer), context_length
    if kind == "d":
        # The input; queries, keys, values and gates before and after the convolution; the output,
        # normalized, its gate, and their product; the rates and decays.
        return C + 11 * H * D + 6 * H
    # Input, its projection, and input of the output projection.
    attention = C + (H + 2 * G) * D + H * D
    of_pattern = config.layers is not None
    if of_pattern and kind == "w":  # the weights and the rotation are computed again
        return attention + 2 * (H + G) * D * config.qk_norm
    rotates = config.rotates(layer)
    # A GPU stores what the norm reads and what the rotation writes.
    attention += (H + G) * D * (config.qk_norm + rotates if on_cpu else config.qk_norm or rotates)
    recomputes = in_segments or (of_pattern and T > LONG)
    by_blocks = copies or T <= FEW_POSITIONS or config.dropout > 0
    if on_cpu and by_blocks and not recomputes:
        # Attention weights, their dropout, and keys and values repeated for every query head.
        weights = H * _visible_keys(T, config.window_of(layer)) * (2 if config.dropout else 1)
        return attention + weights + 2 * (H - G) * D
    return attention + H * D  # the output, before the heads are concatenated


def _gpu_logits_bytes(
    config: GPTConfig, tokens: int, activation_bytes: int, *, compiled: bool
) -> int:
    """Logits, their softmax and their gradient, in the format of the activations if the step is
    compiled; the padded head, its gradient, and that of the hidden states."""
    C, V = config.d_model, _padded(config.vocab_size)
    most = gpu_loss_rows(config.vocab_size, compiled=compiled)
    in_parts = 2 * activation_bytes + (4 if activation_bytes < 4 else 0)
    per_logit = 3 * activation_bytes if compiled else in_parts
    head = V * C * (activation_bytes + (4 if tokens > most else activation_bytes))
    return min(tokens, most) * V * per_logit + head + tokens * C * activation_bytes


def _visible_keys(context_length: int, window: int | None) -> int:
    """Average number of keys per query in `attention_blocks`."""
    starts = range(0, context_length, ATTENTION_BLOCK)
    stops = [min(start + ATTENTION_BLOCK, context_length) for start in starts]
    firsts = [0 if window is None else max(0, start - window + 1) for start in starts]
    pairs = sum(
        (stop - start) * (stop - first)
        for start, stop, first in zip(starts, stops, firsts, strict=True)
    )
    return pairs // context_length
