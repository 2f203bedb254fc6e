"""The way of rows into a model: tokens, and a label for each row or for the first token of each word."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label of a token that the loss leaves out
AT_ONCE = 10_000  # rows that are tokenised together: the tokenizer's own notes take 15 kB a row, the tokens 0.3


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
