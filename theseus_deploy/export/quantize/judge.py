"""How faithful a quantised graph is: to the checkpoint on the texts of the check, and to the labels of the data."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from theseus_deploy.data import Corpus
from theseus_deploy.export.parity import Answers, Texts, ask, compare
from theseus_deploy.export.quantize.calibrate import Encoded, Ranges
from theseus_deploy.export.quantize.int8 import to_int8
from theseus_deploy.export.quantize.scheme import Scheme
from theseus_deploy.labels import Reference
from theseus_deploy.manifest import GRAPH, TOKENIZER
from theseus_deploy.predictor import Predictor
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task

ROWS = 2000  # to score


@dataclass(frozen=True)
class Verdict:
    """How a quantised graph answers; without labels no agreement, and without data no drop of its metric."""

    label_agreement: float | None
    mean_abs_diff: float
    metric_drop: float | None

    def to_json(self) -> dict[str, float]:
        """Return what is known."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.to_json().items())


@dataclass(frozen=True)
class Judge:
    """What a graph is judged by: the fp32 bundle as it is so far, and what the checkpoint answered to `texts`."""

    folder: Path
    task: Task
    texts: Texts
    expected: Answers
    corpus: Corpus | None
    threads: int | None

    def open(self, folder: Path | None = None) -> Predictor:
        """Open the graph in a folder, by default the fp32 one; it is not kept, since it takes memory."""
        return Predictor(folder or self.folder, self.threads, task=self.task)

    def encode(self, texts: Texts) -> list[Encoded]:
        """Return each text by itself as inputs of the graph."""
        fp32 = self.open()
        return [fp32.encode([text]) for text in texts]

    def verdict(self, scheme: Scheme, ranges: Ranges | None, scored: bool) -> Verdict:
        """Quantise the fp32 graph in a place of its own that is gone afterwards, and judge it."""
        with TemporaryDirectory(dir=self.folder) as place:
            self.write(Path(place), scheme, ranges)
            return self.judge(Path(place), scored)

    def write(self, trial: Path, scheme: Scheme | None, ranges: Ranges | None) -> None:
        """Write the fp32 graph into a folder, quantised where there is a scheme, and the tokenizer beside it."""
        shutil.copy(self.folder / TOKENIZER, trial)
        if scheme:
            to_int8(self.folder / GRAPH, trial / GRAPH, scheme, ranges)
        else:
            shutil.copy(self.folder / GRAPH, trial)

    def judge(self, trial: Path, scored: bool) -> Verdict:
        """Ask the graph in a folder; the drop of the metric is found where it is `scored`.

        Raises:
            ExportError: it answers with what is no finite number.
        """
        predictor = self.open(trial)
        answered = ask(predictor.answer, self.texts)
        parity = compare(self.expected, answered, self.texts, self.task)
        distance = np.abs(np.concatenate(self.expected) - np.concatenate(answered)).mean()
        drop = self._metric_of_fp32 - self._metric(predictor) if scored else None
        return Verdict(parity.label_agreement, float(distance), drop)

    @cached_property
    def _metric_of_fp32(self) -> float:
        return self._metric(self.open())

    def _metric(self, predictor: Predictor) -> float:
        assert self.corpus is not None
        split, references = rows_to_score(self.corpus, self.task)
        return self.task.score(predictor.logits(split.texts), references)[self.task.primary]


def rows_to_score(corpus: Corpus, task: Task) -> tuple[Split, list[Reference]]:
    """Take the rows that a graph is scored on, and what is right of each."""
    split = corpus.for_scoring().sample(ROWS)
    return split, task.encode(split.labels, f"{corpus.ref} ({split.name})")
