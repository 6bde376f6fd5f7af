"""Explain a run: the attention on one sentence, the most likely next tokens, and the report."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from groundup.base.calling import takes_settings
from groundup.base.errors import UsageError, UserError
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.load import load
from groundup.evaluation.run_data import data_of
from groundup.inspection.capture import capture
from groundup.inspection.config import ExplainConfig
from groundup.inspection.report import LONGEST_SENTENCE, write_report
from groundup.model.gpt import GPT
from groundup.text.sample_line import validation_line
from groundup.tokenizer.show import visible

_N_NEXT = 5
_DEFAULT_TEXT = "The quick brown fox jumps over the lazy dog"


@dataclass(frozen=True, kw_only=True)
class ExplainResult:
    """The attention of one head on one sentence, and where the report is."""

    report: Path | None
    """None: it could not be written."""
    tokens: list[str]
    """The tokens whose attention is shown: at most the first 24."""
    n_tokens: int
    """Number of tokens of the sentence."""
    most_attended: list[str]
    """For each token, the token with the largest attention weight."""
    layer: int
    head: int
    attention: list[list[float]]
    """The attention weights of the head: row t holds the weights of position t."""
    next_tokens: list[tuple[str, float]]
    """The most likely tokens after the complete sentence, with their probabilities. The model reads
    the last tokens of it that fit in the context."""


@takes_settings(ExplainConfig, "run")
def explain(config: ExplainConfig) -> ExplainResult:
    """Capture the attention on one sentence and write RUN/report.html.

    Raises:
        UserError: There is no model, or no such layer or head.
    """
    path = find_run(config.run)
    run = RunFolder.of(path).outer
    language_model = load(path)
    tokenizer, model = language_model.tokenizer, language_model.model
    text = config.text or _validation_line(run)
    all_ids = tokenizer.encode(text)
    ids = all_ids[: min(LONGEST_SENTENCE, model.config.context_length)]
    seen = capture(model, ids)
    n_layers, n_heads = seen.attention.shape[:2]
    if not (-n_layers <= config.layer < n_layers and 0 <= config.head < n_heads):
        raise UsageError(
            f"There is no layer {config.layer} with a head {config.head}. The model has "
            f"{n_layers} layers of {n_heads} heads, counted from 0.",
            settings={"layer": 0, "head": 0},
        )
    weights = seen.attention[config.layer, config.head]
    tokens = [visible(tokenizer.decode([index])) for index in ids]
    probabilities = _next_probabilities(model, all_ids[-model.config.context_length :])
    best = probabilities.topk(min(_N_NEXT, len(probabilities)))
    report = write_report(run.path, text=text)
    return ExplainResult(
        report=report,
        tokens=tokens,
        n_tokens=len(all_ids),
        most_attended=[tokens[int(row.argmax())] for row in weights],
        layer=config.layer % n_layers,
        head=config.head,
        attention=weights.tolist(),
        next_tokens=[
            (visible(tokenizer.decode([index])), probability)
            for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ],
    )


@torch.no_grad()
def _next_probabilities(model: GPT, ids: list[int]) -> Tensor:
    """Compute the probability of each id (V) after the last one."""
    hidden = model.hidden(torch.tensor([ids], device=model.device))[:, -1:]
    return model.logits(hidden)[0, 0, : model.n_used_ids].float().softmax(dim=-1).cpu()


def _validation_line(run: RunFolder) -> str:
    """Read the first longer line of the validation set, or use a fixed sentence."""
    try:
        return validation_line(data_of(run)) or _DEFAULT_TEXT
    except UserError:
        return _DEFAULT_TEXT
