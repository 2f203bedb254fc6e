"""Every metric of every kind: its point is the metric's own, its interval covers, and no few inputs look certain."""

from dataclasses import replace

import numpy as np
import pytest

from theseus_deploy.benchmark.accuracy import Answers
from theseus_deploy.benchmark.certainty import METRICS, agreement_estimate, drop_estimate, score_estimate
from theseus_deploy.tasks import KINDS, Task

TASKS = {
    "single-label": Task("single-label", ("a", "b"), ("text",), "label"),
    "multi-label": Task("multi-label", ("a", "b", "c"), ("text",), "label"),
    "regression": Task("regression", (), ("text",), "label"),
    "tokens": Task("tokens", ("O", "B-x", "I-x", "B-y", "I-y"), ("text",), "label"),
}
EVERY = [(kind, metric) for kind, facts in KINDS.items() for metric in facts.metrics]
UNCERTAIN = [(kind, metric) for kind, metric in EVERY if kind != "regression"]


def make_references(kind: str, rows: int, draw: np.random.Generator) -> list:
    if kind == "single-label":
        return (draw.random(rows) < 0.4).astype(int).tolist()
    if kind == "multi-label":
        return (draw.random((rows, 3)) < 0.3).astype(float).tolist()
    if kind == "regression":
        return draw.integers(0, 11, size=rows).tolist()
    return [draw.choice(5, p=[0.6, 0.1, 0.1, 0.1, 0.1], size=draw.integers(0, 12)).tolist() for _ in range(rows)]


def answer(task: Task, references: list, noise: float, draw: np.random.Generator) -> Answers:
    """Right, but for noise; that of words is shared by the words of an input, so that they are not independent."""
    if task.tags_words:
        flat = np.concatenate([np.array(row, dtype=int) for row in references])
        shared = np.repeat(draw.standard_normal(len(references)), [len(row) for row in references])
        logits = np.eye(5)[flat] + noise * np.abs(shared[:, None]) * draw.standard_normal((len(flat), 5))
    elif task.kind == "single-label":
        logits = np.eye(2)[references] + noise * draw.standard_normal((len(references), 2))
    else:
        right = np.array(references).reshape(len(references), -1)
        right = right * 2 - 1 if task.kind == "multi-label" else right / 4
        logits = right + noise * draw.standard_normal(right.shape)
    return Answers(task, references, logits.astype(np.float32))


def make_pair(kind: str, metric: str, rows: int, noise: tuple[float, float], seed: int) -> tuple[Answers, Answers]:
    draw, task = np.random.default_rng(seed), replace(TASKS[kind], metric=metric)
    references = make_references(kind, rows, draw)
    ours, theirs = (answer(task, references, one, draw) for one in noise)
    return ours, theirs


def test_there_is_an_interval_for_whatever_a_task_may_be_judged_by() -> None:
    assert {kind: set(metrics) for kind, metrics in METRICS.items()} == {
        kind: set(facts.metrics) for kind, facts in KINDS.items()
    }


@pytest.mark.parametrize(("kind", "metric"), EVERY)
def test_the_point_is_what_sklearn_scipy_and_seqeval_say(kind: str, metric: str) -> None:
    ours, theirs = make_pair(kind, metric, 300, (0.8, 0.5), seed=1)
    scores = [one.task.score(one.logits, one.references)[metric] for one in (ours, theirs)]
    for one, score in zip((ours, theirs), scores, strict=True):
        found = score_estimate(one, seed=1)
        assert found.value == pytest.approx(score, abs=1e-6)
        assert found.interval[0] < score < found.interval[1]
        assert found == score_estimate(one, seed=1)
        sampled = METRICS[kind][metric]([one])  # what has a formula too
        counts = np.append(sampled.inputs, np.zeros(sampled.unseen))[None]
        assert sampled.scores(counts)[0, 0] == pytest.approx(score, abs=1e-6)
    drop = drop_estimate(ours, theirs, seed=1)
    assert drop.value == pytest.approx(scores[1] - scores[0], abs=1e-6)
    assert 0 < drop.interval[0] < drop.value < drop.interval[1]


@pytest.mark.parametrize("metric", ["macro_f1", "matthews", "accuracy"])
def test_more_than_two_labels_of_which_one_never_occurs(metric: str) -> None:
    task = Task("single-label", tuple("abcd"), ("text",), "label", metric=metric)
    draw = np.random.default_rng(2)
    references = draw.integers(3, size=200).tolist()
    one = Answers(task, references, np.eye(4)[references] + draw.standard_normal((200, 4)) - [0, 0, 0, 99])
    assert score_estimate(one, seed=1).value == pytest.approx(task.score(one.logits, references)[metric])


def test_entities_are_found_whatever_the_tags_are_called() -> None:
    for labels in [
        ("O", "B-x", "L-x", "U-x", "I-x"),
        ("O", "NOUN", "VERB", "ADJ", "ADV"),
        ("B-x", "I-x", "E-x", "S-x", "O"),
    ]:
        task = Task("tokens", labels, ("text",), "label")
        draw = np.random.default_rng(3)
        references = make_references("tokens", 200, draw)
        one = answer(task, references, 0.6, draw)
        assert score_estimate(one, seed=1).value == pytest.approx(task.score(one.logits, references)["f1"])


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "metric"), EVERY)
def test_the_interval_of_a_drop_covers_the_truth(kind: str, metric: str) -> None:
    ours, theirs = (
        one.task.score(one.logits, one.references)[metric] for one in make_pair(kind, metric, 8000, (0.7, 0.5), 4)
    )
    truth = theirs - ours
    found = [drop_estimate(*make_pair(kind, metric, 100, (0.7, 0.5), seed), seed=1) for seed in range(5, 85)]
    covered = np.mean([one.interval[0] <= truth <= one.interval[1] for one in found])
    spread = np.std([one.value for one in found])
    widths = np.mean([one.interval[1] - one.interval[0] for one in found])
    assert covered >= 0.88
    assert widths == pytest.approx(2 * 1.96 * spread, rel=0.3)  # sure enough, and not more careful than that


@pytest.mark.parametrize(("kind", "metric"), UNCERTAIN)
def test_few_inputs_without_any_difference_prove_little_and_many_much(kind: str, metric: str) -> None:
    for rows, least, most in [(12, 0.1, 1.5), (3000, 0.0, 0.01)]:
        same, other = make_pair(kind, metric, rows, (0.0, 0.0), seed=6)
        for found in (drop_estimate(same, other, seed=1), score_estimate(same, seed=1)):
            assert least < found.interval[1] - found.interval[0] < most
        assert drop_estimate(same, other, seed=1).value == 0.0
        low, high = agreement_estimate(same, other, seed=1).interval
        assert (1 - low < 0.01) == (rows == 3000)
        assert high == 1.0


def test_words_of_a_sentence_do_not_count_as_so_many_inputs() -> None:
    """A sentence is right as a whole or wrong as a whole, so that its words tell no more than one of them would."""
    task, draw = replace(TASKS["tokens"], metric="accuracy"), np.random.default_rng(7)
    references = [[1] * 20 for _ in range(200)]
    right = np.repeat(draw.random(200) < 0.8, 20)
    ours = Answers(task, references, np.eye(5)[np.where(right, 1, 0)])
    theirs = Answers(task, references, np.eye(5)[np.ones(4000, dtype=int)])
    reach = 2 * 1.96 * np.sqrt(0.8 * 0.2 / 200)
    for found in (agreement_estimate(ours, theirs, seed=1), score_estimate(ours, seed=1)):
        assert found.value == right.mean()
        assert found.interval[1] - found.interval[0] == pytest.approx(reach, rel=0.15)
    drop = drop_estimate(ours, theirs, seed=1)
    assert drop.interval[1] - drop.interval[0] == pytest.approx(reach, rel=0.15)


@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_resampling_agrees_with_the_formula_where_there_is_one(kind: str) -> None:
    pair = make_pair(kind, "accuracy", 150, (0.6, 0.5), seed=8)
    formula = drop_estimate(*pair, seed=1)
    sample = METRICS[kind]["accuracy"](pair)
    draw = np.random.default_rng(1)
    pool = np.append(sample.inputs, np.full(sample.unseen, 0.5))
    scores = sample.scores(draw.multinomial(round(pool.sum()), pool / pool.sum(), size=4000).astype(float))
    assert np.quantile(scores[:, 1] - scores[:, 0], [0.025, 0.975]) == pytest.approx(formula.interval, abs=0.012)
