"""The names of Raschka, "Build a Large Language Model (From Scratch)" (2024), chapters 2 to 7.

Signatures, names of weights, arithmetic and use of torch's random state are those of the book, so a
script of the book runs unchanged with `from groundup.book import ...`, and its `model.pth` opens.
`docs/book.md` says which parts of groundup do the same jobs on a larger scale.
"""

from groundup.book.attention import (
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    SelfAttention,
    SelfAttention_v1,
    SelfAttention_v2,
)
from groundup.book.classification import (
    SpamDataset,
    calc_accuracy_loader,
    classify_review,
    train_classifier_simple,
)
from groundup.book.convert import assign, from_gpt, load_weights_into_gpt, to_gpt
from groundup.book.generation import (
    generate,
    generate_text_simple,
    text_to_token_ids,
    token_ids_to_text,
)
from groundup.book.instructions import InstructionDataset, custom_collate_fn, format_input
from groundup.book.model import (
    GELU,
    GPT_CONFIG_124M,
    FeedForward,
    GPTModel,
    LayerNorm,
    TransformerBlock,
)
from groundup.book.training import (
    calc_loss_batch,
    calc_loss_loader,
    evaluate_model,
    generate_and_print_sample,
    plot_losses,
    train_model_simple,
)
from groundup.book.words import SimpleTokenizerV1, SimpleTokenizerV2
from groundup.data.book import GPTDatasetV1, create_dataloader_v1

__all__ = [
    "GELU",
    "GPT_CONFIG_124M",
    "CausalAttention",
    "FeedForward",
    "GPTDatasetV1",
    "GPTModel",
    "InstructionDataset",
    "LayerNorm",
    "MultiHeadAttention",
    "MultiHeadAttentionWrapper",
    "SelfAttention",
    "SelfAttention_v1",
    "SelfAttention_v2",
    "SimpleTokenizerV1",
    "SimpleTokenizerV2",
    "SpamDataset",
    "TransformerBlock",
    "assign",
    "calc_accuracy_loader",
    "calc_loss_batch",
    "calc_loss_loader",
    "classify_review",
    "create_dataloader_v1",
    "custom_collate_fn",
    "evaluate_model",
    "format_input",
    "from_gpt",
    "generate",
    "generate_and_print_sample",
    "generate_text_simple",
    "load_weights_into_gpt",
    "plot_losses",
    "text_to_token_ids",
    "to_gpt",
    "token_ids_to_text",
    "train_classifier_simple",
    "train_model_simple",
]
