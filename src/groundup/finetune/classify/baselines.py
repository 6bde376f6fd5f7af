"""The baselines of a classifier, on the same rows: the class frequencies, and two bags of n-grams.

Logistic regression on the tf-idf weights of character n-grams is hard to beat on short texts. A
fine-tuned model that does not beat it does not justify its cost.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from groundup.finetune.classify.config import Balance

MAJORITY, WORDS, CHARACTERS = "majority class", "word TF-IDF", "character TF-IDF"
_N_ITERATIONS = 1000
_C = {WORDS: 10.0, CHARACTERS: 100.0}


def class_frequencies(
    labels: Sequence[int], n_classes: int, n_texts: int
) -> Float[np.ndarray, "N K"]:
    """Give every text the frequencies of the classes in the training set.

    >>> class_frequencies([0, 0, 0, 1], 2, n_texts=1).tolist()
    [[0.75, 0.25]]
    """
    counts = np.bincount(np.asarray(labels), minlength=n_classes)
    return np.tile(counts / counts.sum(), (n_texts, 1))


class TfidfClassifier:
    """Logistic regression on the tf-idf weights of words and word pairs, or of characters.

    Args:
        kind: `WORDS`: words and pairs of neighbors. `CHARACTERS`: 2 to 5 characters of a word and
            the spaces around it, if they occur in two texts.
        balance: "weighted": every class has the same total weight.
    """

    def __init__(self, kind: str, balance: Balance = "none") -> None:
        # Deferred: importing scikit-learn takes a second.
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        if kind == WORDS:
            # The default token pattern drops words of one letter, which are informative in code.
            self._grams = TfidfVectorizer(
                ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]"
            )
        else:
            self._grams = TfidfVectorizer(
                analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2
            )
        self._model = LogisticRegression(
            C=_C[kind],
            max_iter=_N_ITERATIONS,
            class_weight="balanced" if balance == "weighted" else None,
        )

    def fit(self, texts: Sequence[str], labels: Sequence[int]) -> "TfidfClassifier":
        """Fit to training texts."""
        try:
            weights = self._grams.fit_transform(texts)
        except ValueError:  # no n-gram occurs twice
            weights = self._grams.set_params(min_df=1).fit_transform(texts)
        self._model.fit(weights, np.asarray(labels))
        return self

    def probabilities(self, texts: Sequence[str]) -> Float[np.ndarray, "N K"]:
        """Compute the probability of each class for each text."""
        found: Float[np.ndarray, "N K"] = self._model.predict_proba(self._grams.transform(texts))
        return found
