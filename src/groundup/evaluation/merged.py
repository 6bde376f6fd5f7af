"""Merge LoRA adapters into their base, measure what the rounding changes, and save both.

Merged and unmerged weights compute the same up to the order of sums in float32. That is not so when
the merged weights are rounded to bfloat16, so the difference on a real text is measured and
reported.
"""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from groundup.base.errors import UserError
from groundup.base.files import write_json
from groundup.model.gpt import GPT
from groundup.model.lora import lora_parameters, merge_lora
from groundup.weights.adapter import save_adapter
from groundup.weights.checkpoint_format import save_model

_log = logging.getLogger(__name__)

ADAPTER = "adapter"
"""The folder of the adapter, in the folder of the merged model."""
REPORT = "merge.json"
_LARGEST_DIFFERENCE = 1e-3
"""Of float32 logits; only the order of sums differs."""
_MOST_TOKENS = 512
"""Of one row: logits are as wide as the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """How a merged model compares with the model and its separate adapters, in float32."""

    max_logit_difference: float
    """Largest difference of two logits."""
    largest_logit: float
    """Largest absolute logit: float32 has seven digits, so it bounds what can be expected."""
    loss_nats: float
    """Mean loss of the model with separate adapters, in nats/token."""
    merged_loss_nats: float
    """Mean loss of the merged model, in nats/token."""
    n_tokens: int
    """Number of tokens that were compared."""
    dtype: str
    """The type that the merged weights were rounded to: float32 or bfloat16."""
    n_adapter_parameters: int
    base_sha256: str
    """The fingerprint of the base, as the caller computed it."""

    @property
    def loss_difference_nats(self) -> float:
        """By how much merging raised the loss."""
        return self.merged_loss_nats - self.loss_nats

    @property
    def sentence(self) -> str:
        """The comparison in a sentence."""
        rounded = "" if self.dtype == "float32" else f" and rounded to {self.dtype}"
        return (
            f"The adapters were merged in float32{rounded}. On "
            f"{self.n_tokens:,} tokens of real text, the logits differ by at most "
            f"{self.max_logit_difference:.2g} (the largest is {self.largest_logit:.0f}), and the "
            f"loss by {self.loss_difference_nats:+.2g} nats/token."
        )


def merge_and_save(
    model: GPT,
    folder: Path,
    *,
    base_name: str,
    base_sha256: str,
    check_ids: Sequence[Sequence[int]],
    dtype: torch.dtype = torch.float32,
) -> MergeReport:
    """Write the merged model and the adapters into a folder, and compare the two on a text.

    The folder gets model.json and model.safetensors, `adapter/` in the format of peft, and
    merge.json.

    Args:
        model: A model with adapters. It is unchanged afterwards.
        folder: An existing folder, which may hold other files too.
        base_name: The base model, for adapter_config.json: its run folder, or its hub name.
        base_sha256: A fingerprint of the base, for merge.json.
        check_ids: Token ids of real texts. The first 512 of each are compared.
        dtype: The type of the merged weights. Rounding to bfloat16 changes the outputs.

    Raises:
        UserError: The model has no adapters, no text has two tokens, or the folder cannot be
            written to.
    """
    with _in_float32(model):
        merged = merge_lora(model)
        merged.to(dtype)
        save_model(merged, folder)
        save_adapter(model, folder / ADAPTER, base_name=base_name)
        report = compare_merged(model, merged.float(), check_ids)
    report = dataclasses.replace(
        report, dtype=str(dtype).removeprefix("torch."), base_sha256=base_sha256
    )
    if dtype == torch.float32 and not report.max_logit_difference < _LARGEST_DIFFERENCE:
        _log.warning("%s At most %g is expected.", report.sentence, _LARGEST_DIFFERENCE)
    about: dict[str, Any] = dataclasses.asdict(report)
    write_json(folder / REPORT, {**about, "loss_difference_nats": report.loss_difference_nats})
    return report


@torch.no_grad()
def compare_merged(model: GPT, merged: GPT, check_ids: Sequence[Sequence[int]]) -> MergeReport:
    """Compare logits and losses of a model with adapters and of its merged copy.

    Both must have the same dtype.

    Raises:
        UserError: No text has two tokens.
    """
    most = min(_MOST_TOKENS, model.config.context_length)
    rows = [list(ids[: most + 1]) for ids in check_ids if len(ids) > 1]
    if not rows:
        raise UserError("There is no text to compare the models on. Two tokens are expected.")
    was_training = model.training
    model.eval(), merged.eval()
    largest, difference, losses, n_tokens = 0.0, 0.0, [0.0, 0.0], 0
    for row in rows:
        ids = torch.tensor([row], device=model.device)
        logits = [each(ids[:, :-1])[0].float() for each in (model, merged)]  # (T, V) each
        largest = max(largest, float(logits[0].abs().max()))
        difference = max(difference, float((logits[0] - logits[1]).abs().max()))
        n_tokens += len(row) - 1
        for i, each in enumerate(logits):
            losses[i] += float(F.cross_entropy(each, ids[0, 1:], reduction="sum"))
    model.train(was_training)
    return MergeReport(
        max_logit_difference=difference,
        largest_logit=largest,
        loss_nats=losses[0] / n_tokens,
        merged_loss_nats=losses[1] / n_tokens,
        n_tokens=n_tokens,
        dtype="float32",
        n_adapter_parameters=sum(p.numel() for p in lora_parameters(model).values()),
        base_sha256="",
    )


@contextmanager
def _in_float32(model: nn.Module) -> Iterator[None]:
    """Keep the weights in float32 inside the `with` block. No value changes."""
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    try:
        for parameter in model.parameters():
            parameter.data = parameter.data.float()
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(dtypes[name])
