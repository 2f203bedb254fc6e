"""A data set: where it comes from, its columns and splits, and its way into a model.

Everything is read as text, labels too: a label is a name, and only a `Task` knows its number.
"""

import ast
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from theseus_deploy.errors import DataError
from theseus_deploy.tables import Table, Tables, read_tables
from theseus_deploy.tasks import Label, Task, are_fractions

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
    ("tokens",),
    ("words",),
)
LABEL_COLUMNS = ("label", "labels", "sentiment", "category", "class", "intent", "target", "score", "ner_tags", "tags")
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")  # in a column that says whether a label applies
NO_LABEL = ("", "nan", "null")  # how writers of tables spell that there is none
PYTHON_ITEM = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'"]+""", re.DOTALL)  # of lists and numpy's arrays
IGNORED = -100  # the label of a token that the loss leaves out
AT_ONCE = 10_000  # rows that are tokenised together: the tokenizer's own notes take 15 kB a row, the tokens 0.3
HELD_OUT = 0.1  # the share of train that stands in for a validation split that is not there
HELD_OUT_SEED = 2020  # never the run's seed: every stage and every run must choose the same rows


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
        return self.take(sorted(random.Random(HELD_OUT_SEED).sample(range(len(self)), rows)), self.name)


@dataclass(frozen=True)
class Corpus:
    """A data set that was read: `ref` is what the user named, `one_file` whether that was a single file.

    `names` are all labels in the order that the data set gives, `metric` what it is usually judged by, where known.
    """

    ref: str
    text: tuple[str, ...]
    label: str
    splits: Mapping[str, Split]
    one_file: bool = False
    names: tuple[str, ...] = ()
    metric: str = ""

    @property
    def words(self) -> bool:
        """Tell whether inputs are the words of a sentence, each with a tag."""
        return all(split.words for split in self.splits.values())

    @cached_property
    def sha256(self) -> str:
        """Hash the content, so that a stage knows when its data changed."""
        known = [self.names, self.metric] if self.names or self.metric else []
        facts = [self.text, self.label, self.one_file, *known]
        digest = hashlib.sha256(json.dumps(facts).encode())
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
        if self.words:  # where there is no word, there is nothing to learn, and the loss is no number
            train = train.take([row for row, words in enumerate(train.texts) if words], train.name)
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
        names = [label for label in train.labels if isinstance(label, str)]
        if len(names) == len(train) and not are_fractions(set(names)):
            order.sort(key=_places(names, order).__getitem__)
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
    ref: str,
    text: tuple[str, ...] | None = None,
    label: str | None = None,
    task: Task | None = None,
    kind: str = "auto",
) -> Corpus:
    """Read a data set: a folder of splits, one file, a built-in name, or a Hub id (`nyu-mll/glue:mrpc`).

    `text` and `label` name the columns; without them the columns of `task` (what the model was trained on) are
    looked for, then the usual names. `kind` is how labels are understood, as in `Task.infer`.

    Raises:
        DataError: nothing is there, it cannot be read, a column is missing, or a split is empty.
    """
    tables = read_tables(ref)
    kind = task.kind if task else kind
    text, labels = _columns(ref, tables, text, label, task)
    splits = {name: _split(ref, name, table, text, labels, kind) for name, table in tables.splits.items()}
    if len({split.words for split in splits.values()}) > 1:
        tagged = ", ".join(name for name, split in splits.items() if split.words)
        raise DataError(f"{ref} has a tag for every word in {tagged} only; give all splits the same form")
    label = ",".join(labels)
    names = labels if len(labels) > 1 else tables.names.get(label, ())
    if kind in ("auto", "multi-label") and (width := _width(splits.values())):
        splits = {name: replace(split, labels=_switched_on(split.labels)) for name, split in splits.items()}
        names = names or tuple(map(str, range(width)))
    if task and _are_places(task.labels, names):
        place = {name: str(position) for position, name in enumerate(names)}
        splits = {name: split.renamed(place) for name, split in splits.items()}
        names = ()
    if task and task.kind == "multi-label" and len(labels) == 1 and labels[0] in task.labels:
        raise DataError(
            f"{ref}: --label {label} is one of the model's {len(task.labels)} labels; name the columns of all of them, "
            "in one --label with commas"
        )
    if task and _are_numbers(task.labels, splits.values()):
        place = {str(position): name for position, name in enumerate(task.labels)}
        splits = {name: split.renamed(place) for name, split in splits.items()}
    return Corpus(ref, text, label, splits, tables.one_file, names, tables.metrics.get(label, ""))


def _are_places(labels: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Tell whether a model's labels, as transformers calls them where nobody does, stand for the places of `names`."""
    unnamed = all(label in (f"LABEL_{place}", str(place)) for place, label in enumerate(labels))
    return unnamed and len(labels) == len(names) and not set(names) <= set(labels)


def _are_numbers(labels: tuple[str, ...], splits: Iterable[Split]) -> bool:
    """Tell whether numbers stand for the places of a model's labels, though some of these are numbers too.

    All splits decide it together, since one alone may lack the number that tells.
    """
    places = {str(place) for place in range(len(labels))}
    if places.isdisjoint(labels):
        return False
    given = (label for split in splits for label in split.labels)
    found = {name for label in given for name in ((label,) if isinstance(label, str) else label)}
    return not found <= set(labels) and found <= places


def tokenise(split: Split, task: Task, tokenizer: "PreTrainedTokenizerBase", ref: str) -> "Dataset":
    """Turn rows into what a model takes: `input_ids` ..., `labels`, and `length` in tokens for grouping.

    `reference` is what scores compare with. Where words are tagged, `starts` holds the place of each word's first
    token, -1 for a word that was cut off or that the tokenizer drops, and `labels` the tags at these places.
    """
    from datasets import concatenate_datasets

    reference = task.encode(split.labels, f"{ref} ({split.name})")
    starts = range(0, len(split), AT_ONCE)
    return concatenate_datasets(
        [
            _tokenised(split.texts[start : start + AT_ONCE], reference[start : start + AT_ONCE], task, tokenizer)
            for start in starts
        ]
    )


def _tokenised(
    texts: list[tuple[str, ...]], reference: list[Any], task: Task, tokenizer: "PreTrainedTokenizerBase"
) -> "Dataset":
    from datasets import Dataset

    truncated: dict[str, Any] = {"truncation": True, "max_length": task.max_length}
    if task.tags_words:
        encoded = tokenizer([list(words) for words in texts], is_split_into_words=True, **truncated)
        starts = [first_tokens(encoded.word_ids(row), len(words)) for row, words in enumerate(texts)]
        lengths = [len(ids) for ids in encoded["input_ids"]]
        labels = [_at(places, tags, size) for places, tags, size in zip(starts, reference, lengths, strict=True)]
        columns = {"labels": labels, "starts": starts}
    else:
        encoded = tokenizer(*(list(column) for column in zip(*texts, strict=True)), **truncated)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        columns = {"labels": reference}
    return Dataset.from_dict({**encoded, **columns, "reference": reference, "length": lengths})


def first_tokens(word_of: Sequence[int | None], words: int) -> list[int]:
    """Return the place of each word's first token, given each token's word; -1 for a word without a token."""
    places = [-1] * words
    for place in reversed(range(len(word_of))):
        if (word := word_of[place]) is not None:
            places[word] = place
    return places


def _at(places: list[int], tags: list[int], size: int) -> list[int]:
    labels = [IGNORED] * size
    for place, tag in zip(places, tags, strict=True):
        if place >= 0:
            labels[place] = tag
    return labels


def _columns(
    ref: str, tables: Tables, text: tuple[str, ...] | None, label: str | None, task: Task | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns of the text and of the label, as the table spells them."""
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
    if label is not None:
        labels = label_columns(label, names)
    else:
        trained = label_columns(task.label, names) if task else ()
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
                raise DataError(
                    f"{ref} ({split}) has no column {column!r} (columns: {', '.join(table)}); correct {flag}"
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


def label_columns(label: str, names: Collection[str]) -> tuple[str, ...]:
    """Return the columns that `--label` names: one, or for many labels one column each (`toxic,obscene`)."""
    parts = [part.strip() for part in label.split(",")] if label not in names else [label]
    return tuple(dict.fromkeys(part for part in parts if part))


def _split(ref: str, name: str, table: Table, text: tuple[str, ...], columns: tuple[str, ...], kind: str) -> Split:
    where, label = f"{ref} ({name})", ",".join(columns)
    if not table[text[0]]:
        raise DataError(f"{where} is empty; at least 1 row is needed: add rows, or remove the file")
    lists = [_lists(table[column]) for column in text]
    words = [row or () for row in lists[0]] if len(text) == 1 and lists[0] else None
    if kind == "tokens" and words is None:
        raise DataError(f"{where}: {text[0]!r} holds no lists of words, and the model tags words; name it with --text")
    labels = _flagged(where, table, columns) if len(columns) > 1 else _labels(where, table[label], label, kind)
    tagged = kind == "auto" and len(columns) == 1 and not isinstance(labels[0], str)
    if words and (kind == "tokens" or tagged):
        _check_tags(where, words, labels, text[0], label)
        return Split(name, words, labels, words=True)
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
    found: Sequence[Label | None] = _lists(values) or [value.strip() for value in values]
    labels: list[Label] = []
    for row, (value, cell) in enumerate(zip(found, values, strict=True), start=1):
        missing = value is None or (isinstance(value, str) and value.casefold() in NO_LABEL)
        if missing and kind != "multi-label":  # there, an input may have none
            shown = f" ({cell.strip()})" if cell.strip() else ""
            raise DataError(f"{where}, row {row}: the label {label!r} is empty{shown}; fill it in, or remove the row")
        labels.append(() if missing or value is None else value)
    return labels


def _width(splits: Collection[Split]) -> int:
    """Return the length of lists of 0 and 1 that say of every label there is whether it applies; 0 if they do not."""
    lists = [label for split in splits if not split.words for label in split.labels]
    widths = {0 if isinstance(row, str) else len(row) for row in lists}
    if len(widths) != 1 or min(widths) < 2 or not {item for row in lists for item in row} <= {*YES, *NO}:
        return 0
    return widths.pop()


def _switched_on(labels: list[Label]) -> list[Label]:
    return [tuple(str(place) for place, item in enumerate(row) if item in YES) for row in labels]


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


def _lists(values: list[str]) -> list[tuple[str, ...] | None] | None:
    """Read cells that hold lists, None for an empty one; None for all if any is no list of words or numbers."""
    lists = []
    for value in values:
        found = _list(value)
        if found is None and value.strip().casefold() not in NO_LABEL:
            return None
        lists.append(found)
    return lists if any(found is not None for found in lists) else None


def _list(value: str) -> tuple[str, ...] | None:
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
    if not all(isinstance(item, (str, int, float)) for item in items):
        return None
    return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in items)


def _literal(item: str) -> Any:
    return item[1:-1] if item[0] in "'\"" and "\\" not in item else ast.literal_eval(item)
