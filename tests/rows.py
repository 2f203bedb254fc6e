"""Rows as people write them, what is refused of them, and their whole way to what a model takes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_tokenizer
from theseus_deploy.data import Corpus, open_data
from theseus_deploy.errors import DataError
from theseus_deploy.tasks import Task
from theseus_deploy.tokens import tokenise

Write = Callable[..., str]
PAIR = Task("single-label", ("no", "yes"), ("premise", "hypothesis"), "answer")
WORDS: list[tuple[list[Any], list[Any]]] = [
    (["the", "actor", "was", "good"], ["O", "B-who", "O", "O"]),
    (["a", "very", "long", "story"], ["O", "O", "B-what", "I-what"]),
]


def refuse(ref: str, *arguments: object, **named: object) -> str:
    with pytest.raises(DataError) as caught:
        open_data(ref, *arguments, **named)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def jsonl(path: Path, *rows: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def tagged(path: Path, *rows: tuple[list[Any], list[Any]]) -> str:
    return jsonl(path, *({"tokens": words, "ner_tags": tags} for words, tags in rows))


def task_of(corpus: Corpus, kind: str = "auto", max_length: int = 16) -> Task:
    """The task as finetune reads it."""
    train, _ = corpus.for_training() if len(corpus.splits["train"]) >= 10 else (corpus.splits["train"], None)
    kind = "tokens" if corpus.words else kind
    return Task.infer(train.labels, corpus.text, corpus.label, max_length, kind, corpus.names, corpus.metric)


def rows_in(ref: str, kind: str = "auto", **named: Any) -> tuple[Task, dict[str, list[Any]]]:
    """All the way: a file to what a model takes."""
    corpus = open_data(ref, kind=kind, **named)
    task = task_of(corpus, kind)
    return task, tokenise(corpus.splits["train"], task, make_tokenizer(), ref).to_dict()
