"""What a classifier has to beat: always the commonest class, and a bag of words.

The bag of words is scikit-learn's logistic regression over tf-idf weights of words and word
pairs. On short texts with telling words it is hard to beat, which is the reason to show it: a
neural classifier that loses to it has not earned its electricity.
"""

from collections import Counter
from collections.abc import Sequence

from groundup.finetune.classify.labels import Labelled, LabelSplit


def majority_predictions(split: LabelSplit) -> list[str]:
    """The commonest class of the training examples, for every test example.

    >>> rows = [Labelled("x", "ham"), Labelled("y", "ham"), Labelled("z", "spam")]
    >>> majority_predictions(LabelSplit(rows, rows[1:], ("ham", "spam"), "doctest"))
    ['ham', 'ham']
    """
    counts = Counter(example.label for example in split.train)
    # By name among equals, so that the answer does not depend on the order of the file.
    commonest = min(counts, key=lambda label: (-counts[label], label))
    return [commonest] * len(split.test)


def bag_of_words_predictions(split: LabelSplit) -> list[str]:
    """Learn logistic regression over tf-idf on the training examples; predict the test examples."""
    # Imported here: scikit-learn takes a second to load, and only this function needs it.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    # The default token pattern drops words of one letter; in texts about code they tell a lot.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))
    model.fit([e.text for e in split.train], [e.label for e in split.train])
    return [str(label) for label in model.predict([e.text for e in split.test])]


def n_correct(predictions: Sequence[str], examples: Sequence[Labelled]) -> int:
    """How many predictions are right."""
    return sum(p == e.label for p, e in zip(predictions, examples, strict=True))
