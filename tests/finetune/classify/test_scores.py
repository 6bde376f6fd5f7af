"""Scores beside scikit-learn's, temperatures, and comparisons that must be able to say no."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from groundup.evaluation.paired import Difference
from groundup.finetune.classify.calibration import apply_temperature, calibrate, losses
from groundup.finetune.classify.metrics import score
from groundup.finetune.classify.result import Comparison


def draw(n: int, n_classes: int, seed: int, sharpness: float = 2.0) -> tuple[np.ndarray, list[int]]:
    """Probabilities, and labels that follow them: they are calibrated."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(n, n_classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p, [int(rng.choice(n_classes, p=row)) for row in p]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_those_of_scikit_learn(n_classes: int) -> None:
    p, labels = draw(200, n_classes, seed=1)
    names = ["a", "b", "c"][:n_classes]
    found = score(p, labels, names, positive=1)
    assert found is not None
    predicted = p.argmax(axis=1)
    assert found.log_loss_nats == pytest.approx(metrics.log_loss(labels, p))
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(labels, predicted))
    expected = metrics.balanced_accuracy_score(labels, predicted)
    assert found.balanced_accuracy == pytest.approx(expected)
    expected = metrics.f1_score(labels, predicted, average=None)
    assert list(found.f1.values()) == pytest.approx(list(expected))
    if n_classes == 2:
        assert found.auc == pytest.approx(metrics.roc_auc_score(labels, p[:, 1]))
        expected = metrics.average_precision_score(labels, p[:, 1])
    else:
        assert found.auc == pytest.approx(metrics.roc_auc_score(labels, p, multi_class="ovr"))
        expected = metrics.average_precision_score(np.eye(3)[labels], p)
    assert found.average_precision == pytest.approx(expected)


def test_rows_of_one_class_have_no_curve() -> None:
    found = score(np.array([[0.9, 0.1]] * 4), [0] * 4, ["a", "b"], positive=1)
    assert found is not None
    assert found.auc is None
    assert score(np.empty((0, 2)), [], ["a", "b"], positive=1) is None


def test_a_probability_of_zero_has_a_finite_loss() -> None:
    assert np.isfinite(losses(np.array([[1.0, 0.0]]), [1])).all()


@given(seed=st.integers(0, 50), temperature=st.floats(0.3, 4.0))
def test_a_temperature_keeps_the_order_of_the_classes(seed: int, temperature: float) -> None:
    p, _ = draw(30, 3, seed)
    scaled = apply_temperature(p, temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1.0)
    assert np.array_equal(scaled.argmax(axis=1), p.argmax(axis=1))


def test_overconfident_probabilities_are_softened_and_calibrated_ones_are_left() -> None:
    p, labels = draw(600, 2, seed=3)
    found = calibrate(apply_temperature(p, 0.4), labels)
    assert found.temperature == pytest.approx(2.5, rel=0.25)
    assert "is applied" in found.sentence
    kept = calibrate(p, labels)
    assert kept.temperature == 1.0
    assert "not needed" in kept.sentence


def test_few_rows_or_rows_that_are_all_right_make_no_certainty() -> None:
    p, labels = draw(29, 2, seed=3)
    assert calibrate(p, labels).temperature == 1.0
    right = np.array([[0.97, 0.03]] * 40)
    assert calibrate(right, [0] * 40).temperature == 1.0
    shy, labels = draw(600, 2, seed=3)
    assert calibrate(apply_temperature(shy, 2.0), labels).temperature < 0.7, "with many errors"


def comparison(mean: float, low: float, high: float, n: int = 300) -> Comparison:
    loss = Difference(mean=mean, low=low, high=high, n=n)
    return Comparison(
        model="LoRA model", other="frozen model", log_loss_nats=loss, accuracy=loss,
        no_near_log_loss_nats=None,
    )  # fmt: skip


def test_the_sentence_names_the_better_model_only_where_it_is_clear() -> None:
    assert "LoRA model is better than the frozen" in comparison(-0.1, -0.2, -0.05).sentence
    assert "frozen model is better than the LoRA" in comparison(0.1, 0.05, 0.2).sentence
    assert "are not clearly different" in comparison(-0.1, -0.2, 0.05).sentence
    assert "too few to compare" in comparison(-0.1, -0.2, -0.05, n=29).sentence
