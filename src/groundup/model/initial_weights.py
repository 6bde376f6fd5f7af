"""The weights that a model starts with."""

import torch
from torch import nn

from groundup.model.config import GPTConfig
from groundup.model.delta import GatedDelta


@torch.no_grad()
def set_initial_weights(model: nn.Module, config: GPTConfig, generator: torch.Generator) -> None:
    """Set every weight: gains to 1, biases to 0, matrices by `config.init`.

    "gpt2": normal(0, 0.02). The two output projections of a block are divided by sqrt(2 L), so that
    the sum over all blocks has the same scale at any depth.
    "zero": the two output projections start at zero, so each block starts as the identity. The
    other matrices are orthogonal, with singular values of 1, or of sqrt(rows / columns) where there
    are more rows than columns. The query, key and value matrices are orthogonal per head, because
    Muon updates them per head. The token embedding is normal(0, 1), or normal(0, 1 / C) with a tied
    head. An untied head starts at zero, so the first loss is ln V.
    "torch": the defaults of torch's layers: embeddings normal(0, 1), matrices uniform within
    1 / sqrt(columns).
    The n-gram embedding starts at zero, the gains of queries and keys at sqrt(qk_gain) each. With
    `look_back` the heads of the first layer start by attending to the token 1, 2, 3, ... positions
    back, and their output projection starts orthogonal (`MultiHeadAttention.look_back`).

    Source: "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
        section 4, for orthogonal matrices.
    """
    for module in model.modules():
        if isinstance(module, GatedDelta):
            module.initialize(generator, config.init, config.n_layers)
    for name, parameter in model.named_parameters():
        shape = parameter.shape
        if ".delta." in name:
            continue
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
        elif name.endswith(("attention.out.weight", "mlp.down.weight")) or name == "head.weight":
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
