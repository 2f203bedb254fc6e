import base64
from typing import Any, cast

import numpy as np
import pytest

from theseus_deploy.benchmark.accuracy import Answers, logits_of, loyalty
from theseus_deploy.benchmark.certainty import agreement_estimate
from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import Loyalty
from theseus_deploy.errors import ModelError
from theseus_deploy.progress import SILENT
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task

CLASSES = Task("single-label", ("no", "yes"), ("text",), "label")
MANY = Task("multi-label", ("a", "b"), ("text",), "labels")
TAGS = Task("tokens", ("O", "B-x", "I-x"), ("tokens",), "tags")


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


def test_many_labels_are_each_on_or_off() -> None:
    both, one = np.array([[50.0, 50.0]] * 4), np.array([[50.0, 50.0]] * 3 + [[50.0, -50.0]])
    found = loyalty(MANY, one, both)
    assert found is not None
    assert found.label == 0.75  # of inputs, all of whose labels are the same
    assert found.probability == pytest.approx(1 - 1 / 8)  # one of eight labels has moved all the way


def test_words_are_items() -> None:
    tags = np.eye(3)[[0, 1, 2, 0, 0]] * 80
    other = np.eye(3)[[0, 1, 2, 0, 1]] * 80
    found = loyalty(TAGS, other, tags)
    assert found is not None
    assert (found.label, found.probability) == pytest.approx((0.8, 0.8))


def test_words_that_were_cut_off_for_both_agree_on_nothing() -> None:
    seen, cut = np.eye(3)[[0, 1, 2, 0, 0]] * 80, np.zeros((95, 3))
    other = np.eye(3)[[0, 1, 2, 0, 1]] * 80
    found = loyalty(TAGS, np.concatenate([other, cut]), np.concatenate([seen, cut]))
    assert found is not None
    assert (found.label, found.probability) == pytest.approx((0.8, 0.8))
    ours, theirs = (Answers(TAGS, [[0] * 10] * 10, np.concatenate([logits, cut])) for logits in (other, seen))
    assert agreement_estimate(ours, theirs, seed=1).value == 0.8
    assert loyalty(TAGS, cut, cut) == Loyalty(1.0, 1.0)


def test_what_is_counted_of_words_is_added_up_for_each_input() -> None:
    answers = Answers(TAGS, [[0, 1], [], [2, 2, 0]], np.eye(3)[[0, 1, 2, 2, 0]])
    assert answers.per_input(np.array([True, False, True, True, True])).tolist() == [1, 0, 3]
    assert answers.truth.tolist() == answers.decisions.tolist() == [0, 1, 2, 2, 0]


class Scribe:
    """Answers as a worker does: one item an input, or one a word, whose logit is its length."""

    name = "scribe"

    def __init__(self, words: bool, broken: bool = False) -> None:
        self.words, self.broken = words, broken

    def ask(self, command: str, batches: list[list[tuple[str, ...]]]) -> dict[str, Any]:
        assert command == "score"
        rows = [list(row) if self.words else row[:1] for batch in batches for row in batch]
        logits = np.array([len(item) for row in rows for item in row], dtype="<f4")
        logits[: self.broken] = np.nan
        return {
            "items": [len(row) for row in rows],
            "columns": 1,
            "logits": base64.b64encode(logits.tobytes()).decode(),
        }


@pytest.mark.parametrize("words", [False, True])
def test_logits_come_back_in_the_order_of_the_rows(words: bool) -> None:
    draw = np.random.default_rng(1)
    texts = [tuple("x" * int(size) for size in draw.integers(1, 30, size=draw.integers(1, 6))) for _ in range(1200)]
    texts[7] = () if words else ("",)
    split = Split("test", texts, [""] * len(texts), words)
    logits = logits_of(cast(Worker, Scribe(words)), split, SILENT)
    assert logits[:, 0].tolist() == [len(item) for row in texts for item in (row if words else row[:1])]


def test_a_logit_that_is_no_number_is_refused() -> None:
    split = Split("test", [("a",), ("bb",)], ["", ""])
    with pytest.raises(ModelError, match="scribe answers 1 of 2 with a logit that is no finite number; train it again"):
        logits_of(cast(Worker, Scribe(words=False, broken=True)), split, SILENT)
