"""What every recipe of a classifier works on: the texts as token ids, and the hidden states."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from groundup.base.run import RunFolder
from groundup.evaluation.load import LanguageModel
from groundup.finetune.classify.classifier import encode_texts
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.examples import Examples
from groundup.finetune.classify.features import cache_file, hidden_features
from groundup.finetune.classify.fixed_shapes import OnTokens
from groundup.finetune.job import base_fingerprint

SMALL_MODEL = 20_000_000
"""With fewer parameters, float32 is as fast as bfloat16, and auto takes it."""


@dataclass(frozen=True, kw_only=True)
class Materials:
    """The model, the texts and their token ids."""

    foundation: LanguageModel
    examples: Examples
    ids: dict[int, list[int]]
    """Token ids of each text that is used, cut to `max_tokens`."""
    n_cut: int
    """Number of texts that were cut."""
    max_tokens: int
    dtype: torch.dtype
    fingerprint: str
    features: Path
    """Folder in the run of the model for what is computed once."""

    def rows(self, numbers: Sequence[int]) -> list[list[int]]:
        """The token ids of some texts."""
        return [self.ids[number] for number in numbers]


def gather(
    config: ClassifyConfig, foundation: LanguageModel, examples: Examples, dtype: torch.dtype
) -> Materials:
    """Encode all texts that are in one of the sets."""
    assert config.run is not None
    max_tokens = min(config.max_tokens, foundation.model.config.context_length)
    split = examples.split
    numbers = [*split.train, *split.validation, *split.test]
    encoded = encode_texts(examples.texts_of(numbers), foundation.tokenizer)
    return Materials(
        foundation=foundation,
        examples=examples,
        ids={number: ids[:max_tokens] for number, ids in zip(numbers, encoded, strict=True)},
        n_cut=sum(len(ids) > max_tokens for ids in encoded),
        max_tokens=max_tokens,
        dtype=dtype,
        fingerprint=base_fingerprint(foundation),
        features=RunFolder.of(config.run).path / "features",
    )


def feature_rows(
    materials: Materials, on_tokens: OnTokens | None
) -> dict[int, Float[np.ndarray, " P"]]:
    """Compute the mean and last hidden state of each text, or read what is known."""
    numbers = list(materials.ids)
    file = cache_file(
        materials.features,
        materials.fingerprint,
        pooling="mean+last",
        max_tokens=materials.max_tokens,
        dtype=str(materials.dtype),
    )
    found = hidden_features(
        materials.foundation.model.eval(),
        materials.rows(numbers),
        pooling="mean+last",
        dtype=materials.dtype,
        file=file,
        on_tokens=on_tokens,
    )
    return dict(zip(numbers, found, strict=True))
