"""What a predictor says, out of logits: one function a kind of task. Entities are read as seqeval scores them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.labels import OUTSIDE, as_seqeval
from theseus_deploy.tasks import Task, sigmoid, softmax
from theseus_deploy.words import Words

Logits = NDArray[np.float32]  # of shape (items, labels): one item, or each word

BEGINS = ("B", "S")  # prefixes with which an entity always begins
ENDS = ("E", "S")  # and those after which it has ended


class Entity(NamedTuple):
    """What was found: its label, its first word, and the one behind its last."""

    label: str
    first: int
    behind: int


def read_entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities in the tags of adjacent words: `B-x` begins one and `I-x` goes on with it.

    An `I-x` that follows no x begins one too. A tag without a prefix, a part of speech for instance, is an entity of
    one word. Schemes with `E-` and `S-`, or `L-` and `U-`, are understood.
    """
    found: list[Entity] = []
    before, label_before = "", ""
    for word, tag in enumerate(tags):
        prefix, label = _parts(tag)
        if label and (prefix in BEGINS or before in ENDS or label != label_before):
            found.append(Entity(label, word, word + 1))
        elif label:
            found[-1] = found[-1]._replace(behind=word + 1)
        before, label_before = prefix, label
    return found


def _parts(tag: str) -> tuple[str, str]:
    """Divide a tag, in seqeval's words, into its prefix and its label, which is empty outside any entity."""
    prefix, _, label = as_seqeval(tag).partition("-")
    return prefix, label


def _one_label(task: Task, logits: Logits, words: Words | None) -> dict[str, Any]:
    del words
    scores = dict(zip(task.labels, softmax(logits[0]).tolist(), strict=True))
    label = max(scores, key=scores.__getitem__)
    return {"label": label, "score": scores[label], "scores": scores}


def _many_labels(task: Task, logits: Logits, words: Words | None) -> dict[str, Any]:
    del words
    scores = dict(zip(task.labels, sigmoid(logits[0]).tolist(), strict=True))
    decided = task.decide(logits)[0]
    return {"labels": [label for label, has in zip(task.labels, decided, strict=True) if has], "scores": scores}


def _number(task: Task, logits: Logits, words: Words | None) -> dict[str, Any]:
    del task, words
    return {"score": float(logits[0, 0])}


def _entities(task: Task, logits: Logits, words: Words | None) -> dict[str, Any]:
    assert words is not None
    decided = zip(task.decide(logits), task.seen(logits), strict=True)
    tags = [task.labels[tag] if seen else OUTSIDE for tag, seen in decided]
    certain = softmax(logits).max(axis=1)
    entities = []
    for label, first, behind in read_entities(tags):
        start, end = words.spans[first][0], words.spans[behind - 1][1]
        place = {"words": [first, behind]} if words.given else {}
        entities.append(
            {
                "label": label,
                "text": words.text[start:end],
                "start": start,
                "end": end,
                "score": float(certain[first:behind].mean()),
                **place,
            }
        )
    return {"entities": entities}


ANSWERS: Mapping[str, Callable[[Task, Logits, Words | None], dict[str, Any]]] = {
    "single-label": _one_label,
    "multi-label": _many_labels,
    "regression": _number,
    "tokens": _entities,
}
