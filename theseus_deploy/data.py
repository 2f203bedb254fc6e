"""A data set: where it comes from, its columns and splits, and its way into a model.

Everything is read as text, labels too: a label is a name, and only a `Task` knows its number.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from theseus_deploy.errors import DataError
from theseus_deploy.tables import Table, read_tables
from theseus_deploy.tasks import Task, are_fractions

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

TEXT_COLUMNS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("text",),
    ("sentence",),
    ("tweet",),
    ("review",),
    ("content",),
)
LABEL_COLUMNS = ("label", "labels", "sentiment", "category", "class", "intent", "target", "score")
NO_LABEL = ("", "nan", "null")  # how writers of tables spell that there is none
HELD_OUT = 0.1  # the share of train that stands in for a validation split that is not there
HELD_OUT_SEED = 2020  # never the run's seed: every stage and every run must choose the same rows


@dataclass(frozen=True)
class Split:
    """Rows in order: `texts` holds one tuple an input, of one text or of a pair; `labels` their label texts."""

    name: str
    texts: list[tuple[str, ...]]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: list[int], name: str) -> "Split":
        """Return the rows asked for, as a split of its own."""
        return Split(name, [self.texts[row] for row in rows], [self.labels[row] for row in rows])

    def sample(self, rows: int | None) -> "Split":
        """Return at most so many rows, in their order, drawn the same each time."""
        if rows is None or rows >= len(self):
            return self
        return self.take(sorted(random.Random(HELD_OUT_SEED).sample(range(len(self)), rows)), self.name)


@dataclass(frozen=True)
class Corpus:
    """A data set that was read: `ref` is what the user named, `one_file` whether that was a single file."""

    ref: str
    text: tuple[str, ...]
    label: str
    splits: Mapping[str, Split]
    one_file: bool = False

    @cached_property
    def sha256(self) -> str:
        """Hash the content, so that a stage knows when its data changed."""
        digest = hashlib.sha256(json.dumps([self.text, self.label, self.one_file]).encode())
        for name, split in sorted(self.splits.items()):
            digest.update(json.dumps([name, split.texts, split.labels]).encode())
        return digest.hexdigest()

    def for_training(self) -> tuple[Split, Split]:
        """Return train and validation; where there is no validation, a fixed, stratified tenth of train stands in.

        Raises:
            DataError: there is no train split, or a split has too few rows.
        """
        if "train" not in self.splits:
            raise DataError(f"{self.ref} has no train split (it has {', '.join(self.splits)}); add a train file")
        train = self.splits["train"]
        if "validation" in self.splits:
            return train, self.splits["validation"]
        return self._held_out(train)

    def for_scoring(self) -> Split:
        """Return the rows to be judged on: test, else validation, else a lone file whole, else the held-out tenth."""
        for name in ("test", "validation"):
            if name in self.splits:
                return self.splits[name]
        return self.splits["train"] if self.one_file else self.for_training()[1]

    def _held_out(self, train: Split) -> tuple[Split, Split]:
        if len(train) < 10:
            raise DataError(
                f"{self.ref} has no validation split and {len(train)} training rows; at least 10 are needed "
                "to hold some out: add rows, or a validation file"
            )
        order = list(range(len(train)))
        random.Random(HELD_OUT_SEED).shuffle(order)
        if not are_fractions(set(train.labels)):
            order.sort(key=_places(train.labels, order).__getitem__)
        kept = len(train) - max(2, round(len(train) * HELD_OUT))
        return train.take(sorted(order[:kept]), "train"), train.take(sorted(order[kept:]), "validation")


def _places(labels: list[str], order: list[int]) -> dict[int, float]:
    """Say for each row where in its class it stands, from 0 to 1: a cut anywhere in that order is stratified.

    The first row of every class stands at 0, so that a class with few rows is learned rather than held out.
    """
    size, seen = Counter(labels), Counter[str]()
    places = {}
    for row in order:
        places[row] = seen[labels[row]] / size[labels[row]]
        seen[labels[row]] += 1
    return places


def open_data(
    ref: str, text: tuple[str, ...] | None = None, label: str | None = None, task: Task | None = None
) -> Corpus:
    """Read a data set: a folder of splits, one file, a built-in name, or a Hub id (`nyu-mll/glue:mrpc`).

    `text` and `label` name the columns; without them the columns of `task` (what the model was trained on) are
    looked for, then the usual names.

    Raises:
        DataError: nothing is there, it cannot be read, a column is missing, or a split is empty.
    """
    tables, one_file = read_tables(ref)
    columns = _columns(ref, tables, text, label, task)
    splits = {name: _split(ref, name, table, *columns) for name, table in tables.items()}
    return Corpus(ref, *columns, splits, one_file)


def tokenise(split: Split, task: Task, tokenizer: "PreTrainedTokenizerBase", ref: str) -> "Dataset":
    """Turn rows into what a model takes: `input_ids` ..., `labels`, and `length` in tokens for grouping."""
    from datasets import Dataset

    labels = task.encode(split.labels, f"{ref} ({split.name})")
    columns = tuple(list(column) for column in zip(*split.texts, strict=True))
    encoded = tokenizer(*columns, truncation=True, max_length=task.max_length)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict({**encoded, "labels": labels, "length": lengths})


def _columns(
    ref: str, tables: dict[str, Table], text: tuple[str, ...] | None, label: str | None, task: Task | None
) -> tuple[tuple[str, ...], str]:
    for split, table in tables.items():
        if not table:
            raise DataError(f"{ref} ({split}) is empty; give a file with a header and rows")
    names = list(next(iter(tables.values())))
    shown = ", ".join(names)
    if text is None:
        candidates = ((task.text,) if task else ()) + TEXT_COLUMNS
        found = (_named(columns, names) for columns in candidates if columns)
        text = next((columns for columns in found if columns), None)
        if text is None:
            raise DataError(f"{ref} has no column known to hold text (columns: {shown}); name it with --text")
    if not 1 <= len(text) <= 2:
        raise DataError(f"--text names {len(text)} columns; an input is one text or a pair: name 1 or 2")
    if label is None:
        candidates = (((task.label,),) if task else ()) + tuple((name,) for name in LABEL_COLUMNS)
        free = [name for name in names if name not in text]
        label = next((columns[0] for columns in (_named(known, free) for known in candidates) if columns), None)
        if label is None:
            raise DataError(f"{ref} has no column known to hold labels (columns: {shown}); name it with --label")
    if label in text:
        raise DataError(f"--label {label!r} is a column of --text too; a model would read its answer: name another")
    for split, table in tables.items():
        for flag, column in (*(("--text", column) for column in text), ("--label", label)):
            if column not in table:
                raise DataError(
                    f"{ref} ({split}) has no column {column!r} (columns: {', '.join(table)}); correct {flag}"
                )
    return text, label


def _named(wanted: Iterable[str], names: list[str]) -> tuple[str, ...]:
    """Return the columns of these names, as the file spells them, or none; `Label` stands for `label`."""
    spelled = {name.casefold(): name for name in reversed(names)} | {name: name for name in names}
    found = tuple(spelled.get(name, spelled.get(name.casefold(), "")) for name in wanted)
    return found if all(found) else ()


def _split(ref: str, name: str, table: Table, text: tuple[str, ...], label: str) -> Split:
    texts = list(zip(*(table[column] for column in text), strict=True))
    labels = [value.strip() for value in table[label]]
    if not texts:
        raise DataError(f"{ref} ({name}) is empty; at least 1 row is needed: add rows, or remove the file")
    for row, value in enumerate(labels, start=1):
        if value.casefold() in NO_LABEL:
            shown = f" ({value})" if value else ""
            raise DataError(
                f"{ref} ({name}), row {row}: the label {label!r} is empty{shown}; fill it in, or remove the row"
            )
    return Split(name, texts, labels)
