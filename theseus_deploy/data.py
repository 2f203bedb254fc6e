"""A data set: where it comes from, its columns and splits, and its way into a model.

Everything is read as text, labels too: a label is a name, and only a `Task` knows its number.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from theseus_deploy.errors import DataError
from theseus_deploy.tables import Table, read_tables
from theseus_deploy.tasks import Task

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
HELD_OUT = 0.1  # the share of train that stands in for a validation split that is not there
HELD_OUT_SEED = 2020  # never the run's seed: every stage must hold out the same rows


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
        from sklearn.model_selection import train_test_split

        if len(train) < 10:
            raise DataError(
                f"{self.ref} has no validation split and {len(train)} training rows; at least 10 are needed "
                "to hold some out: add rows, or a validation file"
            )
        counts = Counter(train.labels)
        held = max(2, round(len(train) * HELD_OUT))
        stratified = min(counts.values()) >= 2 and len(counts) <= held
        kept, out = train_test_split(
            range(len(train)),
            test_size=held,
            random_state=HELD_OUT_SEED,
            stratify=train.labels if stratified else None,
        )
        return train.take(sorted(kept), "train"), train.take(sorted(out), "validation")


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
    names = list(next(iter(tables.values())))
    if not names:
        raise DataError(f"{ref} is empty; give a file with a header and rows")
    shown = ", ".join(names)
    if text is None:
        candidates = ((task.text,) if task else ()) + TEXT_COLUMNS
        text = next((columns for columns in candidates if columns and set(columns) <= set(names)), None)
        if text is None:
            raise DataError(f"{ref} has no column known to hold text (columns: {shown}); name it with --text")
    if label is None:
        labels = ((task.label,) if task else ()) + LABEL_COLUMNS
        label = next((name for name in labels if name in names and name not in text), None)
        if label is None:
            raise DataError(f"{ref} has no column known to hold labels (columns: {shown}); name it with --label")
    for split, table in tables.items():
        for flag, column in (*(("--text", column) for column in text), ("--label", label)):
            if column not in table:
                raise DataError(
                    f"{ref} ({split}) has no column {column!r} (columns: {', '.join(table)}); correct {flag}"
                )
    return text, label


def _split(ref: str, name: str, table: Table, text: tuple[str, ...], label: str) -> Split:
    texts, labels = list(zip(*(table[column] for column in text), strict=True)), table[label]
    if not texts:
        raise DataError(f"{ref} ({name}) is empty; at least 1 row is needed: add rows, or remove the file")
    for row, value in enumerate(labels, start=1):
        if not value.strip() or value == "null":
            raise DataError(f"{ref} ({name}), row {row}: the label {label!r} is empty; fill it in, or remove the row")
    return Split(name, texts, labels)
