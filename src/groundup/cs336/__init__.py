"""The adapters of assignment 1 of Stanford CS336, with the same names of functions and weights.

Copy them into `tests/adapters.py` of the assignment to compare your own code with, or replace them
one by one by your own. docs/cs336.md shows what maps to what.
"""

from groundup.cs336.layers import (
    run_embedding,
    run_linear,
    run_multihead_self_attention,
    run_multihead_self_attention_with_rope,
    run_rmsnorm,
    run_rope,
    run_scaled_dot_product_attention,
    run_silu,
    run_swiglu,
)
from groundup.cs336.model import from_gpt, run_transformer_block, run_transformer_lm, to_gpt
from groundup.cs336.tokenizer import Tokenizer, get_tokenizer, run_train_bpe
from groundup.cs336.training import (
    get_adamw_cls,
    run_cross_entropy,
    run_get_batch,
    run_get_lr_cosine_schedule,
    run_gradient_clipping,
    run_load_checkpoint,
    run_save_checkpoint,
    run_softmax,
)

__all__ = [
    "Tokenizer",
    "from_gpt",
    "get_adamw_cls",
    "get_tokenizer",
    "run_cross_entropy",
    "run_embedding",
    "run_get_batch",
    "run_get_lr_cosine_schedule",
    "run_gradient_clipping",
    "run_linear",
    "run_load_checkpoint",
    "run_multihead_self_attention",
    "run_multihead_self_attention_with_rope",
    "run_rmsnorm",
    "run_rope",
    "run_save_checkpoint",
    "run_scaled_dot_product_attention",
    "run_silu",
    "run_softmax",
    "run_swiglu",
    "run_train_bpe",
    "run_transformer_block",
    "run_transformer_lm",
    "to_gpt",
]
