"""A data set: where it comes from, its splits, and which of them is learned from, chosen by and judged on."""

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from theseus_deploy.errors import DataError
from theseus_deploy.labels import Label, are_fractions, are_numbers, divided, in_order
from theseus_deploy.progress import Progress
from theseus_deploy.splits import DRAW_SEED, NO, SHOWN, YES, Split, find_columns, read_split
from theseus_deploy.tables.read import read_tables
from theseus_deploy.tasks import Task

WHOLE = re.compile(r"-?\d+(\.0)?")  # a number that pandas may have written as a fraction
HELD_OUT = 0.1  # the share of train that stands in for a validation split that is not there
MANY_REPEATS = 0.05  # of the validation rows


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
        """Return train and validation; where there is no validation, a fixed tenth of train stands in.

        It is stratified where an input has one label with a name, and drawn at random where it has several.

        Raises:
            DataError: there is no train split, or a split has too few rows.
        """
        train = self._train()
        if "validation" in self.splits:
            return train, self.splits["validation"]
        return self._held_out(train)

    def for_scoring(self) -> Split:
        """Return the rows to be judged on: test, else validation, else a lone file whole, else the held-out tenth."""
        for name in ("test", "validation"):
            if name in self.splits:
                return self.splits[name]
        return self.splits["train"] if self.one_file else self.for_training()[1]

    def for_calibration(self) -> Split:
        """Return the rows to quantise by: those of train that nothing is judged on, or all where there are no others.

        Raises:
            DataError: a split has too few rows.
        """
        if self.one_file or "train" not in self.splits:
            return self.for_scoring()
        return self._train() if {"test", "validation"} & self.splits.keys() else self.for_training()[0]

    def _train(self) -> Split:
        if "train" not in self.splits:
            raise DataError(f"{self.ref} has no train split (it has {', '.join(self.splits)}); add a train file")
        train = self.splits["train"]
        if self.words:  # where there is no word, there is nothing to learn, and the loss is no number
            return train.take([row for row, words in enumerate(train.texts) if words], train.name)
        return train

    def _held_out(self, train: Split) -> tuple[Split, Split]:
        if len(train) < 10:
            raise DataError(
                f"{self.ref} has no validation split and {len(train)} training rows; at least 10 are needed "
                "to hold some out: add rows, or a validation file"
            )
        order = list(range(len(train)))
        random.Random(DRAW_SEED).shuffle(order)
        names = [label for label in train.labels if isinstance(label, str)]
        if len(names) == len(train) and not are_fractions(set(names)):
            order.sort(key=_places(names, order).__getitem__)
        kept = len(train) - max(2, round(len(train) * HELD_OUT))
        return train.take(sorted(order[:kept]), "train"), train.take(sorted(order[kept:]), "validation")


def note_repeats(train: Split, validation: Split, progress: Progress) -> None:
    """Say so where a good part of what is judged on is learned from too."""
    learned = set(train.texts)
    if (twice := sum(text in learned for text in validation.texts)) > MANY_REPEATS * len(validation):
        progress.say(
            f"{twice} of {len(validation)} validation rows are texts that are trained on too, so their score says too "
            "much; remove repeated rows, or leave each text in one split"
        )


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
    text, labels = find_columns(ref, tables, text, label, task)
    splits = {name: read_split(ref, name, table, text, labels, kind) for name, table in tables.splits.items()}
    if len({split.words for split in splits.values()}) > 1:
        tagged = ", ".join(name for name, split in splits.items() if split.words)
        raise DataError(f"{ref} has a tag for every word in {tagged} only; give all splits the same form")
    if kind == "multi-label":
        splits = _divided(splits, task.labels if task else tables.names.get(labels[0], ()))
    if kind != "regression":
        splits = _spelled_alike(splits, task.labels if task else ())
    label = ",".join(labels)
    names = labels if len(labels) > 1 else tables.names.get(label, ())
    if kind in ("auto", "multi-label") and (width := _width(splits.values())):
        splits = {name: replace(split, labels=_switched_on(split.labels)) for name, split in splits.items()}
        names = names or tuple(map(str, range(width)))
    if task and _are_places(task.labels, names):
        place = {name: str(position) for position, name in enumerate(names)}
        splits = {name: split.renamed(place) for name, split in splits.items()}
        names = ()
    if task and task.kind == "multi-label" and set(labels) < set(task.labels):
        raise DataError(
            f"{ref}: --label {label} is {len(labels)} of the model's {len(task.labels)} labels; name the columns of "
            "all of them, in one --label with commas"
        )
    if task and _are_numbers(task.labels, splits.values()):
        place = {str(position): name for position, name in enumerate(task.labels)}
        splits = {name: split.renamed(place) for name, split in splits.items()}
    return Corpus(ref, text, label, splits, tables.one_file, names, tables.metrics.get(label, ""))


def _divided(splits: dict[str, Split], known: Collection[str]) -> dict[str, Split]:
    """Divide the cells of all splits into names by the same separator."""
    cells = iter(divided([label for split in splits.values() for label in split.labels], known))
    return {name: replace(split, labels=[next(cells) for _ in split.labels]) for name, split in splits.items()}


def _spelled_alike(splits: dict[str, Split], known: Collection[str]) -> dict[str, Split]:
    """Spell labels that are numbers as the model does, or else as train does: pandas makes 1.0 of 1 in some files.

    Of a model that calls none of its labels so, numbers are places. And `True` in one file is `true` in another.
    """
    first = next(iter(splits.values()))
    truths = _truths(known or first.names)
    known = known if any(map(WHOLE.fullmatch, known)) else [str(place) for place in range(len(known))]
    known = known or {name for name in first.names if not _is_spelled_whole(name, first.names)}
    numbers = {name.removesuffix(".0"): name for name in known if WHOLE.fullmatch(name)}
    found = {}
    for name, split in splits.items():
        others = {
            label: numbers.get(label.removesuffix(".0")) if WHOLE.fullmatch(label) else truths.get(label.casefold())
            for label in split.names - set(known)
        }
        spelled = {label: other for label, other in others.items() if other is not None}
        found[name] = split.renamed(spelled) if spelled and len(spelled) == len(others) else split
    return found


def _truths(known: Collection[str]) -> dict[str, str]:
    """Return how true and false are spelled, where labels are these."""
    spelled = {name.casefold(): name for name in known}
    return spelled if spelled.keys() == {"true", "false"} else {}


def _is_spelled_whole(name: str, names: Collection[str]) -> bool:
    """Tell whether a number with `.0` is there without it as well, and nothing but numbers is."""
    return name.endswith(".0") and name.removesuffix(".0") in names and all(map(WHOLE.fullmatch, names))


def _are_places(labels: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Tell whether a model's labels, as transformers calls them where nobody does, stand for the places of `names`."""
    unnamed = all(label in (f"LABEL_{place}", str(place)) for place, label in enumerate(labels))
    return unnamed and len(labels) == len(names) and not set(names) <= set(labels)


def _are_numbers(labels: tuple[str, ...], splits: Iterable[Split]) -> bool:
    """Tell whether numbers stand for the places of a model's labels, though some of these are numbers too.

    All splits decide it together, since one alone may lack the number that tells.
    """
    places = {str(place) for place in range(len(labels))}
    if places.isdisjoint(labels) and not are_numbers(labels):
        return False
    found = set[str]().union(*(split.names for split in splits))
    return not found <= set(labels) and found <= places


def _width(splits: Collection[Split]) -> int:
    """Return the length of lists of 0 and 1 that say of every label there is whether it applies; 0 if they do not."""
    lists = [label for split in splits if not split.words for label in split.labels]
    widths = {0 if isinstance(row, str) else len(row) for row in lists}
    if not (items := {item for row in lists for item in row}) <= {*YES, *NO}:
        _refuse_shares(lists, items)
        return 0
    if len(widths) == 1 and min(widths) > 1:
        return widths.pop()
    if all(isinstance(row, str) or len(set(row)) == len(row) for row in lists):
        return 0  # names, of which no row has one twice
    if len(widths - {0}) > 1:
        raise DataError(
            f"labels are lists of 0 and 1 whose lengths are {', '.join(map(str, sorted(widths)))}; give every row one "
            "for each label, or none"
        )
    return max(widths)


def _refuse_shares(lists: list[Label], items: Collection[str]) -> None:
    """Refuse lists that are no names: numbers of which one is a fraction, or a row has one twice."""
    if not are_numbers(items):
        return
    if fraction := next((item for item in in_order(items) if not WHOLE.fullmatch(item)), None):
        raise DataError(
            f"a list of labels holds {fraction}, and shares of labels are not learned; round them to 0 or 1 for every "
            "label, or list names that are no numbers"
        )
    if twice := next((row for row in lists if not isinstance(row, str) and len(set(row)) < len(row)), None):
        raise DataError(
            f"a list of labels is [{', '.join(twice)[:SHOWN]}]; give 0 or 1 for every label, or the numbers of those "
            "that apply, each once"
        )


def _switched_on(labels: list[Label]) -> list[Label]:
    return [tuple(str(place) for place, item in enumerate(row) if item in YES) for row in labels]
