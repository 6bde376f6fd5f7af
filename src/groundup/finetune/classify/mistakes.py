"""The predictions on the test set, and the most confident errors with their nearest training text.

An error whose nearest training text has the predicted label shows why it was made; one whose
nearest text is equal and has another label shows that the labels disagree.
"""

import numpy as np
from jaxtyping import Float

from groundup.finetune.classify.examples import Examples
from groundup.finetune.classify.result import Mistake, Prediction
from groundup.text.near_duplicates import nearest

N_MISTAKES = 20


def predictions_of(examples: Examples, probabilities: Float[np.ndarray, "N K"]) -> list[Prediction]:
    """List the most likely class of each test text."""
    return [
        Prediction(
            examples.texts[row],
            examples.labels[row],
            examples.names[int(p.argmax())],
            float(p.max()),
        )
        for row, p in zip(examples.split.test, probabilities, strict=True)
    ]


def confident_mistakes(
    examples: Examples, predictions: list[Prediction], n: int = N_MISTAKES
) -> list[Mistake]:
    """Find the errors with the highest probabilities, the most confident first."""
    wrong = sorted((p for p in predictions if not p.is_correct), key=lambda p: -p.probability)[:n]
    train = examples.split.train
    if not wrong:
        return []
    found = nearest([p.text for p in wrong], examples.texts_of(train))
    return [
        Mistake(
            text=p.text,
            label=p.label,
            predicted=p.predicted,
            probability=p.probability,
            nearest_text=examples.texts[train[index]],
            nearest_label=examples.labels[train[index]],
            nearest_jaccard=jaccard,
        )
        for p, (index, jaccard) in zip(wrong, found, strict=True)
    ]
