"""Export of GGUF files: the model, its tokenizer, its chat template, and its ends of texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from groundup.base.errors import UserError
from groundup.base.files import read_json
from groundup.base.gguf import is_gguf, read_gguf_header
from groundup.evaluation.canary import CANARIES, PROMPTS, plain_canaries
from groundup.evaluation.export_tokenizer import chat_template_of, exported_ids
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.quantization import differences
from groundup.model.gpt import GPT
from groundup.tokenizer.gguf import tokenizer_of_gguf
from groundup.tokenizer.gguf_keys import gguf_tokenizer
from groundup.weights.checkpoint_format import GGUF_FILE
from groundup.weights.gguf_writer import GGUFType, write_gguf
from groundup.weights.special_ids import as_ids

MARK = "groundup.producer"
"""A key of the files that were written here, so that a later export knows that it may replace one.
"""
_T = 96


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a model with rounded weights predicts, compared with the exact one."""

    n_tokens: int
    top1_frac: float
    """Share of positions with the same most likely token."""
    kl_nats: float
    """Mean Kullback-Leibler divergence from the exact prediction, in nats/token."""


def is_own_gguf(path: Path) -> bool:
    """Whether a file is a GGUF file that was exported here."""
    return is_gguf(path) and MARK in read_gguf_header(path).metadata


@dataclass(frozen=True, kw_only=True)
class TokenizerKeys:
    """What a file says about the tokenizer, and sentences on what llama.cpp does otherwise."""

    keys: Mapping[str, Any]
    notes: tuple[str, ...]


def tokenizer_keys(language_model: LanguageModel | None, folder: Path) -> TokenizerKeys:
    """Describe the tokenizer in `folder` for llama.cpp; None: the file has no tokenizer.

    Raises:
        UserError: llama.cpp has no such tokenizer.
    """
    if language_model is None and folder.is_dir():
        raise UserError(
            "llama.cpp has no tokenizer of this kind: it cuts words or characters. A byte-level "
            "BPE tokenizer is expected.",
            where=folder,
        )
    if language_model is None:
        return TokenizerKeys(keys=_NONE, notes=("The file has no tokenizer.",))
    keys, notes = _tokenizer_keys(language_model, folder)
    return TokenizerKeys(keys=keys, notes=notes)


def export_gguf(
    model: GPT,
    path: Path,
    dtype: GGUFType,
    general: Mapping[str, Any],
    language_model: LanguageModel | None,
    tokenizer: TokenizerKeys,
) -> None:
    """Write the file, and compare the tokenizer in it with ours.

    Raises:
        UserError: llama.cpp does not compute the model, or the tokenizers differ.
    """
    keys = {**tokenizer.keys, **_MARKED}
    write_gguf(model, path, dtype=dtype, general=general, tokenizer=keys)
    if language_model is not None:
        _compare_tokenizers(language_model, path, tokenizer.notes)


_NONE = {"tokenizer.ggml.model": "none"}
_MARKED = {MARK: "groundup"}


def _tokenizer_keys(
    language_model: LanguageModel, folder: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The keys of the tokenizer; those of the file that the model was imported from, if unchanged.

    A source's own keys may state more than we read, so they are better than any of ours.
    """
    source = language_model.path / GGUF_FILE
    if source.is_file():
        metadata = read_gguf_header(source).metadata
        if tokenizer_of_gguf(metadata, source).fingerprint == language_model.tokenizer.fingerprint:
            return {k: v for k, v in metadata.items() if k.startswith("tokenizer.")}, ()
    n_rows = language_model.model.config.vocab_size
    found = gguf_tokenizer(language_model.tokenizer, read_json(folder / "tokenizer.json"), n_rows)
    keys = {**_special_keys(language_model), **found.keys}
    template = chat_template_of(folder, is_assistant=language_model.is_assistant)
    if template is not None:
        keys["tokenizer.chat_template"] = template
    return keys, found.notes


def _special_keys(language_model: LanguageModel) -> dict[str, int]:
    """The ids of the beginning and the ends of texts.

    Raises:
        UserError: No token ends a text.
    """
    ends = list(language_model.stop_ids)
    if not ends:
        raise UserError(
            "No token ends a text of this model. llama.cpp would take token 11 for it, so one is "
            "expected."
        )
    ids = exported_ids(language_model)
    begins = as_ids(ids.config.get("bos_token_id")) or language_model.start_ids or ends
    padding = as_ids({**ids.generation, **ids.config}.get("pad_token_id"))
    keys = dict(zip(("eos", "eot", "eom"), ends, strict=False))
    keys |= {"bos": begins[0]} | ({"padding": padding[0]} if padding else {})
    return {f"tokenizer.ggml.{name}_token_id": index for name, index in keys.items()}


def _compare_tokenizers(language_model: LanguageModel, path: Path, notes: tuple[str, ...]) -> None:
    """Compare the ids of a few texts.

    Raises:
        UserError: The tokenizer in the file gives other ids.
    """
    theirs = tokenizer_of_gguf(read_gguf_header(path).metadata, path)
    names = " ".join(language_model.tokenizer.special_tokens)
    for text in (*(plain_canaries() if notes else CANARIES), names):
        ours, found = (t.encode(text, "all") for t in (language_model.tokenizer, theirs))
        if ours != found:
            raise UserError(
                f"The tokenizer that was written gives other ids for {text!r}: {found[:20]} "
                f"instead of {ours[:20]}.",
                where=path,
            )


@torch.inference_mode()
def agreement(exact: GPT, rounded: GPT, language_model: LanguageModel | None) -> Agreement:
    """Compare the predictions of two models on texts, or on random tokens without a tokenizer."""
    n_most = min(exact.config.context_length, _T)
    if language_model is None:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randint(exact.n_used_ids, (4, n_most), generator=generator).tolist()
    else:
        texts = (*PROMPTS, *CANARIES)
        rows = [ids[:n_most] for ids in map(language_model.tokenizer.encode, texts) if ids]
    n_same, kl, n_tokens = 0, 0.0, 0
    for row in rows:
        ids = torch.tensor([row])
        ours, theirs = (F.log_softmax(m.eval()(ids)[0], dim=-1) for m in (exact, rounded))
        same, divergence = differences(ours, theirs)
        n_same += int(same)
        kl += float(divergence)
        n_tokens += len(row)
    return Agreement(n_tokens=n_tokens, top1_frac=n_same / n_tokens, kl_nats=kl / n_tokens)
