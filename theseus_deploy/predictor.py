"""Answer questions with a bundle in production: onnxruntime, tokenizers, numpy, and nothing heavier is imported."""

from collections.abc import Callable, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.answers import ANSWERS
from theseus_deploy.errors import ArtifactError, ConfigError, DataError, ModelError, brief
from theseus_deploy.machine import MOST_THREADS, usable_cores, warn_if_moved
from theseus_deploy.manifest import GRAPH, OUTPUT, TOKENIZER, Manifest, read_manifest
from theseus_deploy.tasks import Task
from theseus_deploy.words import Words

if TYPE_CHECKING:
    from tokenizers import Encoding

Text = str | Sequence[str]
Encoded = Mapping[str, NDArray[np.int64]]
Logits = NDArray[np.float32]

SESSION = "session"  # where a manifest's receipt keeps entries of onnxruntime's session configuration
DISOBEYED = ("session.set_denormal_as_zero",)  # it changes the host's own arithmetic, and is the first session's alone
# What a graph may ask for, and the field of a `tokenizers.Encoding` that answers.
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
QUIET = 4  # onnxruntime tells everything in its exceptions too; a library does not write to stderr


@dataclass(frozen=True)
class Question:
    """An input as tokens; `words` where each of them gets an answer, and None where the input as a whole does."""

    encoding: "Encoding"
    words: Words | None = None

    def items(self, logits: Logits) -> Logits:
        """Pick the logits of shape (items, labels) out of this input's: (labels,), or (sequence, labels) for words."""
        return logits[None] if self.words is None else self.words.pick(logits, self.encoding)


class Predictor:
    """A loaded bundle. It may be shared by threads: nothing in it changes after construction.

    An input is a string, or a pair of them. Where words are tagged it is a string, which is divided at white space and
    punctuation (inside `U.S.` too), or a list of its words, which are then taken as they are, as in training. Inputs
    are truncated as trained.
    """

    def __init__(
        self,
        bundle: Path | str,
        threads: int | None = None,
        *,
        task: Task | None = None,
        load: Callable[[Path, int], Any] | None = None,
    ) -> None:
        """Load a bundle to run on `threads` cores, by default all that this process may use.

        `task` is read from the manifest, as are onnxruntime's settings (`receipt.session`); export gives the task for
        a folder that has no manifest yet. `load` opens the graph in another runtime: it takes the file and the
        threads, and returns what looks like onnxruntime's session.

        Warns:
            UserWarning: the graph is int8, and was quantised for another instruction set than this CPU has.

        Raises:
            ArtifactError: the folder is no bundle, or its graph or tokenizer cannot be read.
            ConfigError: `threads` is no number of threads.
        """
        if threads is not None and not 1 <= threads <= MOST_THREADS:
            raise ConfigError(f"{threads} threads were asked for; give 1 to {MOST_THREADS}, or None for all there are")
        folder = Path(bundle)
        settings: Mapping[str, str] = {}
        if task is None:
            manifest = _open(folder)
            task, settings = manifest.task, manifest.receipt.get(SESSION, {})
        self.task = task
        self._tokenizer, self._padding = _load_tokenizer(folder / TOKENIZER, self.task.max_length)
        self._joins_punctuation = _joins_punctuation(self._tokenizer)
        load = load or partial(_load_session, settings=settings)
        self._session = load(folder / GRAPH, threads or usable_cores())
        self.inputs = tuple(node.name for node in self._session.get_inputs())
        self._check(folder / GRAPH)

    def predict(self, texts: Sequence[Text], batch_size: int = 32, first: int = 1) -> list[dict[str, Any]]:
        """Return one answer an input, in order; its keys are those of its kind of task.

        `first` is the number that an error gives the first of these texts, where they are some of more.

        - single-label: `label`, its `score`, and the `scores` of all labels, which add up to 1;
        - multi-label: the `labels` whose score is above 0.5, and the `scores` of all, each on its own;
        - regression: `score`;
        - tokens: `entities`, each with `label`, `text`, `start` and `end` (offsets in characters, so that
          `text == input[start:end]`) and `score`, the mean probability of its words' tags. Where the input was a list
          of words, offsets count in what single spaces join them to, and `words` is the range of words from the first
          to behind the last. What was cut off has no entities.

        Raises:
            DataError: an input is none that the model was trained on.
            ModelError: a logit is no finite number.
        """
        questions = self._read(texts, first)
        logits = self._ask(questions, batch_size)
        broken = next((row for row, items in enumerate(logits, first) if not np.isfinite(items).all()), None)
        if broken is not None:
            raise ModelError(
                f"input {broken} is answered with a logit that is no finite number; export the checkpoint without "
                "--quantize, or train it again"
            )
        answer = ANSWERS[self.task.kind]
        return [answer(self.task, items, question.words) for question, items in zip(questions, logits, strict=True)]

    def logits(self, texts: Sequence[Text], batch_size: int = 32) -> Logits:
        """Return logits of shape (items, labels), in order; batches hold inputs of like length, to pad little.

        An item is an input, or where words are tagged each word of it. Of a list every word is an item; of a string
        those that were not cut off.

        Raises:
            DataError: an input has more or fewer texts than the model was trained on.
        """
        nothing = np.empty((0, self.task.outputs), np.float32)
        return np.concatenate([nothing, *self._ask(self._read(texts), batch_size)])

    def answer(self, texts: Sequence[Text]) -> list[Logits]:
        """Return logits of shape (items, labels) for each input of one batch, padded to the longest of them."""
        return self._answer(self._read(texts)) if texts else []

    def encode(self, texts: Sequence[Text]) -> dict[str, NDArray[np.int64]]:
        """Return the graph's inputs for at least one text: arrays of shape (texts, longest of them in tokens)."""
        return self._pad(self._read(texts))

    def run(self, encoded: Encoded) -> Logits:
        """Return what the graph gives for the result of `encode`: (texts, labels), or (texts, sequence, labels)."""
        logits: Logits = self._session.run([OUTPUT], dict(encoded))[0]
        return logits

    def padding_on(self, side: str) -> "Predictor":
        """Return a predictor of the same graph that pads on that side, `right` or `left`."""
        other = copy(self)
        other._padding = {**self._padding, "direction": side}
        return other

    def _ask(self, questions: list[Question], batch_size: int) -> list[Logits]:
        if batch_size < 1:
            raise ConfigError(f"a batch of {batch_size} inputs is none; ask for at least 1")
        order = sorted(range(len(questions)), key=lambda row: len(questions[row].encoding))
        answers: dict[int, Logits] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            answers |= zip(rows, self._answer([questions[row] for row in rows]), strict=True)
        return [answers[row] for row in range(len(questions))]

    def _answer(self, questions: list[Question]) -> list[Logits]:
        logits = self.run(self._pad(questions))
        return [question.items(row) for question, row in zip(questions, logits, strict=True)]

    def _read(self, texts: Sequence[Text], first: int = 1) -> list[Question]:
        if isinstance(texts, str):
            raise DataError("one text was given, and a list of them is taken; put it in brackets: [text]")
        if texts is None or isinstance(texts, bytes | Mapping | Set):
            raise DataError(f"a {type(texts).__name__} was given; give a list of texts in order")
        texts = list(texts)
        for row, text in enumerate(texts, first):
            if not isinstance(text, str) and isinstance(
                text, Mapping | Set
            ):  # whose keys, or whose disorder, would be answered
                raise DataError(f"input {row} is a {type(text).__name__}; give a text, or a list of texts in order")
        try:
            return self._read_words(texts) if self.task.tags_words else self._read_texts(texts, first)
        except (TypeError, UnicodeEncodeError) as error:  # all that tokenizers says of what is no text
            wrong = next((row for row, text in enumerate(texts, first) if not _is_text(text)), None)
            if wrong is None:
                raise
            raise DataError(f"input {wrong} is no text of whole Unicode characters; correct it") from error

    def _read_texts(self, texts: Sequence[Text], first: int) -> list[Question]:
        inputs = [(text,) if isinstance(text, str | bytes) else tuple(text) for text in texts]
        columns = (len(self.task.text),) if self.task.text else (1, 2)
        for row, text in enumerate(inputs, first):
            if len(text) not in columns:
                taken = " or ".join(map(str, columns))
                raise DataError(f"input {row} has {len(text)} texts, and the model takes {taken}; correct it")
        encodings = self._tokenizer.encode_batch_fast([text[0] if len(text) == 1 else text for text in inputs])
        return [Question(encoding) for encoding in encodings]

    def _read_words(self, texts: Sequence[Text]) -> list[Question]:
        pieces = {row: list(text) for row, text in enumerate(texts) if not isinstance(text, str)}
        strings = {row: str(text) for row, text in enumerate(texts) if row not in pieces}
        words = {row: Words.listed(given) for row, given in pieces.items()}
        if self._joins_punctuation:
            words |= {row: Words.divided(text) for row, text in strings.items()}
            pieces |= {row: [text[start:stop] for start, stop in words[row].spans] for row, text in strings.items()}
            strings = {}
        # Not `encode_batch_fast`, which forgets whose tokens are whose.
        encodings = self._tokenizer.encode_batch(list(pieces.values()), is_pretokenized=True)
        questions = {
            row: Question(encoding, words[row] if words[row].given else words[row].within(encoding))
            for row, encoding in zip(pieces, encodings, strict=True)
        }
        encodings = self._tokenizer.encode_batch(list(strings.values()))
        for (row, text), encoding in zip(strings.items(), encodings, strict=True):
            questions[row] = Question(encoding, Words.found(text, encoding))
        return [questions[row] for row in range(len(texts))]

    def _pad(self, questions: list[Question]) -> dict[str, NDArray[np.int64]]:
        encodings = [question.encoding for question in questions]
        longest = max(len(encoding) for encoding in encodings)
        for encoding in encodings:
            encoding.pad(longest, **self._padding)
        return {
            name: np.array([getattr(encoding, INPUTS[name]) for encoding in encodings], np.int64)
            for name in self.inputs
        }

    def _check(self, graph: Path) -> None:
        outputs = {node.name: node.shape for node in self._session.get_outputs()}
        if unknown := sorted(set(self.inputs) - INPUTS.keys()):
            raise ArtifactError(f"{graph} asks for {', '.join(unknown)}; known: {', '.join(INPUTS)}: export it again")
        if OUTPUT not in outputs:
            raise ArtifactError(f"{graph} answers with {', '.join(outputs)}, not {OUTPUT}; export it again")
        if (width := outputs[OUTPUT][-1]) != self.task.outputs:
            raise ArtifactError(
                f"{graph} answers with {width} logits, and the task has {self.task.outputs}; export it again"
            )


def _is_text(text: object) -> bool:
    """Tell whether a text, or every one of several, can be tokenised: half a surrogate pair cannot."""
    if isinstance(text, str):
        return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
    return isinstance(text, Sequence) and not isinstance(text, bytes) and all(map(_is_text, text))


def _open(folder: Path) -> Manifest:
    manifest, _ = read_manifest(folder)
    if manifest.kind != "bundle":
        raise ArtifactError(f"{folder} is a {manifest.kind}, not a bundle; make one with `theseus export`")
    warn_if_moved(folder, manifest.precision, manifest.machine)
    return manifest


def _load_tokenizer(path: Path, max_length: int) -> tuple[Any, dict[str, Any]]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the one class that tokenizers raises
        raise ArtifactError(f"{path} cannot be read ({brief(error)}); export the bundle again") from error
    if tokenizer.padding is None:
        raise ArtifactError(f"{path} does not say how to pad; export the bundle again")
    padding = {name: tokenizer.padding[name] for name in ("direction", "pad_id", "pad_type_id", "pad_token")}
    tokenizer.no_padding()
    side = (tokenizer.truncation or {}).get("direction", "right")
    tokenizer.enable_truncation(max_length, direction=side)
    return tokenizer, padding


def _joins_punctuation(tokenizer: Any) -> bool:
    """Tell whether a tokenizer divides texts at white space alone, so that a word has the comma behind it."""
    divides = tokenizer.pre_tokenizer
    return divides is None or len(divides.pre_tokenize_str("a,b")) < 3


def _load_session(path: Path, threads: int, settings: Mapping[str, str]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    try:
        for name, value in settings.items():
            if name in DISOBEYED:
                continue
            options.add_session_config_entry(name, value)
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's dozen errors share no other base class
        raise ArtifactError(f"{path} cannot be loaded ({brief(error)}); export the bundle again") from error
