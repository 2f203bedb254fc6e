"""What a model is asked to do: which head, which labels, which metrics. The kinds of task are a table, not branches.

An *item* is what gets one answer: an input, or where words are tagged each word of it. Logits always have the shape
(items, labels), whatever the head.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.errors import ConfigError, DataError, suggest
from theseus_deploy.labels import (
    OUTSIDE,
    Label,
    Reference,
    all_tags,
    are_fractions,
    class_indices,
    divided,
    floats,
    in_order,
    many_hot,
    word_classes,
)
from theseus_deploy.metrics import correlate, score_classes, score_entities, score_many

Array = NDArray[np.floating[Any]]
FEWEST = 20  # rows, below which the interval of a correlation is too narrow


@dataclass(frozen=True)
class Kind:
    """The facts of one kind of task.

    `head` is transformers' class of model and `problem_type` the name it gives the loss; `metrics` are the names by
    which a task may be judged, its own first. `decide` turns logits of shape (items, labels) into decisions, (items,)
    or (items, labels); `probabilities` into distributions along the last axis. `encode` and `score` take the labels
    of a task first: one turns values into references, the other maps decisions and references to scores.
    """

    problem_type: str | None
    metrics: tuple[str, ...]
    encode: Callable[[Sequence[str], Sequence[Label], str], list[Any]]
    decide: Callable[[Array], NDArray[Any]]
    score: Callable[[Sequence[str], NDArray[Any], Any], dict[str, float]]
    probabilities: Callable[[Array], Array] | None
    head: str = "AutoModelForSequenceClassification"
    of_two: tuple[str, ...] = ()  # metrics that only two labels have

    @property
    def primary(self) -> str:
        """Name the metric that decides where nothing else is known."""
        return self.metrics[0]


def softmax(logits: Array) -> Array:
    """Turn logits of shape (..., labels) into probabilities."""
    exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = exponent / exponent.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Array) -> Array:
    """Turn logits of any shape into probabilities, each on its own."""
    probabilities: Array = np.exp(-np.logaddexp(0, -logits))
    return probabilities


def _each_alone(logits: Array) -> Array:
    """Turn logits of shape (items, labels) into a distribution over yes and no for each label."""
    yes = sigmoid(logits)
    return np.stack([yes, 1 - yes], axis=-1)


@dataclass(frozen=True)
class Task:
    """A kind of task with its labels, the columns its text and label come from, and the longest input in tokens.

    `metric` is the one that decides: the one asked for (`judged_by`), or as the data set is usually judged (MRPC by F1,
    CoLA by Matthews). Without it, and where a task of this kind with so many labels has no such metric, the kind's own
    does (`primary`).
    """

    kind: str
    labels: tuple[str, ...]
    text: tuple[str, ...]
    label: str
    max_length: int = 128
    metric: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"task kind {self.kind!r} is unknown; {suggest(self.kind, list(KINDS))}")
        if self.kind != "regression" and len(self.labels) < 2:
            raise DataError(
                f"classification with {len(self.labels)} label ({', '.join(self.labels)}); at least 2 are needed: "
                f"check the label column {self.label!r}"
            )
        if twice := next((label for label, count in Counter(self.labels).items() if count > 1), None):
            raise DataError(
                f"the label {twice!r} stands for two of the model's {len(self.labels)} outputs, and answers are keyed "
                "by label; rename one in id2label of its config.json"
            )
        if self.metric not in self.metrics:
            object.__setattr__(self, "metric", "")

    @property
    def facts(self) -> Kind:
        """Return the row of `KINDS` this task follows."""
        return KINDS[self.kind]

    @property
    def primary(self) -> str:
        """Name the metric that decides; more of it is better."""
        return self.metric or self.facts.primary

    @property
    def metrics(self) -> list[str]:
        """Name all metrics of this task."""
        return [name for name in self.facts.metrics if name not in self.facts.of_two or len(self.labels) == 2]

    @property
    def tags_words(self) -> bool:
        """Tell whether every word of an input gets an answer, not the input as a whole."""
        return self.kind == "tokens"

    @property
    def outputs(self) -> int:
        """Count the numbers the head answers with for one item."""
        return len(self.labels) or 1

    def encode(self, values: Sequence[Label], where: str) -> list[Any]:
        """Turn label texts into what the loss compares: see `Reference`, one for each input.

        Names are matched first. Where no value is a name, the numbers 0..labels-1 are taken as indices.

        Raises:
            DataError: a value the model does not know; `where` names the place in the message.
        """
        return self.facts.encode(self.labels, values, where)

    def score(self, logits: Array, references: Sequence[Reference]) -> dict[str, float]:
        """Return every metric of this kind of task, for logits of shape (items, labels)."""
        return self.facts.score(self.labels, self.decide(logits), references)

    def flat(self, references: Sequence[Reference]) -> NDArray[Any]:
        """Return the references of inputs as those of items, in the shape of decisions."""
        if self.tags_words:
            return np.concatenate([np.asarray(row, dtype=np.int64) for row in references])
        return np.asarray(references)

    def unmeasured(self, references: Sequence[Reference]) -> str:
        """Say why the primary metric tells nothing of any model on these rows; "" where it does."""
        rows = len(references)
        if not self.labels and rows < FEWEST:
            return f"{self.primary} of {rows} rows may be anything; add rows, {FEWEST} at least"
        truth = self.flat(references)
        if self.facts.score(self.labels, truth > 0 if truth.ndim == 2 else truth, references)[self.primary] == 0:
            return (
                f"the true answers themselves score 0 in {self.primary} on these {rows:,} rows; add rows that have "
                "what it counts"
            )
        return ""

    def decide(self, logits: Array) -> NDArray[Any]:
        """Turn logits of shape (items, labels) into decisions, (items,) or (items, labels).

        A word that was cut off, whose logits are zeros, is outside any entity.
        """
        decisions = self.facts.decide(logits)
        if OUTSIDE in self.labels:
            decisions[~self.seen(logits)] = self.labels.index(OUTSIDE)
        return decisions

    def seen(self, *answers: Array) -> NDArray[np.bool_]:
        """Tell for each item whether any of several models saw it, by the logits of each, of shape (items, labels).

        A word that was cut off has zeros, which are no answer; what is no word was always seen.
        """
        seen: NDArray[np.bool_] = np.any(answers, axis=(0, 2))
        return seen if self.tags_words else np.ones_like(seen)

    def agree(self, one: Array, other: Array) -> NDArray[np.bool_]:
        """Tell for each item whether two models, by their logits of shape (items, labels), decide the same."""
        same = self.decide(one) == self.decide(other)
        agreed: NDArray[np.bool_] = same.reshape(len(same), -1).all(axis=1)
        return agreed

    def reading(self, text: tuple[str, ...], label: str, metric: str = "") -> "Task":
        """Return this task on other data: its columns, and the metric that is usual there, unless one decides here."""
        return replace(self, text=text, label=label, metric=self.metric or metric)

    def judged_by(self, metric: str | None) -> "Task":
        """Return this task with another metric that decides, if one is given.

        Raises:
            ConfigError: the task has no such metric.
        """
        if metric is None:
            return self
        if metric not in self.metrics:
            raise ConfigError(f"--metric {metric} is none of this task ({self.kind}); {suggest(metric, self.metrics)}")
        return replace(self, metric=metric)

    def to_json(self) -> dict[str, Any]:
        """Return the `task` object of `theseus.json`."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "text": list(self.text),
            "label": self.label,
            "max_length": self.max_length,
            "metric": self.primary,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Task":
        """Read the `task` object of `theseus.json`.

        Raises:
            ValueError: the longest input has no token.
        """
        longest = int(data["max_length"])
        if longest < 1:
            raise ValueError(f"max_length is {longest}")
        return cls(
            data["kind"], tuple(map(str, data["labels"])), tuple(data["text"]), data["label"], longest,
            data.get("metric", ""),
        )  # fmt: skip

    @classmethod
    def infer(
        cls,
        values: Sequence[Label],
        text: tuple[str, ...],
        label: str,
        max_length: int,
        kind: str = "auto",
        names: tuple[str, ...] = (),
        metric: str = "",
    ) -> "Task":
        """Read the task off the label column of a training split; `kind` is then how the column is understood.

        By itself, a column of lists is many labels, a column with fractions a regression, and anything else holds
        names. `names` are all of them in the order that the data set gives; names that are numbers sort as numbers.

        Raises:
            DataError: words are tagged by numbers that have no names.
        """
        distinct = set(values)
        single = {value for value in distinct if isinstance(value, str)}
        if kind == "auto":
            kind = "regression" if are_fractions(single) else "single-label" if single else "multi-label"
        if kind == "regression":
            return cls(kind, (), text, label, max_length, metric)
        cells = divided(list(distinct), names) if kind == "multi-label" else distinct
        found = {name for cell in cells for name in ((cell,) if isinstance(cell, str) else cell)}
        if kind == "tokens" and not names and all(map(str.isdecimal, found)):
            raise DataError(
                f"words are tagged by numbers ({', '.join(in_order(found)[:5])}), and none says which is outside any "
                f"entity; write names into {label!r}: O, B-person, I-person"
            )
        if not (names and found <= set(names)):
            names = tuple(all_tags(found) if kind == "tokens" else in_order(found))
        return cls(kind, names, text, label, max_length, metric)


KINDS: dict[str, Kind] = {
    "single-label": Kind(
        problem_type="single_label_classification",
        metrics=("accuracy", "macro_f1", "matthews", "f1"),
        of_two=("f1",),
        encode=class_indices,
        decide=lambda logits: logits.argmax(axis=-1),
        score=score_classes,
        probabilities=softmax,
    ),
    "multi-label": Kind(
        problem_type="multi_label_classification",
        metrics=("micro_f1", "macro_f1", "accuracy"),
        encode=many_hot,
        decide=lambda logits: logits > 0,
        score=score_many,
        probabilities=_each_alone,
    ),
    "regression": Kind(
        problem_type="regression",
        metrics=("pearson", "spearman"),
        encode=floats,
        decide=lambda logits: logits[:, 0],
        score=correlate,
        probabilities=None,
    ),
    "tokens": Kind(
        problem_type=None,
        metrics=("f1", "precision", "recall", "accuracy"),
        encode=word_classes,
        decide=lambda logits: logits.argmax(axis=-1),
        score=score_entities,
        probabilities=softmax,
        head="AutoModelForTokenClassification",
    ),
}
