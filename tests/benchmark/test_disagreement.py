import numpy as np

from theseus_deploy.benchmark.accuracy import Answers
from theseus_deploy.benchmark.disagreement import LONGEST, MOST, disagreement
from theseus_deploy.benchmark.report import Disagreement, Exchange
from theseus_deploy.labels import Reference
from theseus_deploy.tasks import Task

CLASSES = Task("single-label", ("no", "yes"), ("text",), "label")
MANY = Task("multi-label", ("a", "b"), ("text",), "labels")
TAGS = Task("tokens", ("O", "B-x"), ("tokens",), "tags")


def compare(
    task: Task, truth: list[Reference], ours: list[list[float]], theirs: list[list[float]], texts: list[tuple[str, ...]]
) -> Disagreement:
    found = disagreement(*(Answers(task, truth, np.array(logits)) for logits in (ours, theirs)), texts)
    assert found is not None
    return found


def test_the_surest_disagreements_come_first_and_pairs_are_counted() -> None:
    theirs = [[0.0, 2.0], [0.0, 9.0], [0.0, 5.0], [0.0, 1.0], [3.0, 0.0]]
    ours = [[2.0, 0.0], [1.0, 0.0], [4.0, 0.0], [0.0, 9.0], [0.0, 3.0]]
    texts = [("one", "pair"), ("b", ""), ("c", ""), ("d", ""), ("e", "")]
    found = compare(CLASSES, [1, 0, 1, 1, 1], ours, theirs, texts)
    assert [one.row for one in found.texts] == [3, 5, 1, 2]  # by the less sure of the two
    assert found.confusion == (
        Exchange("yes", "no", 3, 2, 1), Exchange("no", "yes", 1, 0, 1), Exchange("yes", "yes", 1, 1, 1),
    )  # fmt: skip
    assert [one.count for one in found.departures] == [3, 1]
    third = found.texts[2]
    assert (third.text, third.word, third.baseline, third.candidate, third.truth) == (
        "one | pair", None, "yes", "no", "yes",
    )  # fmt: skip
    assert third.baseline_score == third.candidate_score == 1 / (1 + np.exp(-2))


def test_a_word_is_shown_in_its_sentence_and_a_sentence_once() -> None:
    words = ("long",) * 100 + ("Anna", "sleeps") + ("now",) * 100
    right = [[5.0, 0.0]] * 100 + [[0.0, 5.0], [5.0, 0.0]] + [[5.0, 0.0]] * 100
    wrong = [[5.0, 0.0]] * 100 + [[9.0, 0.0], [0.0, 1.0]] + [[5.0, 0.0]] * 100
    truth: list[Reference] = [[], [0] * 100 + [1] + [0] * 101, [0]]
    found = compare(TAGS, truth, [*wrong, [0.0, 1.0]], [*right, [1.0, 0.0]], [(), words, ("end",)])
    assert [(one.row, one.word, one.baseline, one.candidate, one.truth) for one in found.texts] == [
        (2, "Anna", "B-x", "O", "B-x"), (3, "end", "O", "B-x", "O"),
    ]  # fmt: skip
    assert sum(one.count for one in found.confusion) == 203
    text = found.texts[0].text
    assert "Anna sleeps" in text
    assert text[0] == text[-1] == "…"
    assert len(text) == LONGEST + 2


def test_words_that_no_model_saw_are_no_agreement() -> None:
    cut = [[0.0, 0.0]] * 3
    found = compare(TAGS, [[0, 1, 0, 1]], [[2.0, 0.0], *cut], [[1.0, 0.0], *cut], [("a", "b", "c", "d")])
    assert found.confusion == (Exchange("O", "O", 1, 1, 1),)


def test_of_many_labels_each_is_on_or_off() -> None:
    found = compare(
        MANY, [[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [-1.0, 1.0]], [[1.0, -2.0], [-3.0, -1.0]], [("x",), ("y",)]
    )
    assert {(one.baseline, one.candidate): one.count for one in found.confusion} == {
        ("a", "a"): 1, ("not a", "not a"): 1, ("not b", "b"): 2,
    }  # fmt: skip
    first, second = found.texts
    assert (first.text, first.baseline, first.candidate, first.truth) == ("x", "not b", "b", "not b")
    assert (second.text, second.truth) == ("y", "b")
    assert [found.departures[0].baseline_right, found.departures[0].candidate_right] == [1, 1]


def test_no_more_are_shown_than_are_read_and_those_are_short() -> None:
    ours, theirs = [[1.0, 0.0]] * 50, [[0.0, 1.0]] * 50
    found = compare(CLASSES, [0] * 50, ours, theirs, [("x" * 1000,)] * 50)
    assert len(found.texts) == MOST
    assert found.texts[0].text == "x" * LONGEST + "…"


def test_equals_disagree_on_nothing_and_numbers_have_no_labels() -> None:
    same = [[1.0, 0.0], [0.0, 1.0]]
    found = compare(CLASSES, [0, 1], same, same, [("a",), ("b",)])
    assert (found.texts, found.departures) == ((), ())
    number = Answers(Task("regression", (), ("text",), "score"), [0.5], np.array([[0.5]]))
    assert disagreement(number, number, [("a",)]) is None
