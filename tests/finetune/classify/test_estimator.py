"""The estimator of scikit-learn, by its own checks and in its own tools."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import groundup
from groundup.base.errors import UserError
from groundup.finetune.classify.classifier import load_classifier
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.estimator import TextClassifier

TEXTS = [f"the {animal} sat {i} times" for i in range(12) for animal in ("cat", "dog")]
LABELS = ["cat", "dog"] * 12


@pytest.fixture
def estimator(run: Path) -> TextClassifier:
    return groundup.TextClassifier(run, threads=1)


def test_the_checks_of_scikit_learn(estimator: TextClassifier) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says which checks need arrays of numbers
        check_estimator(estimator)
    assert is_classifier(estimator)


def test_it_learns_and_gives_probabilities_in_the_order_of_the_classes(
    estimator: TextClassifier,
) -> None:
    assert estimator.fit(TEXTS, LABELS) is estimator
    assert estimator.classes_.tolist() == ["cat", "dog"]
    shares = estimator.predict_proba(TEXTS)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (estimator.classes_[shares.argmax(axis=1)] == estimator.predict(TEXTS)).all()
    assert estimator.score(TEXTS, LABELS) > 0.8
    again = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(again.predict_proba(TEXTS), shares)
    assert np.array_equal(clone(estimator).fit(TEXTS, LABELS).predict_proba(TEXTS), shares)


def test_labels_of_any_type_and_weights(estimator: TextClassifier) -> None:
    targets = [k % 3 == 0 for k in range(24)]
    assert estimator.fit(TEXTS, targets).predict(TEXTS).dtype == np.bool_
    plain = estimator.predict_proba(TEXTS)[:, 1].mean()
    estimator.set_params(class_weight="balanced")
    assert estimator.fit(TEXTS, targets).predict_proba(TEXTS)[:, 1].mean() > plain
    assert estimator.fit(TEXTS, [7, 9, 11] * 8).classes_.tolist() == [7, 9, 11]


def test_it_works_in_a_pipeline_and_a_grid_search(estimator: TextClassifier) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, estimator)
    assert len(cross_val_score(pipeline, TEXTS, LABELS, cv=3)) == 3
    search = GridSearchCV(estimator, {"C": [0.01, 1.0]}, cv=3, scoring="neg_log_loss")
    assert search.fit(TEXTS, LABELS).best_params_["C"] in (0.01, 1.0)
    assert search.predict(TEXTS[:2]).shape == (2,)


def test_arrays_and_columns_of_texts(estimator: TextClassifier) -> None:
    expected = estimator.fit(TEXTS, LABELS).predict_proba(TEXTS)
    for texts in (np.array(TEXTS), np.array(TEXTS, dtype=object)[:, None], tuple(TEXTS)):
        assert np.array_equal(estimator.fit(texts, np.array(LABELS)).predict_proba(texts), expected)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], [0, 1], "Text 1 is of type list"),
        (np.ones((4, 3)), [0, 1, 0, 1], r"X has the shape \(4, 3\)"),
        (np.ones(4), [0, 1, 0, 1], "Text 1 is of type float"),
        ("one text", [0], "single string"),
        ([], [], "no texts"),
        (["a", ""], [0, 1], "Text 2 is empty"),
        (["a", None], [0, 1], "Text 2 is of type NoneType"),
        (["a", "b"], [0, 0], "one class"),
        (["a", "b", "a"], [0, 1], "3 texts and 2 labels"),
        (["a", "b"], None, "requires y to be passed"),
        (["a", "b"], [0.5, 1.7], "Unknown label type"),
    ],
)
def test_other_input_is_refused(X: object, y: object, message: str, run: Path) -> None:
    with pytest.raises(ValueError, match=message):
        groundup.TextClassifier(run, threads=1).fit(X, y)


def test_not_fitted_and_wrong_parameters(estimator: TextClassifier) -> None:
    with pytest.raises(NotFittedError):
        estimator.predict(TEXTS)
    with pytest.raises(UserError, match="class_weight"):
        estimator.set_params(class_weight="even").fit(TEXTS, LABELS)
    with pytest.raises(UserError, match="max_tokens is 0"):
        estimator.set_params(max_tokens=0).fit(TEXTS, LABELS)


def test_it_is_the_frozen_recipe_of_the_command(run: Path) -> None:
    file = run.parent / "animals.tsv"
    file.write_text(
        "label\ttext\n" + "".join(f"{y}\t{x}\n" for x, y in zip(TEXTS, LABELS, strict=True))
    )
    test = run.parent / "test.tsv"
    test.write_text("label\ttext\ncat\tthe cat sat on the mat\ndog\tthe dog sat on the log\n")
    classify(ClassifyConfig(run=run, labels=file, test=test, validation_frac=0.0, threads=1))
    loaded = load_classifier(run)
    estimator = groundup.TextClassifier(run, threads=1).fit(TEXTS, LABELS)
    some = ["the cat", "on the log"]
    np.testing.assert_allclose(
        estimator.predict_proba(some), loaded.probabilities(some).numpy(), atol=1e-9
    )
