"""What every source of text gives: a table a split, whose cells are texts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Missing(str):
    """A cell that is not there: an empty one to most, and told apart from it by those who must."""

    __slots__ = ()


Table = dict[str, list[str]]
MISSING = Missing()
JSON_TYPES = (bool, int, float, list, dict)
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched"),
    "test": ("test", "eval"),
}


@dataclass(frozen=True)
class Tables:
    """A table for each split, and what the data set says of itself: `one_file` tells whether it was a lone file.

    `text` are the columns of its texts, where that is known; `names` all labels of a column in the data set's own
    order, `metrics` what a column is usually judged by, both by the name of the column.
    """

    splits: Mapping[str, Table]
    one_file: bool = False
    text: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)


def class_names(feature: Any) -> list[str]:
    """Return the names of a column of classes, or of lists of classes (a tag for each word); else nothing."""
    return getattr(getattr(feature, "feature", feature), "names", None) or []


def named(value: Any, names: list[str]) -> Any:
    """Return the name of a class, or of each in a list; a number of no class, as GLUE hides labels, is nothing."""
    if isinstance(value, list):
        return [named(item, names) for item in value]
    return names[value] if value is not None and 0 <= value < len(names) else ""


def as_text(value: Any) -> str:
    """Write a value as a cell: lists, numbers and truths as JSON has them, and nothing as `MISSING`."""
    if value is None or value != value:  # NaN: how pandas writes that there is nothing
        return MISSING
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")  # of a picture beside the text, say
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, JSON_TYPES) else str(value)
