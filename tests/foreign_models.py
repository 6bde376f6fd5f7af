"""Hugging Face folders with tiny models, as other people have them."""

import json
from pathlib import Path
from typing import Any

import torch

from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.files import save_gpt2, save_tiktoken
from groundup.tokenizer.train_bpe import train_bpe
from groundup.weights.huggingface import export_huggingface

TEXT = "the cat sat on the mat and the dog sat on the log " * 9


def foreign_tokenizer(special_tokens: tuple[str, ...] = ("<|endoftext|>",)) -> BPETokenizer:
    """A tokenizer of another maker: it lacks the chat tokens."""
    ours = train_bpe([TEXT], 264 + 4)
    first = ours.vocab_size - len(ours.special_tokens)
    special = {name: first + i for i, name in enumerate(special_tokens)}
    return BPETokenizer(ours.merges, pattern="gpt2", special_tokens=special)


def foreign_model(vocab_size: int, *, tied: bool = True, always: int | None = None) -> GPT:
    """A GPT-2 with random weights, or one that always says the same token."""
    config = GPTConfig(
        vocab_size=vocab_size, context_length=32, d_model=16, n_layers=1, n_heads=2, norm="layer",
        norm_eps=1e-5, positions="learned", qk_norm=False, activation="gelu", bias=True,
        qkv_bias=True, init="gpt2", tie_embeddings=tied and always is None,
    )  # fmt: skip
    model = GPT(config, seed=3)
    if always is not None:
        with torch.no_grad():
            model.final_norm.weight.zero_()  # type: ignore[operator, union-attr]
            model.final_norm.bias.fill_(1.0)  # type: ignore[operator, union-attr]
            model.head.weight.zero_()
            model.head.weight[always] = 1.0
    return model


def write_foreign(
    folder: Path,
    *,
    rows: int | None = None,
    tokenizer: BPETokenizer | None = None,
    form: str = "tokenizer.json",
    config: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = None,
    always: int | None = None,
    tied: bool = True,
) -> Path:
    """Write a model and its tokenizer, in one of the forms in which tokenizers are published."""
    tokenizer = tokenizer or foreign_tokenizer()
    model = foreign_model(rows or tokenizer.vocab_size, always=always, tied=tied)
    export_huggingface(model, folder)
    (folder / "generation_config.json").unlink()
    about = json.loads((folder / "config.json").read_text())
    about = {name: value for name, value in about.items() if not name.endswith("token_id")}
    (folder / "config.json").write_text(json.dumps(about | (config or {})))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    beside = folder.with_name(f"{folder.name}-tokenizer")
    if form == "tokenizer.json":
        tokenizer.save(beside)
        (beside / "tokenizer.json").rename(folder / "tokenizer.json")
    elif form == "merges.txt":
        save_gpt2(tokenizer, beside)
        for file in list(beside.iterdir()):
            file.rename(folder / file.name)
    elif form == "tiktoken":
        save_tiktoken(tokenizer, folder / "gpt2.tiktoken")
    return folder
