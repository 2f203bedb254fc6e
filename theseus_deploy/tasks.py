"""What a model is asked to do: which head, which labels, which metrics. The kinds of task are a table, not branches."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.errors import ConfigError, DataError, suggest

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Kind:
    """The facts of one kind of task.

    `problem_type` is the name transformers gives its loss; `primary` is the metric that decides; `decide` turns
    logits of shape (inputs, labels) into what the metrics compare; `metrics` maps (decisions, references) to scores.
    """

    problem_type: str
    primary: str
    decide: Callable[[Array], Array]
    metrics: Callable[[Array, Array], dict[str, float]]


def softmax(logits: Array) -> Array:
    """Turn logits of shape (..., labels) into probabilities."""
    exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = exponent / exponent.sum(axis=-1, keepdims=True)
    return probabilities


def _classification_metrics(decisions: Array, references: Array) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    constant = np.ptp(decisions) == 0 or np.ptp(references) == 0  # no correlation then; sklearn says 0 too, and warns
    return {
        "accuracy": float(accuracy_score(references, decisions)),
        "macro_f1": float(f1_score(references, decisions, average="macro", zero_division=0.0)),
        "matthews": 0.0 if constant else float(matthews_corrcoef(references, decisions)),
    }


def _regression_metrics(decisions: Array, references: Array) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(decisions) == 0 or np.ptp(references) == 0:  # a correlation with a constant is undefined
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(decisions, references).statistic),
        "spearman": float(spearmanr(decisions, references).statistic),
    }


KINDS: dict[str, Kind] = {
    "single-label": Kind(
        problem_type="single_label_classification",
        primary="accuracy",
        decide=lambda logits: logits.argmax(axis=-1),
        metrics=_classification_metrics,
    ),
    "regression": Kind(
        problem_type="regression",
        primary="pearson",
        decide=lambda logits: logits[:, 0],
        metrics=_regression_metrics,
    ),
}


@dataclass(frozen=True)
class Task:
    """A kind of task with its labels, the columns its text and label come from, and the longest input in tokens."""

    kind: str
    labels: tuple[str, ...]
    text: tuple[str, ...]
    label: str
    max_length: int = 128

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"task kind {self.kind!r} is unknown; {suggest(self.kind, list(KINDS))}")
        if self.kind != "regression" and len(self.labels) < 2:
            raise DataError(
                f"classification with {len(self.labels)} label ({', '.join(self.labels)}); at least 2 are needed: "
                f"check the label column {self.label!r}"
            )

    @property
    def facts(self) -> Kind:
        """Return the row of `KINDS` this task follows."""
        return KINDS[self.kind]

    @property
    def outputs(self) -> int:
        """Count the numbers the head answers with for one input."""
        return len(self.labels) or 1

    def encode(self, values: Sequence[str], where: str) -> list[int] | list[float]:
        """Turn label texts into what the loss compares: class indices, or floats for a regression.

        Class names are matched first. A column that holds nothing but the numbers 0..labels-1 is taken as indices.

        Raises:
            DataError: a value the model does not know; `where` names the place in the message.
        """
        if self.kind == "regression":
            return [_number(value, row, where) for row, value in enumerate(values, start=1)]
        index = {name: position for position, name in enumerate(self.labels)}
        digits = {str(position): position for position in range(len(self.labels))}
        if not index.keys() >= set(values) and digits.keys() >= set(values):
            index = digits
        for row, value in enumerate(values, start=1):
            if value not in index:
                known = ", ".join(self.labels[:10]) + (", ..." if len(self.labels) > 10 else "")
                raise DataError(
                    f"{where}, row {row}: label {value!r} is not one the model knows ({known}); "
                    "correct the file, or name another column with --label"
                )
        return [index[value] for value in values]

    def score(self, logits: Array, references: Sequence[int] | Sequence[float]) -> dict[str, float]:
        """Return every metric of this kind of task, for logits of shape (inputs, labels)."""
        return self.facts.metrics(self.facts.decide(logits), np.asarray(references))

    def with_columns(self, text: tuple[str, ...], label: str) -> "Task":
        """Return this task reading other columns."""
        return replace(self, text=text, label=label)

    def to_json(self) -> dict[str, Any]:
        """Return the `task` object of `theseus.json`."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "text": list(self.text),
            "label": self.label,
            "max_length": self.max_length,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Task":
        """Read the `task` object of `theseus.json`."""
        return cls(data["kind"], tuple(data["labels"]), tuple(data["text"]), data["label"], int(data["max_length"]))

    @classmethod
    def infer(cls, values: Sequence[str], text: tuple[str, ...], label: str, max_length: int) -> "Task":
        """Read the kind of task and its labels off the label column of a training split.

        Fractions make it a regression; anything else is a class name. Names that are numbers sort as numbers.
        """
        names = set(values)
        if are_fractions(names):
            return cls("regression", (), text, label, max_length)
        numbers = _numbers(names)
        ordered = sorted(names, key=lambda name: (numbers.get(name, 0.0), name))
        return cls("single-label", tuple(ordered), text, label, max_length)


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


def _number(value: str, row: int, where: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(
            f"{where}, row {row}: {value!r} is not a number, and the model is a regression; correct the file"
        )
    return number
