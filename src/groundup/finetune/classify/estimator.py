"""The frozen classifier as an estimator of scikit-learn."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from groundup.base.device import choose_device, choose_dtype, set_threads
from groundup.base.errors import UserError
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.load import LanguageModel, load
from groundup.finetune.classify.classifier import encode_texts
from groundup.finetune.classify.features import cache_file, hidden_features
from groundup.finetune.classify.frozen import fit_head, head_probabilities
from groundup.finetune.classify.materials import SMALL_MODEL
from groundup.finetune.job import base_fingerprint


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression on the hidden states of a language model that is not trained.

    It takes lists of texts, and works in pipelines, grid searches and cross-validation. Hidden
    states are kept in the folder of the run, so that another fit on the same texts is fast. A
    pickled estimator holds the head, and needs the run folder where it was.

    Args:
        run: Run folder of the language model. None: the newest run in runs/.
        C: Inverse of the regularization strength.
        class_weight: "balanced": every class has the same total weight. None: every text has.
        max_tokens: Longer texts are truncated to this, and to the context length.
        dtype: Format of the matrix products: auto, fp32 or bf16.
        device: auto, cpu, cuda, cuda:N or mps.
        threads: Number of CPU threads. None: all cores that this process may use.
        cache: Keep hidden states in the folder of the run.
    """

    def __init__(
        self,
        run: str | Path | None = None,
        *,
        C: float = 0.1,
        class_weight: Literal["balanced"] | None = None,
        max_tokens: int = 512,
        dtype: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        cache: bool = True,
    ) -> None:
        self.run = run
        self.C = C
        self.class_weight = class_weight
        self.max_tokens = max_tokens
        self.dtype = dtype
        self.device = device
        self.threads = threads
        self.cache = cache

    def fit(self, X: Any, y: Any) -> "TextClassifier":
        """Fit to texts and their labels.

        Raises:
            UserError: The texts are no strings or empty, or there are fewer than two classes.
        """
        if y is None:
            raise UserError("This classifier requires y to be passed, but the target y is None.")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}. At least 1 is expected.")
        texts, labels = check_texts(X), column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(texts) != len(labels):
            raise UserError(
                f"There are {len(texts)} texts and {len(labels)} labels. One label per text is "
                "expected."
            )
        if self.class_weight not in (None, "balanced"):
            raise UserError(
                f"class_weight is {self.class_weight!r}. None or 'balanced' is expected."
            )
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(
                f"All labels are {self.classes_[0]!r}: this is one class. At least two classes are "
                "expected."
            )
        self.run_ = str(find_run(None if self.run is None else Path(self.run)))
        self.head_ = fit_head(
            self._features(texts),
            targets.tolist(),
            len(self.classes_),
            C=self.C,
            balance="weighted" if self.class_weight == "balanced" else "none",
        )
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "N K"]:
        """Compute the probability of each class of `classes_` for each text."""
        check_is_fitted(self)
        return head_probabilities(self.head_, self._features(check_texts(X)))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most likely class of each text."""
        best = self.predict_proba(X).argmax(axis=1)
        found: NDArray[Any] = self.classes_[best]
        return found

    def _features(self, texts: Sequence[str]) -> Float[np.ndarray, "N P"]:
        set_threads(self.threads)
        foundation, fingerprint = _open(self.run_, self.device)
        gpt = foundation.model
        max_tokens = min(self.max_tokens, gpt.config.context_length)
        is_small = sum(parameter.numel() for parameter in gpt.parameters()) < SMALL_MODEL
        name = "fp32" if self.dtype == "auto" and is_small else self.dtype
        dtype = choose_dtype(name, gpt.device)
        file = cache_file(
            RunFolder.of(self.run_).path / "features",
            fingerprint,
            pooling="mean+last",
            max_tokens=max_tokens,
            dtype=str(dtype),
        )
        rows = [ids[:max_tokens] for ids in encode_texts(texts, foundation.tokenizer)]
        return hidden_features(
            gpt, rows, pooling="mean+last", dtype=dtype, file=file if self.cache else None
        )

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that the input is a list of texts."""
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags


def check_texts(X: Any) -> list[str]:
    """Convert a list, an array or a column of a data frame to a list of texts.

    Raises:
        UserError: It is something else, or a text is no string or empty.
    """
    if isinstance(X, str):
        raise UserError("X is a single string. A list of texts is expected.")
    if hasattr(X, "tocsr"):
        raise UserError("X is a sparse matrix. A list of texts is expected.")
    values = X.to_numpy() if hasattr(X, "to_numpy") else X
    values = np.asarray(values, dtype=object) if isinstance(values, np.ndarray) else values
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]  # one column of a data frame
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise UserError(
            f"X has the shape {values.shape}. A list of texts, or one column of them, is expected."
        )
    texts = list(values)
    if not texts:
        raise UserError("X has no texts. At least one is expected.")
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise UserError(
                f"Text {number} is of type {type(text).__name__}. A list of strings is expected."
            )
    return texts


@functools.lru_cache(maxsize=1)
def _open(run: str, device: str) -> tuple[LanguageModel, str]:
    """Load a model once for all clones of an estimator."""
    foundation = load(run)
    fingerprint = base_fingerprint(foundation)
    foundation.model.to(choose_device(device)).eval()
    foundation.model.requires_grad_(False)
    assert isinstance(foundation.model, torch.nn.Module)
    return foundation, fingerprint
