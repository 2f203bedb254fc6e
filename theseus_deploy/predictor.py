"""Answer questions with a bundle in production: onnxruntime, tokenizers, numpy, and nothing heavier is imported."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.artifact import Artifact
from theseus_deploy.errors import ArtifactError, DataError
from theseus_deploy.machine import usable_cores
from theseus_deploy.tasks import Task, softmax

if TYPE_CHECKING:
    from tokenizers import Encoding

Text = str | tuple[str, ...]
Encoded = Mapping[str, NDArray[np.int64]]
Logits = NDArray[np.float32]

OUTPUT = "logits"
# What a graph may ask for, and the field of a `tokenizers.Encoding` that answers.
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
QUIET = 4  # onnxruntime tells everything in its exceptions too; a library does not write to stderr


class Predictor:
    """A loaded bundle. It may be shared by threads: nothing in it changes after construction.

    Texts are strings, or tuples of one string or of two (a pair). They are truncated as in training.
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

        `task` is read from the manifest; export gives it for a folder that has no manifest yet. `load` opens the graph
        in another runtime: it takes the file and the threads, and returns what looks like onnxruntime's session.

        Raises:
            ArtifactError: the folder is no bundle, or its graph or tokenizer cannot be read.
        """
        folder = Path(bundle)
        self.task = task or _task_of(folder)
        self._tokenizer, self._padding = _load_tokenizer(folder / "tokenizer.json", self.task.max_length)
        self._session = (load or _load_session)(folder / "model.onnx", threads or usable_cores())
        self.inputs = tuple(node.name for node in self._session.get_inputs())
        self._check(folder / "model.onnx")

    def predict(self, texts: Sequence[Text], batch_size: int = 32) -> list[dict[str, Any]]:
        """Return one answer a text, in order: `label`, its `score` and all `scores`; for a regression just `score`."""
        return [self._answer(row) for row in self.logits(texts, batch_size)]

    def logits(self, texts: Sequence[Text], batch_size: int = 32) -> Logits:
        """Return logits of shape (texts, labels), in order; batches hold texts of like length, to pad little.

        Raises:
            DataError: an input has more or fewer texts than the model was trained on.
        """
        encodings = self._tokenise(texts)
        order = sorted(range(len(encodings)), key=lambda row: len(encodings[row]))
        logits = np.empty((len(encodings), self.task.outputs), np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            logits[rows] = self.run(self._pad([encodings[row] for row in rows]))
        return logits

    def encode(self, texts: Sequence[Text]) -> dict[str, NDArray[np.int64]]:
        """Return the graph's inputs for at least one text: arrays of shape (texts, longest of them in tokens)."""
        return self._pad(self._tokenise(texts))

    def run(self, encoded: Encoded) -> Logits:
        """Return logits of shape (texts, labels) for what `encode` gave."""
        logits: Logits = self._session.run([OUTPUT], dict(encoded))[0]
        return logits

    def _tokenise(self, texts: Sequence[Text]) -> list["Encoding"]:
        inputs = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
        columns = (len(self.task.text),) if self.task.text else (1, 2)
        for row, text in enumerate(inputs, start=1):
            if len(text) not in columns:
                taken = " or ".join(map(str, columns))
                raise DataError(f"input {row} has {len(text)} texts, and the model takes {taken}; correct it")
        encodings: list[Encoding] = self._tokenizer.encode_batch_fast(
            [text[0] if len(text) == 1 else text for text in inputs]
        )
        return encodings

    def _pad(self, encodings: list["Encoding"]) -> dict[str, NDArray[np.int64]]:
        longest = max(len(encoding) for encoding in encodings)
        for encoding in encodings:
            encoding.pad(longest, **self._padding)
        return {
            name: np.array([getattr(encoding, INPUTS[name]) for encoding in encodings], np.int64)
            for name in self.inputs
        }

    def _answer(self, logits: Logits) -> dict[str, Any]:
        if not self.task.labels:
            return {"score": float(logits[0])}
        scores = dict(zip(self.task.labels, softmax(logits).tolist(), strict=True))
        label = max(scores, key=scores.__getitem__)
        return {"label": label, "score": scores[label], "scores": scores}

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


def _task_of(folder: Path) -> Task:
    manifest = Artifact.open(folder).manifest
    if manifest.kind != "bundle":
        raise ArtifactError(f"{folder} is a {manifest.kind}, not a bundle; make one with `theseus export`")
    return manifest.task


def _load_tokenizer(path: Path, max_length: int) -> tuple[Any, dict[str, Any]]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the one class that tokenizers raises
        raise ArtifactError(f"{path} cannot be read ({_brief(error)}); export the bundle again") from error
    if tokenizer.padding is None:
        raise ArtifactError(f"{path} does not say how to pad; export the bundle again")
    padding = {name: tokenizer.padding[name] for name in ("direction", "pad_id", "pad_type_id", "pad_token")}
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer, padding


def _load_session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's dozen errors share no other base class
        raise ArtifactError(f"{path} cannot be loaded ({_brief(error)}); export the bundle again") from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
