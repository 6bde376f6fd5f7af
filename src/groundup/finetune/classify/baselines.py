"""Two baselines for a classifier: the majority class, and a bag of words.

The bag of words is scikit-learn's logistic regression on tf-idf weights of words and word pairs.
It is strong on short texts about different topics. A fine-tuned model that does not beat it does
not justify its cost.
"""

from collections import Counter
from collections.abc import Sequence

from groundup.finetune.classify.labels import LabeledText, LabelSplit


def majority_predictions(split: LabelSplit) -> list[str]:
    """Predict the most frequent class of the training set for every test example.

    >>> rows = [LabeledText("x", "ham"), LabeledText("y", "ham"), LabeledText("z", "spam")]
    >>> majority_predictions(LabelSplit(rows, rows[1:], ("ham", "spam"), "doctest"))
    ['ham', 'ham']
    """
    counts = Counter(example.label for example in split.train)
    # Ties are broken by name, so that the result does not depend on the order of the file.
    majority = min(counts, key=lambda label: (-counts[label], label))
    return [majority] * len(split.test)


def bag_of_words_predictions(split: LabelSplit) -> list[str]:
    """Fit logistic regression on tf-idf features of the training set and predict the test set."""
    # Deferred: importing scikit-learn takes a second, and only this function needs it.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    # The default token pattern drops words of one letter, which are informative in code.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))
    model.fit([e.text for e in split.train], [e.label for e in split.train])
    return [str(label) for label in model.predict([e.text for e in split.test])]


def n_correct(predictions: Sequence[str], examples: Sequence[LabeledText]) -> int:
    """Count the correct predictions."""
    return sum(p == e.label for p, e in zip(predictions, examples, strict=True))
