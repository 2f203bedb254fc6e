"""A task is read off labels, knows their numbers, and scores as sklearn and a pencil do."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from theseus_deploy.errors import ConfigError, DataError
from theseus_deploy.labels import Label
from theseus_deploy.tasks import KINDS, Task, softmax

MOODS = Task("single-label", ("bad", "fine", "good"), ("text",), "mood")
SIMILARITY = Task("regression", (), ("a", "b"), "score", 64)
TOPICS = Task("multi-label", ("art", "law", "war"), ("text",), "topics")
ENTITIES = Task("tokens", ("O", "B-person", "I-person", "B-place"), ("words",), "tags")


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
    assert scores["f1"] == pytest.approx(2 / 3)  # of the second label: precision 1, recall 1/2


@pytest.mark.parametrize("answer", [0, 1])
def test_rows_of_a_single_class_are_scored_without_a_warning(answer: int) -> None:
    task = Task("single-label", ("no", "yes"), ("text",), "label")
    scores = task.score(np.eye(2)[[answer] * 3], [0, 0, 0])
    assert scores == {"accuracy": 1.0 - answer, "macro_f1": 1.0 - answer, "matthews": 0.0, "f1": 0.0}


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


REFERENCES: dict[str, tuple[Task, list[Any]]] = {
    "single-label": (Task("single-label", ("no", "yes"), ("text",), "label"), [0, 1, 1, 0]),
    "multi-label": (TOPICS, [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]),
    "regression": (SIMILARITY, [0.5, 1.0, 2.0]),
    "tokens": (ENTITIES, [[0, 1, 2], [], [0]]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_that_may_decide_is_among_the_metrics(kind: str) -> None:
    task, references = REFERENCES[kind]
    items = sum(map(len, references)) if task.tags_words else len(references)
    scores = task.score(np.random.default_rng(1).normal(size=(items, task.outputs)), references)
    assert scores.keys() == set(KINDS[kind].metrics)
    assert task.primary == KINDS[kind].primary


def test_the_metric_that_decides_is_the_data_sets_where_the_task_has_it() -> None:
    assert MOODS.reading(("a",), "b", "matthews").primary == "matthews"
    assert MOODS.reading(("a",), "b", "pearson").primary == "accuracy"
    assert MOODS.judged_by("macro_f1").reading(("a",), "b", "matthews").primary == "macro_f1"  # it was chosen
    assert MOODS.judged_by("accuracy").reading(("a",), "b", "matthews").primary == "accuracy"  # so was the usual one
    assert Task.from_json(MOODS.to_json()).reading(("a",), "b", "matthews").primary == "accuracy"  # a model was by it
    assert Task.infer(["0", "1"], ("a",), "b", 8, "regression", metric="f1").primary == "pearson"


def test_the_metric_that_decides_can_be_said() -> None:
    assert MOODS.judged_by("matthews").primary == "matthews"
    assert MOODS.judged_by(None) == MOODS
    with pytest.raises(ConfigError, match=r"--metric mathews is none of this task .*did you mean 'matthews'"):
        MOODS.judged_by("mathews")
    with pytest.raises(ConfigError, match="--metric f1 is none"):  # which of three labels would it be of?
        replace(MOODS, labels=("a", "b", "c")).judged_by("f1")


def test_many_labels_score_as_a_pencil_does() -> None:
    logits = np.array([[2, -1, 3], [-1, -0.1, 1], [0.1, 1, -2], [-1, -1, -1]])
    references = TOPICS.encode([("art", "war"), (), "law;art", ""], "data")
    assert references == [[1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 0, 0]]
    scores = TOPICS.score(logits, references)
    assert scores["accuracy"] == 3 / 4  # the second input has a label too many
    assert scores["micro_f1"] == pytest.approx(2 * 4 / (2 * 4 + 1))
    assert scores["macro_f1"] == pytest.approx((1 + 1 + 2 / 3) / 3)


def test_labels_that_no_input_has_are_scored_without_a_warning() -> None:
    scores = TOPICS.score(-np.ones((2, 3)), TOPICS.encode([(), ()], "data"))
    assert scores == {"accuracy": 1.0, "micro_f1": 0.0, "macro_f1": 0.0}


def test_entities_score_as_a_pencil_does() -> None:
    """Of three entities one is found whole, one is cut short, and one is missed; one is made up."""
    o, begin, on, place = range(4)
    references = [[begin, on, o, begin, on], [], [place, o]]
    decisions = [begin, on, o, begin, o, o, place]
    scores = ENTITIES.score(np.eye(4)[decisions], references)
    assert scores == {"precision": 1 / 3, "recall": 1 / 3, "f1": pytest.approx(1 / 3), "accuracy": 4 / 7}


def test_an_entity_may_begin_without_its_beginning_as_conll_has_it() -> None:
    scores = ENTITIES.score(np.eye(4)[[0, 2, 2]], [[0, 1, 2]])
    assert (scores["f1"], scores["accuracy"]) == (1.0, 2 / 3)


def test_tags_without_a_prefix_are_entities_of_one_word() -> None:
    task = Task("tokens", ("NOUN", "VERB", "X-ray"), ("words",), "tags")
    scores = task.score(np.eye(3)[[0, 0, 1, 2]], [[0, 1], [1, 2]])
    assert scores == {"precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "accuracy": 3 / 4}


@pytest.mark.parametrize("scheme", ["BIES", "BILU", "BMES"])
def test_other_schemes_of_tags_are_understood(scheme: str) -> None:
    begin, inside, end, single = (f"{prefix}-x" for prefix in scheme)
    task = Task("tokens", ("O", begin, inside, end, single), ("words",), "tags")
    references = task.encode([(begin, inside, end, "O", single, single)], "data")
    scores = task.score(np.eye(5)[[1, 2, 3, 0, 4, 0]], references)
    assert (scores["precision"], scores["recall"]) == (1.0, 2 / 3)


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([("B-x", "O")], ("O", "B-x", "I-x")),
        ([("I-x", "O")], ("O", "I-x")),
        ([("B-x", "I-y")], ("B-x", "I-x", "B-y", "I-y")),
        ([("U-x", "O")], ("O", "I-x", "U-x")),
        ([("VERB", "NOUN")], ("NOUN", "VERB")),
        ([("PER", "O")], ("O", "PER")),
    ],
)
def test_tags_are_read_off_rows_and_closed(rows: list[Label], labels: tuple[str, ...]) -> None:
    assert Task.infer(rows, ("words",), "tags", 8, "tokens").labels == labels


def test_the_order_of_the_data_set_holds_where_it_knows_all_labels() -> None:
    names = ("not_equivalent", "equivalent", "unclear")
    assert Task.infer(["equivalent", "not_equivalent"], ("text",), "label", 8, names=names).labels == names
    assert Task.infer(["equivalent", "other"], ("text",), "label", 8, names=names).labels == ("equivalent", "other")


def test_tags_that_are_numbers_without_names_have_no_entities() -> None:
    tags: list[Label] = [("0", "1", "2"), ("0",)]
    with pytest.raises(
        DataError, match=r"words are tagged by numbers \(0, 1, 2\), .* 'ner_tags': O, B-person, I-person"
    ):
        Task.infer(tags, ("tokens",), "ner_tags", 8, "tokens")
    assert Task.infer(tags, ("tokens",), "ner_tags", 8, "tokens", names=("0", "1", "2")).labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("values", "kind", "expected", "labels"),
    [
        (["1", "5", "3"], "regression", "regression", ()),
        (["1", "5", "3"], "auto", "single-label", ("1", "3", "5")),
        (["0.5", "1"], "single-label", "single-label", ("0.5", "1")),
        (["a|b", "b | c", ""], "multi-label", "multi-label", ("a", "b", "c")),
        (["a,b", "b , c", ""], "multi-label", "multi-label", ("a", "b", "c")),
        (["a;b", "b , c", ""], "multi-label", "multi-label", ("a", "b", "b , c")),
        (["art of war", "law"], "multi-label", "multi-label", ("art of war", "law")),
        (["a|b", "b"], "auto", "single-label", ("a|b", "b")),
        ([("a", "b"), ()], "auto", "multi-label", ("a", "b")),
    ],
)
def test_a_kind_decides_how_labels_are_understood(
    values: list[Label], kind: str, expected: str, labels: tuple[str, ...]
) -> None:
    task = Task.infer(values, ("text",), "label", 8, kind)
    assert (task.kind, task.labels) == (expected, labels)


@pytest.mark.parametrize(
    ("task", "values", "reason"),
    [
        (MOODS, ["good", ("bad", "good")], "row 2: the label is a list (bad, good), and the model gives one label"),
        (TOPICS, [("art",), ("art", "tax")], "row 2: label 'tax' is not one the model knows (art, law, war)"),
        (ENTITIES, [("O",), "O"], "row 2: 'O' is no list, and the model tags words"),
        (ENTITIES, [("O",), ("O", "B-tax")], "row 2: label 'B-tax' is not one the model knows"),
        (SIMILARITY, ["1", ("2",)], "row 2: ('2',) is not a number, and the model is a regression"),
    ],
)
def test_a_label_of_another_form_is_refused_at_its_row(task: Task, values: list[Label], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        task.encode(values, "data")
    assert reason in str(caught.value)


def test_two_models_agree_where_they_decide_the_same() -> None:
    one, other = np.array([[1.0, -1, 1], [1, 1, -1]]), np.array([[2.0, -3, 4], [1, -1, -1]])
    assert TOPICS.agree(one, other).tolist() == [True, False]  # all labels of an input
    assert MOODS.agree(one, other).tolist() == [False, True]


def test_softmax_survives_large_logits() -> None:
    assert softmax(np.array([[1e4, 0.0], [-1e4, -1e4], [0.0, math.log(3)]])) == pytest.approx(
        np.array([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]])
    )
    assert softmax(np.zeros((2, 3, 4))).sum(axis=-1) == pytest.approx(np.ones((2, 3)))


@pytest.mark.parametrize("task", [MOODS, SIMILARITY, TOPICS, ENTITIES, replace(MOODS, metric="matthews")])
def test_a_task_survives_json(task: Task) -> None:
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == replace(task, metric=task.primary)
    assert set(task.to_json()) == {"kind", "labels", "text", "label", "max_length", "metric"}
    without = {name: value for name, value in task.to_json().items() if name != "metric"}
    assert Task.from_json(without).primary == task.facts.primary  # as it was written before


def test_a_task_reads_other_columns() -> None:
    assert MOODS.reading(("a", "b"), "c") == Task("single-label", MOODS.labels, ("a", "b"), "c")


def test_a_word_that_was_cut_off_is_outside_wherever_the_model_keeps_that_tag() -> None:
    task = Task("tokens", ("B-x", "I-x", "O"), (), "")
    logits = np.array([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    assert task.decide(logits).tolist() == [0, 2, 2]
    assert task.score(logits, [[0, 2, 2]])["f1"] == 1.0
    assert Task("tokens", ("VERB", "NOUN"), (), "").decide(np.zeros((1, 2))).tolist() == [0]


def test_f1_judges_two_labels_only() -> None:
    assert Task("single-label", ("a", "b"), (), "", metric="f1").primary == "f1"
    assert Task("single-label", ("a", "b", "c"), (), "", metric="f1").primary == "accuracy"
    assert Task("tokens", ("O", "B-x", "I-x"), (), "", metric="f1").primary == "f1"


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "tokens"])
def test_a_label_that_stands_for_two_outputs_is_refused(kind: str) -> None:
    with pytest.raises(DataError, match=r"the label 'x' stands for two of the model's 3 outputs, .*; rename one"):
        Task(kind, ("x", "y", "x"), ("text",), "label")


@pytest.mark.parametrize(
    ("task", "references", "said"),
    [
        (
            SIMILARITY,
            [0.1 * number for number in range(19)],
            "pearson of 19 rows may be anything; add rows, 20 at least",
        ),
        (SIMILARITY, [0.5] * 20, "the true answers themselves score 0 in pearson on these 20 rows"),
        (TOPICS, [[0.0, 0.0, 0.0]] * 3, "the true answers themselves score 0 in micro_f1 on these 3 rows"),
        (ENTITIES, [[0, 0], [0]], "the true answers themselves score 0 in f1 on these 2 rows"),
        (replace(MOODS, metric="matthews"), [1] * 4, "the true answers themselves score 0 in matthews on these 4 rows"),
        (SIMILARITY, [0.1 * number for number in range(20)], ""),
        (TOPICS, [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], ""),
        (ENTITIES, [[0, 1], [], [0]], ""),
        (MOODS, [1], ""),
    ],
)
def test_rows_in_which_the_metric_has_nothing_to_measure(task: Task, references: list[Any], said: str) -> None:
    reason = task.unmeasured(references)
    assert reason.startswith(said)
    assert bool(reason) == bool(said)
