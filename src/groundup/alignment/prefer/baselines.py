"""What preference accuracy is worth: models of a pair that read no more than its two answers.

Each gives a score per pair, above 0 where it takes the chosen answer for the better one. A score of
0 is a tie, and counts as wrong, as in the reward accuracy of trl.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

Answers = tuple[str, str]
"""The chosen and the rejected answer of a pair."""

LONGER, WORDS, CHARACTERS = "longer answer", "word TF-IDF", "character TF-IDF"


def baseline_scores(
    train: Sequence[Answers], test: Sequence[Answers]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Score the test pairs with each baseline.

    The baselines are the longer answer, and a logistic regression on the difference of the TF-IDF
    features of both answers, of words and of characters.

    Args:
        train: The training pairs.
        test: The test pairs.
    """
    lengths = [(len(chosen), len(rejected)) for chosen, rejected in test]
    return {
        LONGER: np.array([float(a - b) for a, b in lengths]),
        WORDS: tfidf_scores(train, test, analyzer="word"),
        CHARACTERS: tfidf_scores(train, test, analyzer="char", ngram_range=(2, 5), C=10.0),
    }


def tfidf_scores(
    train: Sequence[Answers], test: Sequence[Answers], *, C: float = 1.0, **features: Any
) -> Float[np.ndarray, " n"]:
    """Fit a TF-IDF pair model on the training pairs and score the test pairs.

    The model has no intercept, and every training pair is used in both orders, so that swapping the
    answers changes the sign of the score.

    Args:
        train: The training pairs.
        test: The test pairs.
        C: Inverse strength of the regularization.
        features: Settings of scikit-learn's `TfidfVectorizer`.
    """
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    try:
        vectorizer = TfidfVectorizer(**features).fit([text for pair in train for text in pair])
    except ValueError:  # no answer has a word: "empty vocabulary"
        return np.zeros(len(test))

    def differences(pairs: Sequence[Answers]) -> Any:
        chosen, rejected = (vectorizer.transform(side) for side in zip(*pairs, strict=True))
        return chosen - rejected

    d = differences(train)
    model = LogisticRegression(C=C, fit_intercept=False, max_iter=1000)
    model.fit(vstack([d, -d]), np.repeat([1, 0], len(train)))
    scores: Float[np.ndarray, " n"] = model.decision_function(differences(test))
    return scores
