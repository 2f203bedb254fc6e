import numpy as np
import pytest

from theseus_deploy.benchmark.accuracy import loyalty
from theseus_deploy.tasks import Task

CLASSES = Task("single-label", ("no", "yes"), ("text",), "label")


def test_the_same_logits_are_perfectly_loyal() -> None:
    logits = np.random.default_rng(1).standard_normal((50, 2))
    found = loyalty(CLASSES, logits, logits)
    assert found is not None
    assert (found.label, found.probability) == (1.0, 1.0)


def test_loyalty_by_hand() -> None:
    certain, opposite = np.array([[50.0, -50.0]] * 4), np.array([[50.0, -50.0]] * 3 + [[-50.0, 50.0]])
    found = loyalty(CLASSES, opposite, certain)
    assert found is not None
    assert found.label == 0.75
    assert found.probability == pytest.approx(0.75)


def test_loyalty_in_between() -> None:
    half, certain = np.zeros((1, 2)), np.array([[60.0, -60.0]])
    found = loyalty(CLASSES, half, certain)
    assert found is not None
    divergence = 0.5 * (np.log2(1 / 0.75)) + 0.5 * (0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25))
    assert found.probability == pytest.approx(1 - np.sqrt(divergence))


def test_a_regression_has_nothing_to_be_loyal_to() -> None:
    task = Task("regression", (), ("text",), "score")
    assert loyalty(task, np.zeros((3, 1)), np.zeros((3, 1))) is None
