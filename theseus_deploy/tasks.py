"""What a model is asked to do: which head, which labels, which metrics. The kinds of task are a table, not branches.

An *item* is what gets one answer: an input, or where words are tagged each word of it. Logits always have the shape
(items, labels), whatever the head.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.errors import ConfigError, DataError, suggest

Array = NDArray[np.floating[Any]]
Label = str | tuple[str, ...]  # a name or number; the names of many labels; or the tags of an input's words
Reference = int | float | list[float] | list[int]  # a class; a number; many classes, each 0 or 1; a class a word
SEPARATORS = ",;|"  # between the names of many labels in one cell
OUTSIDE = "O"  # the tag of a word outside any entity
PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}  # BIO, BIOES, BILOU; seqeval's names


@dataclass(frozen=True)
class Kind:
    """The facts of one kind of task.

    `head` is transformers' class of model and `problem_type` the name it gives the loss; `scores` are the metrics by
    which a task may be judged, its own first. `decide` turns logits of shape (items, labels) into decisions, (items,)
    or (items, labels); `probabilities` into distributions along the last axis; `metrics` maps a task, decisions and
    references to scores.
    """

    problem_type: str | None
    scores: tuple[str, ...]
    encode: Callable[["Task", Sequence[Label], str], list[Any]]
    decide: Callable[[Array], NDArray[Any]]
    metrics: Callable[["Task", NDArray[Any], Any], dict[str, float]]
    probabilities: Callable[[Array], Array] | None
    head: str = "AutoModelForSequenceClassification"
    of_two: tuple[str, ...] = ()  # metrics that only two labels have

    @property
    def primary(self) -> str:
        """Name the metric that decides where nothing else is known."""
        return self.scores[0]


def softmax(logits: Array) -> Array:
    """Turn logits of shape (..., labels) into probabilities."""
    exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = exponent / exponent.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Array) -> Array:
    """Turn logits of any shape into probabilities, each on its own."""
    probabilities: Array = np.exp(-np.logaddexp(0, -logits))
    return probabilities


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
        return [name for name in self.facts.scores if name not in self.facts.of_two or len(self.labels) == 2]

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
        return self.facts.encode(self, values, where)

    def score(self, logits: Array, references: Sequence[Reference]) -> dict[str, float]:
        """Return every metric of this kind of task, for logits of shape (items, labels)."""
        return self.facts.metrics(self, self.decide(logits), references)

    def decide(self, logits: Array) -> NDArray[Any]:
        """Turn logits of shape (items, labels) into decisions, (items,) or (items, labels).

        A word that was cut off, whose logits are zeros, is outside any entity.
        """
        decisions = self.facts.decide(logits)
        if self.tags_words and OUTSIDE in self.labels:
            decisions[~logits.any(axis=1)] = self.labels.index(OUTSIDE)
        return decisions

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
        """Read the `task` object of `theseus.json`."""
        return cls(
            data["kind"], tuple(data["labels"]), tuple(data["text"]), data["label"], int(data["max_length"]),
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
        """
        distinct = set(values)
        single = {value for value in distinct if isinstance(value, str)}
        if kind == "auto":
            kind = "regression" if are_fractions(single) else "single-label" if single else "multi-label"
        if kind == "regression":
            return cls(kind, (), text, label, max_length, metric)
        found = {name for value in distinct for name in _names(value, kind)}
        if not (names and found <= set(names)):
            names = tuple(_tags(found) if kind == "tokens" else _in_order(found))
        return cls(kind, names, text, label, max_length, metric)


def are_fractions(names: Collection[str]) -> bool:
    """Tell whether labels are the numbers of a regression: all of them finite, and one of them no whole number."""
    return any(number != int(number) for number in _numbers(names).values())


def _numbers(names: Collection[str]) -> dict[str, float]:
    """Return the number that each name stands for, or nothing at all where one stands for none."""
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        return {}
    return numbers if np.isfinite(list(numbers.values())).all() else {}


def _names(value: Label, kind: str) -> tuple[str, ...]:
    """Return the names in a cell: one, or as many as it lists."""
    if not isinstance(value, str):
        return value
    if kind != "multi-label":
        return (value,)
    for separator in SEPARATORS[1:]:
        value = value.replace(separator, SEPARATORS[0])
    return tuple(name.strip() for name in value.split(SEPARATORS[0]) if name.strip())


def _in_order(names: Collection[str]) -> list[str]:
    """Sort names, and those that are all numbers as numbers."""
    numbers = _numbers(names)
    return sorted(names, key=lambda name: (numbers.get(name, 0.0), name))


def _tags(found: Collection[str]) -> list[str]:
    """Order tags by what they tag; an entity that may begin may also go on, even if none does in train."""
    entities = {tag for tag in found if _is_part(tag)}
    if not entities:
        return _in_order(found)
    prefixes = {tag[0] for tag in entities} | {"I"}
    tags = {*found, *(f"{prefix}-{tag[2:]}" for prefix in prefixes for tag in entities)}
    return sorted(tags, key=lambda tag: (tag.partition("-")[2], tag))


def _is_part(tag: str) -> bool:
    """Tell whether a tag says which part of an entity a word is: `B-person`."""
    return tag[1:2] == "-" and tag[0] in PREFIXES


def _index_of(task: Task, values: Iterable[str]) -> dict[str, int]:
    """Map each label to its index; where the values are no names, its number stands for it."""
    index = {name: position for position, name in enumerate(task.labels)}
    digits = {str(position): position for position in range(len(task.labels))}
    distinct = set(values)
    return digits if not index.keys() >= distinct and digits.keys() >= distinct else index


def _unknown(task: Task, value: str, row: int, where: str) -> DataError:
    known = ", ".join(task.labels[:10]) + (", ..." if len(task.labels) > 10 else "")
    return DataError(
        f"{where}, row {row}: label {value!r} is not one the model knows ({known}); "
        "correct the file, or name another column with --label"
    )


def _class_indices(task: Task, values: Sequence[Label], where: str) -> list[int]:
    index = _index_of(task, (value for value in values if isinstance(value, str)))
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str):
            raise DataError(
                f"{where}, row {row}: the label is a list ({', '.join(value)[:60]}), and the model gives one label; "
                "name another column with --label"
            )
        if value not in index:
            raise _unknown(task, value, row, where)
    return [index[str(value)] for value in values]


def _many_hot(task: Task, values: Sequence[Label], where: str) -> list[list[float]]:
    cells = [_names(value, task.kind) for value in values]
    index = _index_of(task, (name for cell in cells for name in cell))
    rows = np.zeros((len(cells), len(task.labels)))
    for row, cell in enumerate(cells):
        for name in cell:
            if name not in index:
                raise _unknown(task, name, row + 1, where)
            rows[row, index[name]] = 1.0
    encoded: list[list[float]] = rows.tolist()
    return encoded


def _word_classes(task: Task, values: Sequence[Label], where: str) -> list[list[int]]:
    index = _index_of(task, (tag for value in values for tag in value))
    for row, value in enumerate(values, start=1):
        if isinstance(value, str):
            raise DataError(
                f"{where}, row {row}: {value!r} is no list, and the model tags words; give a list of one tag a word"
            )
        for tag in value:
            if tag not in index:
                raise _unknown(task, tag, row, where)
    return [[index[tag] for tag in value] for value in values]


def _floats(task: Task, values: Sequence[Label], where: str) -> list[float]:
    del task
    numbers = []
    for row, value in enumerate(values, start=1):
        try:
            number = float(value)  # type: ignore[arg-type]  # a list is a TypeError, and no number
        except (TypeError, ValueError):
            number = float("nan")
        if not np.isfinite(number):
            raise DataError(
                f"{where}, row {row}: {value!r} is not a number, and the model is a regression; correct the file"
            )
        numbers.append(number)
    return numbers


def _class_metrics(task: Task, decisions: Array, references: Sequence[int]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    constant = np.ptp(decisions) == 0 or np.ptp(references) == 0  # no correlation then; sklearn says 0 too, and warns
    scores = {
        "accuracy": float(accuracy_score(references, decisions)),
        "macro_f1": float(f1_score(references, decisions, average="macro", zero_division=0.0)),
        "matthews": 0.0 if constant else float(matthews_corrcoef(references, decisions)),
    }
    if len(task.labels) == 2:  # of the second label, as GLUE and sklearn have it
        scores["f1"] = float(f1_score(references, decisions, zero_division=0.0))
    return scores


def _many_metrics(task: Task, decisions: Array, references: Sequence[list[float]]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    del task
    truth = np.asarray(references) > 0
    return {
        "micro_f1": float(f1_score(truth, decisions, average="micro", zero_division=0.0)),
        "macro_f1": float(f1_score(truth, decisions, average="macro", zero_division=0.0)),
        "accuracy": float(accuracy_score(truth, decisions)),  # all labels of an input right
    }


def _entity_metrics(task: Task, decisions: Array, references: Sequence[list[int]]) -> dict[str, float]:
    """Score entities, as CoNLL does, and words. Tags without a prefix (parts of speech) are entities of one word."""
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    names = [as_seqeval(tag) for tag in task.labels]
    bounds = np.cumsum([0, *map(len, references)])
    truth = [[names[tag] for tag in row] for row in references]
    found = [[names[tag] for tag in decisions[start:stop]] for start, stop in pairwise(bounds)]
    precision, recall, f1, _ = precision_recall_fscore_support(truth, found, average="micro", zero_division=0)
    words = np.concatenate([np.asarray(row, dtype=np.int64) for row in references])
    return {
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
        "accuracy": float((decisions == words).mean()),
    }


def as_seqeval(tag: str) -> str:
    """Write a tag as seqeval reads it: BIO or BIOES; one without a prefix is an entity of one word."""
    if tag == OUTSIDE:
        return tag
    return f"{PREFIXES[tag[0]]}-{tag[2:]}" if _is_part(tag) else f"B-{tag}"


def _correlations(task: Task, decisions: Array, references: Sequence[float]) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    del task
    if np.ptp(decisions) == 0 or np.ptp(references) == 0:  # a correlation with a constant is undefined
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(decisions, references).statistic),
        "spearman": float(spearmanr(decisions, references).statistic),
    }


def _each_alone(logits: Array) -> Array:
    """Turn logits of shape (items, labels) into a distribution over yes and no for each label."""
    yes = sigmoid(logits)
    return np.stack([yes, 1 - yes], axis=-1)


KINDS: dict[str, Kind] = {
    "single-label": Kind(
        problem_type="single_label_classification",
        scores=("accuracy", "macro_f1", "matthews", "f1"),
        of_two=("f1",),
        encode=_class_indices,
        decide=lambda logits: logits.argmax(axis=-1),
        metrics=_class_metrics,
        probabilities=softmax,
    ),
    "multi-label": Kind(
        problem_type="multi_label_classification",
        scores=("micro_f1", "macro_f1", "accuracy"),
        encode=_many_hot,
        decide=lambda logits: logits > 0,
        metrics=_many_metrics,
        probabilities=_each_alone,
    ),
    "regression": Kind(
        problem_type="regression",
        scores=("pearson", "spearman"),
        encode=_floats,
        decide=lambda logits: logits[:, 0],
        metrics=_correlations,
        probabilities=None,
    ),
    "tokens": Kind(
        problem_type=None,
        scores=("f1", "precision", "recall", "accuracy"),
        encode=_word_classes,
        decide=lambda logits: logits.argmax(axis=-1),
        metrics=_entity_metrics,
        probabilities=softmax,
        head="AutoModelForTokenClassification",
    ),
}
