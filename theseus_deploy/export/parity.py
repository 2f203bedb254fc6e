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

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Texts = Sequence[tuple[str, ...]]
Array = NDArray[np.floating[Any]]
Answer = Callable[[Texts], Array]  # logits of shape (texts, labels) for one batch, padded to its longest

TEXTS = 256
ALONE = 64  # texts that are also asked alone, where a batch of one might be traced wrongly
BATCH = 16
SEED = 2020
SHOWN = 60  # characters of a text in a message

ODD_TEXTS = (
    "", " ", "a", "?!", "...", "\t\n", "0", "3.14159", "[MASK]", "👍", "I 💙 it 😂😂😂", "¡Qué lástima!", "naïve café",
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


def ask(answer: Answer, texts: Texts, progress: Progress = SILENT, title: str = "asking") -> Array:
    """Return logits of shape (questions, labels): of every text in a padded batch, then of `ALONE` of them alone."""
    order = _by_length(texts)
    alone = _spread(order, ALONE)
    batches = -(-len(texts) // BATCH)
    answers: dict[int, Array] = {}
    with progress.track(title, batches + len(alone)) as tracker:
        for batch in range(batches):
            rows = order[batch::batches]  # short beside long: the more padding, the better the test
            answers |= zip(rows, answer([texts[row] for row in rows]), strict=True)
            tracker.advance()
        singles = []
        for row in alone:
            singles.append(answer([texts[row]])[0])
            tracker.advance()
    return np.stack([*(answers[row] for row in range(len(texts))), *singles])


def compare(expected: Array, answered: Array, texts: Texts, task: Task) -> Parity:
    """Compare two results of `ask` about the same texts, the checkpoint's first.

    Raises:
        ExportError: an answer is no finite number.
    """
    asked = [*texts, *(texts[row] for row in _spread(_by_length(texts), ALONE))]
    for who, logits in (("the checkpoint", expected), ("the graph", answered)):
        if not (finite := np.isfinite(logits).all(axis=1)).all():
            raise ExportError(
                f"{who} answers {_shorten(asked[int(finite.argmin())])!r} with a logit that is no finite number; "
                "train it again, or export it without --quantize"
            )
    difference = np.abs(expected - answered).max(axis=1)
    worst = int(difference.argmax())
    agreement = float((expected.argmax(axis=1) == answered.argmax(axis=1)).mean()) if task.labels else None
    return Parity(float(difference[worst]), agreement, len(texts), asked[worst])


def checkpoint_answer(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", task: Task) -> Answer:
    """Return the function that asks the checkpoint itself, which must be in evaluation mode."""
    import torch

    names = input_names(model, tokenizer)

    def answer(texts: Texts) -> Array:
        columns = [list(column) for column in zip(*texts, strict=True)]
        encoded = tokenizer(*columns, padding=True, truncation=True, max_length=task.max_length, return_tensors="pt")
        with torch.inference_mode():
            logits: Array = model(**{name: encoded[name] for name in names}).logits.numpy()
        return logits

    return answer


def choose_texts(texts: Texts, columns: int) -> list[tuple[str, ...]]:
    """Return at least `TEXTS` texts of all lengths, the shortest and the longest among them.

    Where there are fewer, texts of our own with as many columns (1, or 2 for pairs) are added.
    """
    if len(texts) < TEXTS:
        return [*texts, *builtin_texts(columns)[: TEXTS - len(texts)]]
    return [texts[row] for row in _spread(_by_length(texts), TEXTS)]


def builtin_texts(columns: int = 1) -> list[tuple[str, ...]]:
    """Make `TEXTS` texts of mixed length, the same each time: none, one letter, emoji, other scripts, 600 words."""
    draw = random.Random(SEED)
    columns_of_texts = []
    for _ in range(columns):
        made = [
            " ".join(draw.choices(WORDS, k=draw.choice((2, 5, 9, 14, 20, 40, 90))))
            for _ in range(TEXTS - len(ODD_TEXTS))
        ]
        texts = [*ODD_TEXTS, *made]
        draw.shuffle(texts)
        columns_of_texts.append(texts)
    return list(zip(*columns_of_texts, strict=True))


def _by_length(texts: Texts) -> list[int]:
    return sorted(range(len(texts)), key=lambda row: sum(len(text) for text in texts[row]))


def _spread(rows: list[int], count: int) -> list[int]:
    """Take so many rows at even distances, the first and the last among them."""
    if len(rows) <= count:
        return rows
    return [rows[round(step * (len(rows) - 1) / (count - 1))] for step in range(count)]


def _shorten(texts: tuple[str, ...]) -> str:
    joined = " | ".join(texts)
    return joined if len(joined) <= SHOWN else f"{joined[:SHOWN]}..."
