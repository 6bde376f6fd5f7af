"""Runs to export: an assistant that says `hi` and ends, and a base model with random weights."""

from pathlib import Path
from typing import Any

import torch

from groundup.base.files import write_json
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.special import ASSISTANT, END
from groundup.tokenizer.train_bpe import train_bpe
from groundup.weights.checkpoint_format import save_model

TEXT = "the cat sat on the mat, and the dog's log was\n 12 or 345 long.\n\n  It's hi or hit! " * 9


def bpe(pattern: str = "gpt4", vocab_size: int = 288) -> BPETokenizer:
    """A tokenizer of ours, with the tokens of a chat."""
    return train_bpe([TEXT], vocab_size, pattern=pattern)


def write_run(folder: Path, model: GPT, tokenizer: BPETokenizer | None) -> Path:
    """Write a run folder with one checkpoint."""
    save_model(model, folder / "checkpoints" / "step-000007")
    (folder / "checkpoints" / "latest").write_text("step-000007")
    if tokenizer is not None:
        tokenizer.save(folder / "tokenizer")
    return folder


def chain_model(
    vocab_size: int, chain: list[int], width: int = 320, context_length: int = 64
) -> GPT:
    """A model that says the tokens of a chain one after another, and the first one otherwise."""
    config = GPTConfig.llama(
        vocab_size=vocab_size, context_length=context_length, d_model=width, n_layers=1,
        n_heads=2, n_kv_heads=1, d_ff=32,
    )  # fmt: skip
    model = GPT(config, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.down.weight")):
                parameter.zero_()  # each block is the identity
        model.token_embedding.weight.copy_(torch.eye(vocab_size, width))
        model.head.weight.zero_()
        model.head.weight[chain[0]] = 0.1
        for token, after in zip(chain, chain[1:], strict=False):
            model.head.weight[after, token] = 1.0
    return model.eval()


def write_assistant(folder: Path) -> tuple[Path, list[int]]:
    """Write an assistant, and return what it says before its turn ends."""
    tokenizer = bpe()
    special = tokenizer.special_tokens
    answer = tokenizer.encode("hi")
    chain = [special[ASSISTANT], *answer, special[END]]
    model = chain_model(tokenizer.vocab_size, [*chain, tokenizer.encode("x")[0]])
    write_run(folder, model, tokenizer)
    write_json(folder / "assistant.json", {"source": "a test"})
    return folder, answer


def write_talkative_assistant(folder: Path) -> Path:
    """Write an assistant whose answers end by their maximum length only."""
    tokenizer = bpe()
    first, second = tokenizer.encode("ab")
    chain = [tokenizer.special_tokens[ASSISTANT], first, second, first]
    write_run(folder, chain_model(tokenizer.vocab_size, chain, context_length=4096), tokenizer)
    write_json(folder / "assistant.json", {"name": "Ann", "prompts_to_try": ["Name a color."]})
    return folder


def random_model(vocab_size: int, **changes: Any) -> GPT:
    """A Llama model with random weights, each of which changes the logits."""
    sizes: dict[str, Any] = {
        "context_length": 64, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
        "d_ff": 64, "tie_embeddings": True,
    }  # fmt: skip
    model = GPT(GPTConfig.llama(vocab_size=vocab_size, **sizes | changes))
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(0.3 * noise + (parameter.ndim == 1))
    return model.eval()
