"""Where a candidate departs from the baseline: what it says instead, and the inputs on which both are surest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.benchmark.accuracy import Answers, seen_by_either
from theseus_deploy.benchmark.report import Disagreement, Exchange, Sighting
from theseus_deploy.tasks import Array

MOST = 20  # inputs that are shown
LONGEST = 200  # characters of each
ELLIPSIS = "…"
BETWEEN = " | "  # the two texts of a pair


@dataclass(frozen=True)
class Choices:
    """Whatever a model chose a label for: an input, a word, or for many labels whether one of them applies.

    `chosen` are places in `names`, `sure` the probabilities of what was chosen.
    """

    names: Sequence[str]
    chosen: NDArray[np.int64]
    sure: Array


def disagreement(ours: Answers, theirs: Answers, texts: Sequence[tuple[str, ...]]) -> Disagreement | None:
    """Compare two models' choices on the same inputs, as loyalty does; numbers are no choice: None."""
    task = ours.task
    if task.facts.probabilities is None:
        return None
    one, other, truth = _choices(theirs), _choices(ours), _places(ours, ours.truth)
    choices = len(truth) // max(1, len(ours.logits))  # for each item
    seen = np.repeat(seen_by_either(task, ours.logits, theirs.logits), choices)
    departs = seen & (one.chosen != other.chosen)
    cells = np.stack([one.chosen, other.chosen], axis=1)
    exchanges = []
    for before, after in np.unique(cells[seen], axis=0):
        here = seen & (one.chosen == before) & (other.chosen == after)
        right = (int((truth[here] == name).sum()) for name in (before, after))
        exchanges.append(Exchange(one.names[before], one.names[after], int(here.sum()), *right))
    exchanges.sort(key=lambda found: -found.count)
    least = np.minimum(one.sure, other.sure)
    input_of = np.repeat(np.arange(len(texts)), np.diff(ours.starts) * choices)
    sightings: dict[int, Sighting] = {}
    for place in sorted(np.flatnonzero(departs), key=lambda place: (-least[place], place)):
        row = int(input_of[place])
        if row not in sightings:
            word = int(place - ours.starts[row]) if task.tags_words else None
            sightings[row] = Sighting(
                row=row + 1,
                text=_shown(texts[row], word),
                word=None if word is None else texts[row][word],
                baseline=one.names[one.chosen[place]],
                baseline_score=float(one.sure[place]),
                candidate=one.names[other.chosen[place]],
                candidate_score=float(other.sure[place]),
                truth=one.names[truth[place]],
            )
        if len(sightings) == MOST:
            break
    return Disagreement(tuple(exchanges), tuple(sightings.values()))


def _choices(answers: Answers) -> Choices:
    task = answers.task
    assert task.facts.probabilities is not None
    names = list(task.labels)
    if answers.decisions.ndim == 2:
        names += [f"not {name}" for name in names]
    sure = task.facts.probabilities(answers.logits.astype(np.float64)).max(axis=-1).ravel()
    return Choices(names, _places(answers, answers.decisions), sure)


def _places(answers: Answers, decisions: NDArray[np.generic]) -> NDArray[np.int64]:
    """Turn decisions into places in the names: of many labels, those that do not apply come behind those that do."""
    if decisions.ndim == 1:
        return decisions.astype(np.int64)
    labels = len(answers.task.labels)
    return (np.arange(labels) + labels * (decisions.astype(np.float64) <= 0)).ravel()


def _shown(texts: Sequence[str], word: int | None) -> str:
    """Join an input to one text, and cut it short around the word that it is about."""
    joined, middle = BETWEEN.join(texts), 0
    if word is not None:
        joined, middle = " ".join(texts), len(" ".join(texts[:word]))
    start = max(0, min(middle - LONGEST // 2, len(joined) - LONGEST))
    kept = joined[start : start + LONGEST]
    return ELLIPSIS * (start > 0) + kept + ELLIPSIS * (start + LONGEST < len(joined))
