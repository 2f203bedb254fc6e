"""The words of an input that are answered one by one: which tokens are theirs, and where they stand in the text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Encoding


@dataclass(frozen=True)
class Words:
    """The words of one input.

    `of` are their numbers in its encoding, and `spans` where each begins and ends in `text`, in characters. Of words
    that the caller gave as a list (`given`), the text is what single spaces join them to.
    """

    of: Sequence[int]
    text: str
    spans: Sequence[tuple[int, int]]
    given: bool

    @classmethod
    def listed(cls, words: Sequence[str]) -> "Words":
        """Take words as the caller divided them."""
        stops = [stop - 1 for stop in accumulate(len(word) + 1 for word in words)]
        spans = [(stop - len(word), stop) for word, stop in zip(words, stops, strict=True)]
        return cls(range(len(words)), " ".join(words), spans, given=True)

    @classmethod
    def divided(cls, text: str) -> "Words":
        """Divide a text at white space and around punctuation, as BERT does: inside of `U.S.` too."""
        from tokenizers.pre_tokenizers import BertPreTokenizer

        spans = [span for _, span in BertPreTokenizer().pre_tokenize_str(text)]
        return cls(range(len(spans)), text, spans, given=False)

    @classmethod
    def found(cls, text: str, encoding: "Encoding") -> "Words":
        """Find what the tokenizer took for words: not the white space that some hold, and not what was cut off whole.

        A word that was cut in two is found whole.
        """
        found: dict[int, tuple[int, int]] = {}
        for part in (encoding, *encoding.overflowing):
            for word, (start, stop) in zip(part.word_ids, part.offsets, strict=True):
                if word is not None and (word in found or part is encoding):
                    before = found.get(word, (start, stop))
                    found[word] = min(before[0], start), max(before[1], stop)
        spans = {word: _trimmed(text, *found[word]) for word in sorted(found)}
        kept = {word: (start, stop) for word, (start, stop) in spans.items() if start < stop}
        return cls(list(kept), text, list(kept.values()), given=False)

    def within(self, encoding: "Encoding") -> "Words":
        """Leave out the words that were cut off whole."""
        there = set(encoding.word_ids)
        kept = [(word, span) for word, span in zip(self.of, self.spans, strict=True) if word in there]
        return replace(self, of=[word for word, _ in kept], spans=[span for _, span in kept])

    def pick(self, logits: NDArray[np.float32], encoding: "Encoding") -> NDArray[np.float32]:
        """Pick the logits of shape (words, labels) out of those of the tokens, (sequence, labels), as training does."""
        first: dict[int | None, int] = {}
        for place, word in enumerate(encoding.word_ids):
            first.setdefault(word, place)
        return at_words(logits, [first.get(word, -1) for word in self.of])


def at_words(tokens: NDArray[np.float32], starts: Sequence[int]) -> NDArray[np.float32]:
    """Pick the logits of each word, (words, labels), out of those of its input's tokens, (tokens, labels).

    `starts` holds the place of each word's first token; -1, for a word without one, is answered with zeros.
    """
    places = np.asarray(starts, dtype=np.int64)
    words = np.zeros((len(places), tokens.shape[1]), np.float32)
    words[places >= 0] = tokens[places[places >= 0]]
    return words


def _trimmed(text: str, start: int, stop: int) -> tuple[int, int]:
    """Leave out the white space around a word, which byte-level tokenizers count in."""
    inside = text[start:stop]
    start += len(inside) - len(inside.lstrip())
    return start, start + len(inside.strip())
