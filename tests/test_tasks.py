"""A task is read off labels, knows their numbers, and scores as sklearn and a pencil do."""

import json
import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from theseus_deploy.errors import ConfigError, DataError
from theseus_deploy.tasks import KINDS, Task, softmax

MOODS = Task("single-label", ("bad", "fine", "good"), ("text",), "mood")
SIMILARITY = Task("regression", (), ("a", "b"), "score", 64)


def infer(*values: str) -> Task:
    return Task.infer(values, ("text",), "label", 128)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["no", "yes", "no"], ("no", "yes")),
        (["b", "a", "B"], ("B", "a", "b")),
        (["10", "9", "0", "9"], ("0", "9", "10")),
        (["1", "-1", "0"], ("-1", "0", "1")),
        (["1.0", "0.0"], ("0.0", "1.0")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["1", "01", "1.0", "0"], ("0", "01", "1", "1.0")),
        (["true", "false"], ("false", "true")),
        (["inf", "1"], ("1", "inf")),
        (["0.5", "none"], ("0.5", "none")),
    ],
)
def test_class_names_sort_as_words_or_as_numbers(values: list[str], labels: tuple[str, ...]) -> None:
    task = infer(*values)
    assert (task.kind, task.labels, task.outputs) == ("single-label", labels, len(labels))
    assert task.facts.problem_type == "single_label_classification"


@pytest.mark.parametrize("values", [["0.5", "1"], ["1", "2", "2.25"], ["-1e-3", "5"], ["0.5"]])
def test_fractions_make_a_regression(values: list[str]) -> None:
    task = infer(*values)
    assert (task.kind, task.labels, task.outputs) == ("regression", (), 1)
    assert task.facts.problem_type == "regression"


def test_a_single_class_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"classification with 1 label \(yes\); at least 2 .* check the label column 'label'"
    ):
        infer("yes", "yes")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="task kind 'regresion' is unknown; did you mean 'regression'"):
        Task("regresion", (), ("text",), "label")


def test_class_names_become_their_indices() -> None:
    assert MOODS.encode(["good", "bad", "fine"], "data") == [2, 0, 1]


def test_indices_stand_for_themselves_where_no_name_is_a_number() -> None:
    assert MOODS.encode(["2", "0", "1"], "data") == [2, 0, 1]
    assert MOODS.encode(["1", "1"], "data") == [1, 1]


def test_names_win_over_indices() -> None:
    task = Task("single-label", ("1", "2", "0"), ("text",), "label")
    assert task.encode(["0", "1", "2"], "data") == [2, 0, 1]
    shifted = Task("single-label", ("1", "2"), ("text",), "label")
    assert shifted.encode(["1", "1"], "data") == [0, 0]


@pytest.mark.parametrize("values", [["good", "2"], ["3"], ["-1"], ["Good"], ["1.0"]])
def test_an_unknown_label_is_refused_at_its_row(values: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        MOODS.encode(["good", *values] if values[0] == "Good" else values, "data.csv (test)")
    message = str(caught.value)
    assert message.startswith("data.csv (test), row ")
    assert (
        "is not one the model knows (bad, fine, good); correct the file, or name another column with --label" in message
    )


def test_the_row_of_the_unknown_label_is_counted_from_one() -> None:
    with pytest.raises(DataError, match="row 3: label 'meh' is not"):
        MOODS.encode(["good", "bad", "meh", "so"], "data")


def test_of_many_known_labels_ten_are_named() -> None:
    task = Task("single-label", tuple(f"intent{i:02}" for i in range(77)), ("text",), "label")
    with pytest.raises(DataError, match=r"\(intent00, .*, intent09, \.\.\.\)"):
        task.encode(["other"], "data")


def test_a_regression_reads_numbers() -> None:
    assert SIMILARITY.encode(["0.5", "-1", " 2e1"], "data") == [0.5, -1.0, 20.0]


@pytest.mark.parametrize("value", ["high", "", "nan", "inf", "1,5"])
def test_a_regression_refuses_what_is_no_number(value: str) -> None:
    with pytest.raises(
        DataError, match=f"data, row 2: '{value}' is not a number, and the model is a regression; correct"
    ):
        SIMILARITY.encode(["1", value], "data")


def test_classification_scores_as_sklearn_does() -> None:
    draw = np.random.default_rng(1)
    logits, references = draw.normal(size=(200, 3)), draw.integers(0, 3, 200)
    decisions = logits.argmax(axis=1)
    assert MOODS.score(logits, references.tolist()) == {
        "accuracy": accuracy_score(references, decisions),
        "macro_f1": f1_score(references, decisions, average="macro"),
        "matthews": matthews_corrcoef(references, decisions),
    }


def test_classification_scores_as_a_pencil_does() -> None:
    logits = np.array([[9, 1], [8, 2], [1, 2], [3, 1]])
    task = Task("single-label", ("no", "yes"), ("text",), "label")
    scores = task.score(logits, [0, 0, 1, 1])
    assert scores["accuracy"] == 3 / 4
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores["matthews"] == pytest.approx((2 * 1 - 1 * 0) / math.sqrt(3 * 1 * 2 * 2))


@pytest.mark.parametrize("answer", [0, 1])
def test_rows_of_a_single_class_are_scored_without_a_warning(answer: int) -> None:
    task = Task("single-label", ("no", "yes"), ("text",), "label")
    scores = task.score(np.eye(2)[[answer] * 3], [0, 0, 0])
    assert scores == {"accuracy": 1.0 - answer, "macro_f1": 1.0 - answer, "matthews": 0.0}


def test_regression_scores_as_scipy_does() -> None:
    draw = np.random.default_rng(1)
    answers, references = draw.normal(size=(50, 1)), draw.normal(size=50)
    scores = SIMILARITY.score(answers, references.tolist())
    assert scores == {
        "pearson": pytest.approx(pearsonr(answers[:, 0], references).statistic),
        "spearman": pytest.approx(spearmanr(answers[:, 0], references).statistic),
    }
    squares = SIMILARITY.score(np.array([[1.0], [4.0], [9.0]]), [1, 2, 3])
    assert squares == {"pearson": pytest.approx(8 / math.sqrt(2 * 98 / 3)), "spearman": pytest.approx(1)}


@pytest.mark.parametrize(("answers", "references"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [2, 2, 2]), ([1], [1])])
def test_a_correlation_with_a_constant_is_none(answers: list[float], references: list[float]) -> None:
    scores = SIMILARITY.score(np.array(answers, np.float32)[:, None], references)
    assert scores == {"pearson": 0.0, "spearman": 0.0}


@pytest.mark.parametrize("kind", KINDS)
def test_the_metric_that_decides_is_among_the_metrics(kind: str) -> None:
    task = MOODS if kind == "single-label" else SIMILARITY
    logits = np.random.default_rng(1).normal(size=(20, task.outputs))
    assert task.facts.primary in task.score(logits, list(range(3)) * 6 + [0, 1])


def test_softmax_survives_large_logits() -> None:
    assert softmax(np.array([[1e4, 0.0], [-1e4, -1e4], [0.0, math.log(3)]])) == pytest.approx(
        np.array([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]])
    )
    assert softmax(np.zeros((2, 3, 4))).sum(axis=-1) == pytest.approx(np.ones((2, 3)))


@pytest.mark.parametrize("task", [MOODS, SIMILARITY])
def test_a_task_survives_json(task: Task) -> None:
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    assert set(task.to_json()) == {"kind", "labels", "text", "label", "max_length"}


def test_a_task_reads_other_columns() -> None:
    assert MOODS.with_columns(("a", "b"), "c") == Task("single-label", MOODS.labels, ("a", "b"), "c")
