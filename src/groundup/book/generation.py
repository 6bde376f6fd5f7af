"""Text from a model, as chapters 4 and 5 generate it.

The functions take any module that turns ids (B, T) into logits (B, T, V). They compute every
position again for each token; `groundup.generate` keeps keys and values in a cache.
"""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from groundup.base.arguments import whole_number
from groundup.base.errors import UserError
from groundup.data.encoder import Encoder, encode_text


def generate_text_simple(
    model: nn.Module, idx: Int[Tensor, "B T"], max_new_tokens: int, context_size: int
) -> Int[Tensor, "B S"]:
    """Return the ids `idx` followed by `max_new_tokens` new ones, each the most likely."""
    return generate(model, idx, max_new_tokens, context_size)


def generate(
    model: nn.Module,
    idx: Int[Tensor, "B T"],
    max_new_tokens: int,
    context_size: int,
    temperature: float | int = 0.0,
    top_k: int | None = None,
    eos_id: int | None = None,
) -> Int[Tensor, "B S"]:
    """Return the ids `idx` followed by at most `max_new_tokens` new ones.

    Like the book's, it leaves the model in its mode: call `model.eval()` first.

    Args:
        model: Any model from ids (B, T) to logits (B, T, V).
        idx: Token ids of the prompts.
        max_new_tokens: Maximum number of new tokens.
        context_size: Number of last tokens that the model reads.
        temperature: 0 takes the most likely token; else samples with torch's global random state.
        top_k: Sample from this many most likely tokens. None disables it.
        eos_id: Token id that ends the text when every row has it; it is not returned.

    Raises:
        UserError: The prompt has no tokens, or `context_size` or `top_k` is below 1.
    """
    whole_number("context_size", context_size)
    if top_k is not None:
        whole_number("top_k", top_k)
    if not idx.shape[1]:
        raise UserError("The prompt has no tokens. Expected at least one.")
    for _ in range(max_new_tokens):
        with torch.no_grad():
            logits = model(idx[:, -context_size:])[:, -1, :]  # (B, V)
        if top_k is not None:
            smallest = torch.topk(logits, min(top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < smallest, -torch.inf)
        if temperature > 0.0:
            probabilities = torch.softmax(logits / temperature, dim=-1)
            new = torch.multinomial(probabilities, num_samples=1)  # (B, 1)
        else:
            new = torch.argmax(logits, dim=-1, keepdim=True)  # (B, 1)
        if eos_id is not None and (new == eos_id).all():
            break
        idx = torch.cat((idx, new), dim=1)
    return idx


def text_to_token_ids(text: str, tokenizer: Encoder) -> Int[Tensor, "1 T"]:
    """Encode a text as a batch of one."""
    return torch.from_numpy(encode_text(tokenizer, text).astype("int64")).unsqueeze(0)


def token_ids_to_text(token_ids: Int[Tensor, "*B T"], tokenizer: Any) -> str:
    """Decode the ids of a text, (T,) or a batch of one."""
    text: str = tokenizer.decode(token_ids.squeeze(0).tolist())
    return text
