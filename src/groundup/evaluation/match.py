"""Compare a model with another form of it, with numbers: is the conversion right?

Compared are the weights, the logits, the ids of texts, the chat template and the ends of texts.
Two more checks concern the model alone: generation gives the same tokens with and without stored
keys and values, and alone or in a batch.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from groundup.base.calling import takes_settings
from groundup.base.errors import UserError
from groundup.base.folder_kinds import find_run
from groundup.base.gguf import is_gguf, read_gguf_header
from groundup.base.run import RunFolder
from groundup.base.sequences import n_common
from groundup.evaluation.canary import CANARIES, PROMPTS
from groundup.evaluation.export_tokenizer import chat_template_of
from groundup.evaluation.load import LanguageModel, load, refuse_classifier, run_of
from groundup.evaluation.match_generation import compare_generation
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.chat_template import ChatTemplate, read_chat_template
from groundup.tokenizer.conversation import turn_end
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.gguf import tokenizer_of_gguf
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special_names import read_special_names
from groundup.weights.checkpoint_format import model_folders, open_model
from groundup.weights.config import MatchConfig
from groundup.weights.find_source import find_source, open_source
from groundup.weights.pretrained import Pretrained
from groundup.weights.sources import build_model

_WITHOUT_EFFECT = {"dropout", "init", "qk_gain", "look_back", "d_head", "d_ff", "n_kv_heads"}
"""Settings that do not change what a trained model computes, or are compared as their values."""
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "encoder.json", "ladder.json")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One equality."""

    name: str
    is_equal: bool | None
    """None: it was not checked."""
    found: str
    """What was compared, with numbers."""


@dataclass(frozen=True, kw_only=True)
class MatchResult:
    """The equalities that were checked."""

    run: Path
    against: Path
    checks: tuple[Check, ...]

    @property
    def findings(self) -> tuple[Check, ...]:
        """The checks that found a difference."""
        return tuple(check for check in self.checks if check.is_equal is False)


@dataclass(frozen=True, kw_only=True)
class _Side:
    """A model, and what belongs to it."""

    path: Path
    config: GPTConfig
    weights: Mapping[str, Callable[[], Tensor]]
    model: Callable[[], GPT]
    tokenizer: Tokenizer | None
    template: str | None
    ends: tuple[int, ...]


@takes_settings(MatchConfig, "run")
def match(config: MatchConfig) -> MatchResult:
    """Compare a run with a Hugging Face folder, a GGUF file, a nanoGPT checkpoint or another run.

    Raises:
        UserError: One of the two cannot be opened.
    """
    path = find_run(config.run)
    against = _source_of(path) if config.against is None else config.against
    ours, theirs = _side_of_run(path), _open(against)
    model = ours.model().eval()
    prompts = _prompts(ours, model)
    checks = (
        _compare_settings(ours.config, theirs.config),
        _compare_weights(ours, theirs),
        _compare_logits(model, theirs, prompts, config.tolerance),
        _compare_ids(ours.tokenizer, theirs.tokenizer),
        _compare_templates(ours.template, theirs.template),
        _compare_ends(ours, theirs),
        *(
            Check(name=name, is_equal=is_equal, found=found)
            for name, is_equal, found in compare_generation(model, prompts, config.tolerance)
        ),
    )
    return MatchResult(run=path, against=theirs.path, checks=checks)


def _source_of(path: Path) -> Path:
    stated = RunFolder.of(path).read_manifest().get("source_path")
    if not isinstance(stated, str):
        raise UserError(
            "This run does not state a source that it was imported from. The folder or file to "
            "compare with is expected.",
            where=path,
            settings={"against": str(RunFolder.of(path).huggingface)},
        )
    return Path(stated)


def _open(path: Path) -> _Side:
    """Open the other side, which may be a run of ours or a file of another project."""
    if path.is_dir() and not (path / "config.json").is_file():
        return _side_of_run(path)
    source = find_source(path)
    pretrained = open_source(source)
    folder = source if source.is_dir() else source.parent
    tokenizer: Tokenizer | None = None
    template: ChatTemplate | None = None
    if is_gguf(source):
        metadata = read_gguf_header(source).metadata
        tokenizer = tokenizer_of_gguf(metadata, source)
        found = metadata.get("tokenizer.chat_template")
        template = ChatTemplate(found, {}, source) if isinstance(found, str) else None
    elif any((folder / name).is_file() for name in _TOKENIZER_FILES):
        tokenizer, template = load_tokenizer(folder), read_chat_template(folder)
    return _Side(
        path=source,
        config=pretrained.config,
        weights=pretrained.tensors,
        model=lambda: build_model(pretrained),
        tokenizer=tokenizer,
        template=None if template is None else template.source,
        ends=_ends(pretrained, tokenizer, template, source),
    )


def _side_of_run(path: Path) -> _Side:
    run = run_of(path, model_folders(path)[0])
    refuse_classifier(run)
    language_model = load(path) if run.tokenizer.is_dir() else None
    model = open_model(path)[1] if language_model is None else language_model.model
    is_assistant = language_model is not None and language_model.is_assistant
    return _Side(
        path=path,
        config=model.config,
        weights={n: (lambda p=p: p.detach()) for n, p in model.named_parameters()},  # type: ignore[misc]
        model=lambda: model,
        tokenizer=None if language_model is None else language_model.tokenizer,
        template=chat_template_of(run.tokenizer, is_assistant=is_assistant),
        ends=() if language_model is None else language_model.stop_ids,
    )


def _ends(
    pretrained: Pretrained,
    tokenizer: Tokenizer | None,
    template: ChatTemplate | None,
    source: Path,
) -> tuple[int, ...]:
    """The ids at which our generation would end a text."""
    ids = pretrained.special_ids
    if tokenizer is None:
        return ids.eos
    names = read_special_names(source) if source.is_dir() else {}
    ends = [tokenizer.special_tokens.get(names.get("eos_token", ""))]
    if template is not None:
        with suppress(UserError):  # a template that refuses a plain conversation
            ends.append(turn_end(tokenizer, template))
    return LanguageModel(
        model=GPT(pretrained.config, initialize=False),
        tokenizer=tokenizer,
        path=Path(),
        special_ids=ids,
        tokenizer_ends=tuple(dict.fromkeys(index for index in ends if index is not None)),
    ).stop_ids


def _prompts(ours: _Side, model: GPT) -> list[list[int]]:
    """Ids of texts, or random ids without a tokenizer; half of the context is left."""
    n_most = max(1, ours.config.context_length // 2)
    if ours.tokenizer is None:
        generator = torch.Generator().manual_seed(0)
        rows = [torch.randint(model.n_used_ids, (n,), generator=generator) for n in (1, 5, 17)]
        return [row.tolist()[:n_most] for row in rows]
    encoded = (ours.tokenizer.encode(text)[:n_most] for text in PROMPTS)
    return [ids for ids in encoded if ids] or [[0]]


def _compare_settings(ours: GPTConfig, theirs: GPTConfig) -> Check:
    names = sorted(vars(ours).keys() - _WITHOUT_EFFECT)
    names += ["head_width", "ff_width", "kv_heads"]
    different = [name for name in names if getattr(ours, name) != getattr(theirs, name)]
    found = "; ".join(
        f"{name}: {getattr(ours, name)!r}, {getattr(theirs, name)!r}" for name in different
    )
    return Check(
        name="settings",
        is_equal=not different,
        found=found or f"{len(names)} settings of the architecture",
    )


def _compare_weights(ours: _Side, theirs: _Side) -> Check:
    shared = [name for name in ours.weights if name in theirs.weights]
    n_equal, largest, at = 0, 0.0, ""
    for name in shared:
        first, second = ours.weights[name]().float().cpu(), theirs.weights[name]().float().cpu()
        if first.shape == second.shape and torch.equal(first, second):
            n_equal += 1
            continue
        same_shape = first.shape == second.shape
        difference = (first - second).abs().max().item() if same_shape else float("inf")
        if not difference <= largest:
            largest, at = difference, name
    only = sorted(ours.weights.keys() ^ theirs.weights.keys())
    found = f"{n_equal} of {len(shared)} tensors are equal bit by bit"
    if at:
        found += f"; the largest difference is {largest:.3g}, in {at}"
    if only:
        found += f"; {len(only)} are on one side only, first {only[0]}"
    return Check(name="weights", is_equal=n_equal == len(shared) and not only, found=found)


@torch.inference_mode()
def _compare_logits(model: GPT, theirs: _Side, prompts: list[list[int]], tolerance: float) -> Check:
    if theirs.config.vocab_size != model.config.vocab_size:
        found = (
            f"{model.config.vocab_size:,} and {theirs.config.vocab_size:,} rows of the embedding"
        )
        return Check(name="logits", is_equal=False, found=found)
    other, largest, n_tokens = theirs.model().eval(), 0.0, 0
    limit = theirs.config.context_length
    for prompt in prompts:
        ids = torch.tensor([prompt[:limit]])
        difference = (model(ids) - other(ids)).abs().max().item()
        largest = difference if not difference <= largest else largest
        n_tokens += ids.numel()
    return Check(
        name="logits",
        is_equal=largest <= tolerance,
        found=f"the largest difference is {largest:.2g}, on {n_tokens} tokens",
    )


def _compare_ids(ours: Tokenizer | None, theirs: Tokenizer | None) -> Check:
    if ours is None or theirs is None:
        return _absent("ids", ours, theirs, "tokenizer")
    texts = (*CANARIES, " ".join(ours.special_tokens))
    n_ids = 0
    for text in texts:
        first = ours.encode(text, "all")
        second = theirs.encode(text, set(ours.special_tokens) & set(theirs.special_tokens))
        if first != second:
            at = n_common(first, second)
            found = f"{text!r}: {first[at : at + 5]} and {second[at : at + 5]} from id {at} on"
            return Check(name="ids", is_equal=False, found=found)
        n_ids += len(first)
    return Check(name="ids", is_equal=True, found=f"{n_ids} ids of {len(texts)} texts")


def _compare_templates(ours: str | None, theirs: str | None) -> Check:
    if ours is None or theirs is None:
        return _absent("chat template", ours, theirs, "chat template")
    found = f"{len(ours):,} characters" + ("" if ours == theirs else f" and {len(theirs):,}")
    return Check(name="chat template", is_equal=ours == theirs, found=found)


def _compare_ends(ours: _Side, theirs: _Side) -> Check:
    first, second = sorted(set(ours.ends)), sorted(set(theirs.ends))
    if not first or not second:
        return _absent("ends", first or None, second or None, "id that ends a text")
    found = f"{first}" + ("" if first == second else f" and {second}")
    return Check(name="ends", is_equal=first == second, found=found)


def _absent(name: str, ours: object, theirs: object, what: str) -> Check:
    """The result where one side has nothing to compare: equal if neither has."""
    if ours is None and theirs is None:
        return Check(name=name, is_equal=None, found=f"neither side has a {what}")
    side = "this run" if ours is None else "the other side"
    return Check(name=name, is_equal=None, found=f"{side} has no {what}")
