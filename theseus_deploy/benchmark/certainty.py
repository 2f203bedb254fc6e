"""How sure a score is, and the difference of two: inputs are resampled, the same ones for both models.

Never words or labels: those of one input are not independent of each other. A metric is made of sums over inputs of
what was counted in each, of shape (3, classes): how many were right, given and due. So no metric is computed again
from all answers for any resample.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.benchmark.accuracy import Answers, seen_by_either
from theseus_deploy.benchmark.stats import Estimate, bootstrap, correlation, paired_difference, ranks, share
from theseus_deploy.labels import as_seqeval

Array = NDArray[np.float64]
Counts = NDArray[np.integer] | NDArray[np.bool_]  # of shape (inputs, 3, classes)
Formula = Callable[[Array], Array]  # from sums of shape (..., 3, classes) to values


@dataclass(frozen=True)
class Sample:
    """What is resampled: how many inputs there are of each sort, and how many sorts were not seen.

    `scores` maps counts of all sorts, (resamples, sorts), to the scores of one model or of two, (resamples, models).
    """

    inputs: Array
    unseen: int
    scores: Callable[[Array], Array]


def score_estimate(answers: Answers, seed: int) -> Estimate:
    """Estimate the task's primary metric of one model."""
    if _is_all_or_nothing(answers):
        return share(_right(answers) == 1)
    sample = _sample(answers)
    return bootstrap(lambda drawn: sample.scores(drawn)[:, 0], sample.inputs, sample.unseen, seed)


def drop_estimate(ours: Answers, theirs: Answers, seed: int) -> Estimate:
    """Estimate by how much the primary metric of `ours` is below that of `theirs`."""
    if _is_all_or_nothing(ours):
        return paired_difference(_right(theirs).astype(np.float64), _right(ours).astype(np.float64))
    sample = _sample(ours, theirs)

    def drop(drawn: Array) -> Array:
        scores = sample.scores(drawn)
        below: Array = scores[:, 1] - scores[:, 0]
        return below

    return bootstrap(drop, sample.inputs, sample.unseen, seed)


def agreement_estimate(ours: Answers, theirs: Answers, seed: int) -> Estimate:
    """Estimate the share of items on which two models decide the same, of those that either saw."""
    same = ours.task.agree(ours.logits, theirs.logits)
    if not ours.task.tags_words:
        return share(same)
    seen = seen_by_either(ours.task, ours.logits, theirs.logits)
    sample = _counted([_of_items(ours, same & seen, seen)], _recall)
    return bootstrap(lambda drawn: sample.scores(drawn)[:, 0], sample.inputs, sample.unseen, seed)


def _is_all_or_nothing(answers: Answers) -> bool:
    """Tell whether the metric asks of every input whether it is right, and nothing else: then formulas are known."""
    return answers.task.primary == "accuracy" and not answers.task.tags_words


def _sample(*models: Answers) -> Sample:
    return METRICS[models[0].task.kind][models[0].task.primary](models)


def _counted(counts: Sequence[Counts], formula: Formula) -> Sample:
    """Take inputs in which the same was counted, for every model, as one sort.

    `counts` has shape (inputs, 3, classes) for each model. Four sorts might have been seen: both models perfect, or
    one of them, or none, on an input with as much due as there is on average; who fails there gives as much, all of
    it wrong.
    """
    joint = np.stack(counts, axis=1).astype(np.int32)
    sorts = Counter(map(bytes, joint))
    seen = np.frombuffer(b"".join(sorts), dtype=joint.dtype).reshape(-1, *joint.shape[1:])
    due = joint[:, 0, 2].mean(axis=0)
    perfect, failed = np.stack([due, due, due]), np.stack([0 * due, due, due])
    outcomes = [(perfect, perfect), (perfect, failed), (failed, perfect), (failed, failed)]
    table = np.concatenate([seen, np.array([outcome[: len(counts)] for outcome in outcomes])])

    def scores(drawn: Array) -> Array:
        return formula(np.tensordot(drawn, table, axes=1))

    return Sample(np.array(list(sorts.values()), dtype=np.float64), len(outcomes), scores)


def _by_counting(count: Callable[[Answers], Counts], formula: Formula, models: Sequence[Answers]) -> Sample:
    return _counted([count(answers) for answers in models], formula)


def _by_correlating(ranked: bool, models: Sequence[Answers]) -> Sample:
    """Take every input as a sort of its own, and none as unseen: numbers that differ say by themselves how much."""
    truth = models[0].truth.astype(np.float64)
    answers = [model.decisions.astype(np.float64) for model in models]

    def scores(drawn: Array) -> Array:
        series = [ranks(drawn, one) if ranked else one for one in (truth, *answers)]
        return np.stack([correlation(drawn, series[0], one) for one in series[1:]], axis=1)

    return Sample(np.ones(len(truth)), 0, scores)


def _right(answers: Answers) -> NDArray[np.bool_]:
    """Tell for each item whether all that was decided is right."""
    right: NDArray[np.bool_] = (answers.decisions == answers.truth).reshape(len(answers.decisions), -1).all(axis=1)
    return right


def _of_items(answers: Answers, right: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Counts:
    every = answers.per_input(counted)
    return np.stack([answers.per_input(right), every, every], axis=1)[:, :, None]


def _items(answers: Answers) -> Counts:
    right = _right(answers)
    return _of_items(answers, right, np.ones_like(right))


def _classes(answers: Answers) -> Counts:
    """Count every label; a single one is one of many that are on or off."""
    labels, given, due = len(answers.task.labels), answers.decisions, answers.truth
    if given.ndim == 1:
        given, due = (np.arange(labels) == values[:, None] for values in (given, due))
    given, due = (np.asarray(values) > 0 for values in (given, due))
    return np.stack([given & due, given, due], axis=1)


def _second_class(answers: Answers) -> Counts:
    return _classes(answers)[:, :, 1:2]


def _entities(answers: Answers) -> Counts:
    """Count entities; one is right that has the label and all the words of one that is due, as seqeval has it."""
    from seqeval.metrics.sequence_labeling import get_entities

    names = [as_seqeval(tag) for tag in answers.task.labels]
    rows = []
    for start, stop in pairwise(answers.starts):
        given, due = (
            set(get_entities([names[int(tag)] for tag in tags[start:stop]]))
            for tags in (answers.decisions, answers.truth)
        )
        rows.append([len(given & due), len(given), len(due)])
    return np.array(rows, dtype=np.int64)[:, :, None]


def _ratio(part: Array, whole: Array) -> Array:
    found: Array = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return found


def _precision(sums: Array) -> Array:
    right, given, _ = np.moveaxis(sums.sum(axis=-1), -1, 0)
    return _ratio(right, given)


def _recall(sums: Array) -> Array:
    right, _, due = np.moveaxis(sums.sum(axis=-1), -1, 0)
    return _ratio(right, due)


def _f1(sums: Array) -> Array:
    right, given, due = np.moveaxis(sums.sum(axis=-1), -1, 0)
    return _ratio(2 * right, given + due)


def _macro_f1(sums: Array, only_present: bool) -> Array:
    """Average over classes; as sklearn has it, of single labels those alone that occur."""
    right, given, due = np.moveaxis(sums, -2, 0)
    of_class = _ratio(2 * right, given + due)
    counted = (given + due > 0) if only_present else np.ones_like(of_class)
    return _ratio(of_class.sum(axis=-1), counted.sum(axis=-1).astype(np.float64))


def _matthews(sums: Array) -> Array:
    """Source: Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient" (2004)."""
    right, given, due = np.moveaxis(sums, -2, 0)
    size = due.sum(axis=-1)
    covariance = right.sum(axis=-1) * size - (given * due).sum(axis=-1)
    spreads = [size**2 - (values**2).sum(axis=-1) for values in (given, due)]
    return _ratio(covariance, np.sqrt((spreads[0] * spreads[1]).clip(0)))


# By kind of task and metric: all of `Kind.scores`, so that every task can be judged by what it is judged by.
METRICS: Mapping[str, Mapping[str, Callable[[Sequence[Answers]], Sample]]] = {
    "single-label": {
        "accuracy": partial(_by_counting, _items, _recall),
        "macro_f1": partial(_by_counting, _classes, partial(_macro_f1, only_present=True)),
        "matthews": partial(_by_counting, _classes, _matthews),
        "f1": partial(_by_counting, _second_class, _f1),
    },
    "multi-label": {
        "micro_f1": partial(_by_counting, _classes, _f1),
        "macro_f1": partial(_by_counting, _classes, partial(_macro_f1, only_present=False)),
        "accuracy": partial(_by_counting, _items, _recall),
    },
    "regression": {
        "pearson": partial(_by_correlating, False),
        "spearman": partial(_by_correlating, True),
    },
    "tokens": {
        "f1": partial(_by_counting, _entities, _f1),
        "precision": partial(_by_counting, _entities, _precision),
        "recall": partial(_by_counting, _entities, _recall),
        "accuracy": partial(_by_counting, _items, _recall),
    },
}
