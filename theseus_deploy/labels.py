"""What label texts say: the names that a cell holds, their order, the tags of entities, and what a loss compares.

Whatever is encoded is checked against the labels that the model knows, all of them in the order of its outputs.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from theseus_deploy.errors import DataError

Label = str | tuple[str, ...]  # a name or number; the names of many labels; or the tags of an input's words
Reference = int | float | list[float] | list[int]  # a class; a number; many classes, each 0 or 1; a class a word
SEPARATORS = "|;,"  # between the names of many labels in one cell: the first of these that some cell holds
OUTSIDE = "O"  # the tag of a word outside any entity
PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}  # BIO, BIOES, BILOU; seqeval's names


def are_fractions(names: Collection[str]) -> bool:
    """Tell whether labels are the numbers of a regression: all of them finite, and one of them no whole number."""
    return any(number != int(number) for number in _numbers(names).values())


def are_numbers(names: Collection[str]) -> bool:
    """Tell whether all labels are finite numbers."""
    return bool(_numbers(names))


def in_order(names: Collection[str]) -> list[str]:
    """Sort names, and those that are all numbers as numbers."""
    numbers = _numbers(names)
    return sorted(names, key=lambda name: (numbers.get(name, 0.0), name))


def _numbers(names: Collection[str]) -> dict[str, float]:
    """Return the number that each name stands for, or nothing at all where one stands for none."""
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        return {}
    return numbers if np.isfinite(list(numbers.values())).all() else {}


def divided(values: Sequence[Label], known: Collection[str] = ()) -> list[tuple[str, ...]]:
    """Return the names of many labels in each cell of a column: those that it lists, or what its text is divided into.

    All cells are divided at the same separator, so that `Health, fitness|News` is two names. One that is `known` is
    whole whatever it holds.
    """
    cells = {value for value in values if isinstance(value, str) and value not in known}
    separator = next((mark for mark in SEPARATORS if any(mark in cell for cell in cells)), None)

    def names(value: Label) -> tuple[str, ...]:
        if not isinstance(value, str):
            return value
        parts = value.split(separator) if separator and value in cells else [value]
        return tuple(name.strip() for name in parts if name.strip())

    return [names(value) for value in values]


def all_tags(found: Collection[str]) -> list[str]:
    """Order tags by what they tag; an entity that may begin may also go on, even if none does in train."""
    entities = {tag for tag in found if _is_part(tag)}
    if not entities:
        return in_order(found)
    prefixes = {tag[0] for tag in entities} | {"I"}
    tags = {*found, *(f"{prefix}-{tag[2:]}" for prefix in prefixes for tag in entities)}
    return sorted(tags, key=lambda tag: (tag.partition("-")[2], tag))


def as_seqeval(tag: str) -> str:
    """Write a tag as seqeval reads it: BIO or BIOES; one without a prefix is an entity of one word."""
    if tag == OUTSIDE:
        return tag
    return f"{PREFIXES[tag[0]]}-{tag[2:]}" if _is_part(tag) else f"B-{tag}"


def _is_part(tag: str) -> bool:
    """Tell whether a tag says which part of an entity a word is: `B-person`."""
    return tag[1:2] == "-" and tag[0] in PREFIXES


def class_indices(labels: Sequence[str], values: Sequence[Label], where: str) -> list[int]:
    """Turn the label of each input into its index.

    Raises:
        DataError: a value is a list, or a label the model does not know.
    """
    index = _index_of(labels, (value for value in values if isinstance(value, str)))
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str):
            raise DataError(
                f"{where}, row {row}: the label is a list ({', '.join(value)[:60]}), and the model gives one label; "
                "name another column with --label"
            )
        if value not in index:
            raise _unknown(labels, value, row, where)
    return [index[str(value)] for value in values]


def many_hot(labels: Sequence[str], values: Sequence[Label], where: str) -> list[list[float]]:
    """Turn the labels of each input into a 1 for each that it has, and a 0 for each other.

    Raises:
        DataError: a label the model does not know.
    """
    cells = divided(values, labels)
    index = _index_of(labels, (name for cell in cells for name in cell))
    rows = np.zeros((len(cells), len(labels)))
    for row, cell in enumerate(cells):
        for name in cell:
            if name not in index:
                raise _unknown(labels, name, row + 1, where)
            rows[row, index[name]] = 1.0
    encoded: list[list[float]] = rows.tolist()
    return encoded


def word_classes(labels: Sequence[str], values: Sequence[Label], where: str) -> list[list[int]]:
    """Turn the tags of each input's words into their indices.

    Raises:
        DataError: a value is no list, or holds a tag the model does not know.
    """
    index = _index_of(labels, (tag for value in values for tag in value))
    for row, value in enumerate(values, start=1):
        if isinstance(value, str):
            raise DataError(
                f"{where}, row {row}: {value!r} is no list, and the model tags words; give a list of one tag a word"
            )
        for tag in value:
            if tag not in index:
                raise _unknown(labels, tag, row, where)
    return [[index[tag] for tag in value] for value in values]


def floats(labels: Sequence[str], values: Sequence[Label], where: str) -> list[float]:
    """Read the number of each input.

    Raises:
        DataError: a value is no finite number.
    """
    del labels
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


def _index_of(labels: Sequence[str], values: Iterable[str]) -> dict[str, int]:
    """Map each label to its index; where the values are places and the names no numbers, its place stands for it."""
    index = {name: position for position, name in enumerate(labels)}
    digits = {str(position): position for position in range(len(labels))}
    distinct = set(values)
    named = not are_numbers(labels) and digits.keys().isdisjoint(index)
    return digits if named and digits.keys() >= distinct else index


def _unknown(labels: Sequence[str], value: str, row: int, where: str) -> DataError:
    known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
    unnamed = all(name == f"LABEL_{place}" for place, name in enumerate(labels))
    remedy = (
        f"write the labels' names into id2label of its config.json, or numbers below {len(labels)} into the file"
        if unnamed
        else "correct the file"
    )
    return DataError(
        f"{where}, row {row}: label {value!r} is not one the model knows ({known}); "
        f"{remedy}, or name another column with --label"
    )
