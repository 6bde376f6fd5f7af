"""The recipes and the baselines of a classifier, each with its probabilities on the test set."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from groundup.base.device import choose_dtype
from groundup.evaluation.load import LanguageModel
from groundup.finetune.classify.baselines import (
    CHARACTERS,
    MAJORITY,
    WORDS,
    TfidfClassifier,
    class_frequencies,
)
from groundup.finetune.classify.classifier import LoadedClassifier
from groundup.finetune.classify.comparison import Measured, measured
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.examples import Examples
from groundup.finetune.classify.fixed_shapes import OnTokens
from groundup.finetune.classify.frozen import fit_head, head_probabilities
from groundup.finetune.classify.heads import Classifier
from groundup.finetune.classify.materials import SMALL_MODEL, Materials, feature_rows
from groundup.finetune.classify.result import FROZEN, TUNED
from groundup.finetune.training import Trained


@dataclass(frozen=True)
class Frozen:
    """The frozen classifier, and its probabilities on the test set."""

    loaded: LoadedClassifier
    measured: Measured


def products_dtype(config: ClassifyConfig, foundation: LanguageModel) -> torch.dtype:
    """Choose the format of the products; small models are as fast, and more exact, in float32."""
    n_parameters = sum(parameter.numel() for parameter in foundation.model.parameters())
    if config.dtype == "auto" and n_parameters < SMALL_MODEL:
        return torch.float32
    return choose_dtype(config.dtype, foundation.model.device)


def frozen_model(
    config: ClassifyConfig, materials: Materials, on_tokens: OnTokens | None
) -> Frozen:
    """Fit logistic regression to the hidden states, and test it."""
    started_s, examples = time.process_time(), materials.examples
    features = feature_rows(materials, on_tokens)

    def of(numbers: list[int]) -> Float[np.ndarray, "N P"]:
        width = len(next(iter(features.values())))
        return np.stack([features[number] for number in numbers] or [np.empty((0, width))])

    split = examples.split
    head = fit_head(
        of(split.train),
        examples.targets_of(split.train),
        len(examples.names),
        C=config.logistic_c,
        balance=config.balance,
    )
    gpt = materials.foundation.model
    classifier = Classifier(
        gpt,
        examples.names,
        pooling="mean+last",
        max_tokens=materials.max_tokens,
        dtype=materials.dtype,
    )
    classifier.head = head.to(gpt.device)
    validation = head_probabilities(head, of(split.validation)) if split.validation else None
    test = head_probabilities(head, of(split.test))
    spent_s = time.process_time() - started_s
    return Frozen(
        LoadedClassifier(classifier, materials.foundation.tokenizer),
        measured(FROZEN, validation, test, examples, spent_s),
    )


def baselines(config: ClassifyConfig, examples: Examples) -> list[Measured]:
    """Fit and test the class frequencies, word TF-IDF and character TF-IDF."""
    split = examples.split
    targets, K = examples.targets_of(split.train), len(examples.names)
    majority = class_frequencies(targets, K, len(split.test))
    found = [Measured(name=MAJORITY, test=majority, cpu_s=0.0)]
    for kind in (WORDS, CHARACTERS):
        started_s = time.process_time()
        model = TfidfClassifier(kind, config.balance).fit(examples.texts_of(split.train), targets)
        texts = examples.texts_of(split.validation)
        validation = model.probabilities(texts) if texts else None
        test = model.probabilities(examples.texts_of(split.test))
        spent_s = time.process_time() - started_s
        found.append(measured(kind, validation, test, examples, spent_s))
    return found


def tested(
    config: ClassifyConfig, loaded: LoadedClassifier, materials: Materials, trained: Trained
) -> Measured:
    """Test a tuned classifier."""
    started_s, split = time.process_time(), materials.examples.split
    rows = materials.rows(split.validation)
    validation = loaded.of_rows(rows).numpy() if rows else None
    test = loaded.of_rows(materials.rows(split.test)).numpy()
    spent_s = trained.elapsed_s + time.process_time() - started_s
    return measured(TUNED[config.method], validation, test, materials.examples, spent_s)
