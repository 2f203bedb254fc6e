"""The rows of a table: which columns hold text and labels, and what their cells say.

Everything is read as text, labels too: a label is a name, and only a `Task` knows its number.
"""

import ast
import json
import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Any

from theseus_deploy.errors import DataError
from theseus_deploy.labels import Label
from theseus_deploy.tables.table import MISSING, Table, Tables
from theseus_deploy.tasks import Task

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
    ("tokens",),
    ("words",),
)
LABEL_COLUMNS = ("label", "labels", "sentiment", "category", "class", "intent", "target", "score", "ner_tags", "tags")
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")  # in a column that says whether a label applies
NO_LABEL = ("", "nan", "null")  # how writers of tables spell that there is none
SHOWN = 80  # characters of a cell in a message
PYTHON_ITEM = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'"]+""", re.DOTALL)  # of lists and numpy's arrays
DRAW_SEED = 2020  # never the run's seed: every stage and every run must choose the same rows


@dataclass(frozen=True)
class Split:
    """Rows in order: `texts` holds one tuple an input, of one text or of a pair; `labels` what was said of them.

    With `words` an input is the words of a sentence instead, and its label one tag for each.
    """

    name: str
    texts: list[tuple[str, ...]]
    labels: list[Label]
    words: bool = False

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def names(self) -> set[str]:
        """Return every label that some row has."""
        return {name for label in self.labels for name in ((label,) if isinstance(label, str) else label)}

    def take(self, rows: list[int], name: str) -> "Split":
        """Return the rows asked for, as a split of its own."""
        return replace(
            self, name=name, texts=[self.texts[row] for row in rows], labels=[self.labels[row] for row in rows]
        )

    def renamed(self, names: Mapping[str, str]) -> "Split":
        """Return the same rows with other names for their labels."""
        return replace(
            self,
            labels=[
                names.get(label, label) if isinstance(label, str) else tuple(names.get(name, name) for name in label)
                for label in self.labels
            ],
        )

    def sample(self, rows: int | None) -> "Split":
        """Return at most so many rows, in their order, drawn the same each time."""
        if rows is None or rows >= len(self):
            return self
        return self.take(sorted(random.Random(DRAW_SEED).sample(range(len(self)), rows)), self.name)


def find_columns(
    ref: str, tables: Tables, text: tuple[str, ...] | None, label: str | None, task: Task | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns of the text and of the label, as the table spells them.

    Columns asked for come first, then those that `task` was trained on, then the usual names.

    Raises:
        DataError: a table is empty, or a column is missing or unknown.
    """
    for split, table in tables.splits.items():
        if not table:
            raise DataError(f"{ref} ({split}) is empty; give a file with a header and rows")
    names = list(next(iter(tables.splits.values())))
    shown = ", ".join(names)
    if text is None:
        text = _first_named(((task.text if task else ()), tables.text, *TEXT_COLUMNS), names)
        if not text:
            raise DataError(f"{ref} has no column known to hold text (columns: {shown}); name it with --text")
    if not 1 <= len(text) <= 2:
        raise DataError(f"--text names {len(text)} columns; an input is one text or a pair: name 1 or 2")
    if task and task.text and len(text) != len(task.text):
        raise DataError(
            f"{ref}: {' and '.join(text)} would be an input, and the model was trained on {len(task.text)} texts each "
            f"({', '.join(task.text)}); name as many with --text"
        )
    if label is not None:
        labels = _label_columns(label, names)
    else:
        trained = _label_columns(task.label, names) if task else ()
        usual = ((name,) for name in LABEL_COLUMNS)
        labels = _first_named((trained, *usual), [name for name in names if name not in text])
    if not labels:
        raise DataError(f"{ref} has no column known to hold labels (columns: {shown}); name it with --label")
    if both := set(labels).intersection(text):
        raise DataError(
            f"--label {both.pop()!r} is a column of --text too; a model would read its answer: name another"
        )
    for split, table in tables.splits.items():
        for flag, column in (*(("--text", column) for column in text), *(("--label", column) for column in labels)):
            if column not in table:
                hidden = split == "test" and flag == "--label"
                remedy = ", or move the file out of the folder if its labels are nowhere" if hidden else ""
                raise DataError(
                    f"{ref} ({split}) has no column {column!r} (columns: {', '.join(table)}); correct {flag}{remedy}"
                )
    return text, labels


def _first_named(candidates: Iterable[tuple[str, ...]], names: list[str]) -> tuple[str, ...]:
    """Return the first columns that are all there, as the table spells them; `Label` stands for `label`."""
    spelled = {name.casefold(): name for name in reversed(names)} | {name: name for name in names}
    for wanted in candidates:
        found = tuple(spelled.get(name, spelled.get(name.casefold(), "")) for name in wanted)
        if found and all(found):
            return found
    return ()


def _label_columns(label: str, names: Collection[str]) -> tuple[str, ...]:
    """Return the columns that `--label` names: one, or for many labels one column each (`toxic,obscene`)."""
    parts = [part.strip() for part in label.split(",")] if label not in names else [label]
    return tuple(dict.fromkeys(part for part in parts if part))


def read_split(ref: str, name: str, table: Table, text: tuple[str, ...], columns: tuple[str, ...], kind: str) -> Split:
    """Read the rows of a table, `kind` being how labels are understood, as in `Task.infer`.

    Raises:
        DataError: there is no row, or a cell holds what its column cannot.
    """
    where, label = f"{ref} ({name})", ",".join(columns)
    if not table[text[0]]:
        raise DataError(f"{where} is empty; at least 1 row is needed: add rows, or remove the file")
    lists = [_lists(where, column, table[column]) for column in text]
    words = [row or () for row in lists[0]] if len(text) == 1 and lists[0] else None
    if kind == "tokens" and words is None:
        _check_mixed(where, text[0], table[text[0]], str)
        raise DataError(f"{where}: {text[0]!r} holds no lists of words, and the model tags words; name it with --text")
    labels = _flagged(where, table, columns) if len(columns) > 1 else _labels(where, table[label], label, kind)
    tagged = kind == "auto" and len(columns) == 1 and not isinstance(labels[0], str)
    if tagged and words is None and len(text) == 1:
        remedy = ", or take every text as it stands with --task multi-label"
        _check_mixed(where, text[0], table[text[0]], str, remedy)
    if words and (kind == "tokens" or tagged):
        _check_tags(where, words, labels, text[0], label)
        return Split(name, words, labels, words=True)
    for column, found in zip(text, lists, strict=True):
        if found is None and (row := next((row for row, cell in enumerate(table[column], 1) if cell is MISSING), None)):
            raise DataError(f"{where}, row {row}: the text {column!r} is missing; fill it in, or remove the row")
    joined = [
        [" ".join(row or ()) for row in found] if found else table[column]
        for column, found in zip(text, lists, strict=True)
    ]
    return Split(name, list(zip(*joined, strict=True)), labels)


def _check_tags(where: str, words: list[tuple[str, ...]], labels: list[Label], text: str, label: str) -> None:
    for row, (found, tags) in enumerate(zip(words, labels, strict=True), start=1):
        given = 1 if isinstance(tags, str) else len(tags)
        if isinstance(tags, str) or given != len(found):
            raise DataError(
                f"{where}, row {row}: {len(found)} words in {text!r} and {given} tags in {label!r}; "
                "give a list of one tag a word (where labels are of the input as a whole: --task multi-label)"
            )
    if not any(words):
        raise DataError(f"{where} holds no words in {text!r}; at least 1 is needed: correct the file")


def _labels(where: str, values: list[str], label: str, kind: str) -> list[Label]:
    lists = _lists(where, label, values)
    if lists is None and kind in ("auto", "multi-label", "tokens"):
        remedy = ", or take every label as it stands with --task single-label" if kind == "auto" else ""
        _check_mixed(where, label, values, str | int | float, remedy)
    found: Sequence[Label | None] = lists or [value.strip() for value in values]
    labels: list[Label] = []
    for row, (value, cell) in enumerate(zip(found, values, strict=True), start=1):
        missing = value is None or (isinstance(value, str) and value.casefold() in NO_LABEL)
        if missing and kind != "multi-label":  # there, an input may have none
            shown = f" ({cell.strip()})" if cell.strip() else ""
            raise DataError(f"{where}, row {row}: the label {label!r} is empty{shown}; fill it in, or remove the row")
        labels.append(() if missing or value is None else value)
    return labels


def _flagged(where: str, table: Table, columns: tuple[str, ...]) -> list[Label]:
    """Read many labels off one column each: an input has those whose column says yes."""
    for column in columns:
        for row, value in enumerate(table[column], start=1):
            if value.strip().casefold() not in (*YES, *NO):
                raise DataError(
                    f"{where}, row {row}: {value!r} in {column!r} is neither 1 nor 0; of several columns in --label "
                    "each says whether its label applies: correct it"
                )
    rows = zip(*(table[column] for column in columns), strict=True)
    return [
        tuple(column for column, value in zip(columns, row, strict=True) if value.strip().casefold() in YES)
        for row in rows
    ]


def _lists(where: str, column: str, values: list[str]) -> list[tuple[str, ...] | None] | None:
    """Read cells that hold lists, None for an empty one; None for all if any is no list."""
    lists: list[tuple[str, ...] | None] = []
    holes = []
    for row, value in enumerate(values, start=1):
        found = _list(value)
        if found is None and value.strip().casefold() not in NO_LABEL:
            return None
        if found is not None and not all(isinstance(item, (str, int, float)) for item in found):
            holes.append(row)
            continue
        lists.append(found and tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in found))
    if holes and any(lists):
        raise DataError(
            f"{where}, row {holes[0]}: the list in {column!r} holds what is neither a word nor a number; correct it"
        )
    return lists if not holes and any(found is not None for found in lists) else None


def _check_mixed(where: str, column: str, values: list[str], items: type | UnionType, remedy: str = "") -> None:
    """Refuse a column in which some cells hold lists of `items`, and others no list."""
    lists = [_list(value) for value in values]
    full = next(
        (row for row, found in enumerate(lists, 1) if found and all(isinstance(one, items) for one in found)), 0
    )
    if not full:
        return
    for row, (value, found) in enumerate(zip(values, lists, strict=True), 1):
        if found is None and value[:SHOWN].strip().casefold() not in NO_LABEL:
            raise DataError(
                f"{where}, row {row}: {value[:SHOWN]!r} in {column!r} is no list, and row {full} has one; "
                f"correct it{remedy}"
            )


def _list(value: str) -> tuple[Any, ...] | None:
    """Read a list as JSON writes it, or as Python and numpy do, whose way is how pandas puts a list into a csv."""
    if not (value.startswith("[") and value.endswith("]")):
        return None
    try:
        items = json.loads(value)
    except (ValueError, RecursionError):
        try:
            items = [_literal(item) for item in PYTHON_ITEM.findall(value[1:-1])]
        except (ValueError, SyntaxError):
            return None
    return tuple(items)


def _literal(item: str) -> Any:
    return item[1:-1] if item[0] in "'\"" and "\\" not in item else ast.literal_eval(item)
