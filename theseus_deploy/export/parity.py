"""The graph answers as the checkpoint does, on real padded text, or nothing is written."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.errors import ExportError
from theseus_deploy.export.onnx import input_names
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.tasks import Task
from theseus_deploy.tokens import first_tokens
from theseus_deploy.words import at_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Texts = Sequence[tuple[str, ...]]
Array = NDArray[np.floating[Any]]
Answers = list[Array]  # logits of shape (items, labels) for each text
Answer = Callable[[Texts], Answers]  # of one batch, padded to its longest

TEXTS = 256
ALONE = 32  # texts that are also asked alone, where a batch of one might be traced wrongly
BATCH = 16
MIXED = 2  # batches of short texts beside long ones: the more padding, the better the test, and the dearer
OTHER = {"right": "left", "left": "right"}  # side to pad on
NOISE = 0.1  # the share of --atol by which a checkpoint may differ with the side, and still be said not to depend on it
FIRST_WORDS = 3
SEED = 2020
SHOWN = 60  # characters of a text in a message
PROBE = 12  # texts that a bundle keeps, with its answers
PROBE_WORDS = 100  # of each, where every word is answered

ODD_TEXTS = (
    "", " ", "a", "?!", "...", "\t\n", "0", "3.14159", "[MASK] [SEP] <mask> </s> it", "👍", "I 💙 it 😂😂😂",
    "¡Qué lástima!", "naïve café",
    "你好，世界", "これはテストです", "Привет, мир", "مرحبا بالعالم", "שלום", "https://example.org/a?b=c#d",
    "@you #topic", "<p>markup &amp; more</p>", "NOT good", "not not bad", "x" * 300, "word " * 600,
)  # fmt: skip
WORDS = (
    "the", "a", "we", "they", "it", "was", "is", "never", "quite", "really", "film", "phone", "battery", "service",
    "flight", "hotel", "weather", "team", "match", "bank", "price", "story", "food", "waited", "loved", "hated",
    "returned", "broke", "works", "arrived", "late", "early", "again", "twice", "because", "although", "and", "but",
    "good", "awful", "fine", "brilliant", "boring", "cheap", "2024", "£30", "o'clock", "customer-support", "London",
)  # fmt: skip


@dataclass(frozen=True)
class Parity:
    """How far the graph's answers are from the checkpoint's; `label_agreement` is None for a regression."""

    max_abs_diff: float
    label_agreement: float | None
    texts: int
    worst: tuple[str, ...]

    def to_json(self) -> dict[str, float]:
        """Return the `parity` object of `theseus.json`'s scores."""
        agreement = {} if self.label_agreement is None else {"label_agreement": self.label_agreement}
        return {"max_abs_diff": self.max_abs_diff, **agreement, "texts": self.texts}

    def require(self, atol: float) -> None:
        """Refuse a graph that differs from its checkpoint.

        Raises:
            ExportError: a logit differs by more than `atol`.
        """
        if not self.max_abs_diff <= atol:
            raise ExportError(
                f"the graph's logits differ from the checkpoint's by {self.max_abs_diff:.3g}, more than --atol "
                f"{atol:g}, worst on the text {_shorten(self.worst)!r}; try another --opset, or raise --atol if that "
                "is acceptable"
            )


def ask(answer: Answer, texts: Texts, progress: Progress = SILENT, title: str = "asking") -> Answers:
    """Return the logits of every text in a padded batch, then of `ALONE` of them alone."""
    order = _by_length(texts)
    alone, batches = _spread(order, ALONE), _batches(order)
    answers: dict[int, Array] = {}
    with progress.track(title, len(batches) + len(alone)) as tracker:
        for rows in batches:
            answers |= zip(rows, answer([texts[row] for row in rows]), strict=True)
            tracker.advance()
        singles = []
        for row in alone:
            singles.append(answer([texts[row]])[0])
            tracker.advance()
    return [*(answers[row] for row in range(len(texts))), *singles]


def compare(expected: Answers, answered: Answers, texts: Texts, task: Task) -> Parity:
    """Compare two results of `ask` about the same texts, the checkpoint's first, item by item.

    Raises:
        ExportError: an answer is no finite number.
    """
    asked = [*texts, *(texts[row] for row in _spread(_by_length(texts), ALONE))]
    text_of = np.repeat(np.arange(len(asked)), [len(items) for items in expected])
    checkpoint, graph = np.concatenate(expected), np.concatenate(answered)
    for who, logits in (("the checkpoint", checkpoint), ("the graph", graph)):
        if not (finite := np.isfinite(logits).all(axis=1)).all():
            raise ExportError(
                f"{who} answers {_shorten(asked[text_of[finite.argmin()]])!r} with a logit that is no finite number; "
                "train it again, or export it without --quantize"
            )
    difference = np.abs(checkpoint - graph).max(axis=1)
    worst = int(difference.argmax())
    agreed = task.agree(checkpoint, graph)[task.seen(checkpoint, graph)]  # words that were cut off would always agree
    agreement = float(agreed.mean()) if task.labels else None
    return Parity(float(difference[worst]), agreement, len(texts), asked[text_of[worst]])


def checkpoint_answer(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", task: Task, side: str | None = None
) -> Answer:
    """Return the function that asks the checkpoint itself, which must be in evaluation mode.

    Batches are padded on `side`, `right` or `left`, by default the tokenizer's own.
    """
    import torch

    from theseus_deploy.linear import OneDNNLinear

    names = input_names(model, tokenizer)
    arguments: dict[str, Any] = {
        "padding": True, "padding_side": side, "truncation": True, "max_length": task.max_length,
        "return_tensors": "pt", "is_split_into_words": task.tags_words,
    }  # fmt: skip

    def answer(texts: Texts) -> Answers:
        columns = [texts] if task.tags_words else zip(*texts, strict=True)
        encoded = tokenizer(*([_as_list(text) for text in column] for column in columns), **arguments)
        with torch.inference_mode(), OneDNNLinear():
            logits: Array = model(**{name: encoded[name] for name in names}).logits.numpy()
        if not task.tags_words:
            return list(logits[:, None])
        starts = [first_tokens(encoded.word_ids(row), len(words)) for row, words in enumerate(texts)]
        return [at_words(tokens, places) for tokens, places in zip(logits, starts, strict=True)]

    return answer


def sides(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    texts: Texts,
    expected: Answers,
    atol: float,
) -> tuple[str, ...]:
    """Return the sides on which inputs may be padded: the tokenizer's own first, the other if nothing depends on it.

    The checkpoint is asked a batch of all lengths again, which it answered as `expected` on its own side. It is asked
    because it follows from positions, pooling and masks together: with positions that count from the left, or a head
    that reads the first token, padding on the left is another question.
    """
    own = tokenizer.padding_side
    mixed = _batches(_by_length(texts))[0]
    here = np.concatenate([expected[row] for row in mixed])
    there = np.concatenate(checkpoint_answer(model, tokenizer, task, OTHER[own])([texts[row] for row in mixed]))
    return (own, OTHER[own]) if np.abs(here - there).max() <= NOISE * atol else (own,)


def choose_texts(texts: Texts, task: Task) -> list[tuple[str, ...]]:
    """Return at least `TEXTS` texts of all lengths, the shortest and the longest among them.

    Where there are fewer, texts of our own of the same form are added; else `MIXED` are beginnings of others, since of
    documents that are all cut off none would be padded.
    """
    if len(texts) < TEXTS:
        return [*texts, *builtin_texts(task)[: TEXTS - len(texts)]]
    chosen = [texts[row] for row in _spread(_by_length(texts), TEXTS - MIXED)]
    return [*(_beginning(text, task) for text in chosen[:MIXED]), *chosen]


def _beginning(text: tuple[str, ...], task: Task) -> tuple[str, ...]:
    return text[:FIRST_WORDS] if task.tags_words else tuple(" ".join(part.split()[:FIRST_WORDS]) for part in text)


def builtin_texts(task: Task) -> list[tuple[str, ...]]:
    """Make `TEXTS` texts of mixed length, the same each time: none, one letter, emoji, other scripts, 600 words.

    They are single texts, pairs or the words of texts, as the task has it.
    """
    draw = random.Random(SEED)
    columns_of_texts = []
    for _ in range(len(task.text) or 1):
        made = [
            " ".join(draw.choices(WORDS, k=draw.choice((2, 5, 9, 14, 20, 40, 90))))
            for _ in range(TEXTS - len(ODD_TEXTS))
        ]
        texts = [*ODD_TEXTS, *made]
        draw.shuffle(texts)
        columns_of_texts.append(texts)
    if task.tags_words:  # where a text has no words, one that the tokenizer drops
        return [tuple(text.split()) or (text,) for text in columns_of_texts[0]]
    return list(zip(*columns_of_texts, strict=True))


def probe_texts(task: Task) -> list[tuple[str, ...]]:
    """Choose `PROBE` texts of our own for a bundle to keep, never the user's: the shortest to the longest."""
    texts = builtin_texts(task)
    chosen = [texts[row] for row in _spread(_by_length(texts), PROBE)]
    return [words[:PROBE_WORDS] for words in chosen] if task.tags_words else chosen


def _by_length(texts: Texts) -> list[int]:
    return sorted(range(len(texts)), key=lambda row: sum(len(text) for text in texts[row]))


def _batches(order: list[int]) -> list[list[int]]:
    """Divide rows in the order of their length into batches: `MIXED` of all lengths, the others of like length."""
    count = -(-len(order) // BATCH)
    mixed = [order[batch::count] for batch in range(min(MIXED, count))]
    alike = [row for place, row in enumerate(order) if place % count >= MIXED]
    return mixed + [alike[start : start + BATCH] for start in range(0, len(alike), BATCH)]


def _spread(rows: list[int], count: int) -> list[int]:
    """Take so many rows at even distances, the first and the last among them."""
    if len(rows) <= count:
        return rows
    return [rows[round(step * (len(rows) - 1) / (count - 1))] for step in range(count)]


def _shorten(texts: tuple[str, ...]) -> str:
    joined = " | ".join(texts) if len(texts) == 2 else " ".join(texts)
    return joined if len(joined) <= SHOWN else f"{joined[:SHOWN]}..."


def _as_list(text: str | tuple[str, ...]) -> str | list[str]:
    """Return what transformers takes: words come as a list."""
    return text if isinstance(text, str) else list(text)
