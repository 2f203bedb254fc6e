"""A few questions that a bundle keeps with its answers, to be asked again on another machine, without torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from theseus_deploy.errors import ArtifactError, ExportError
from theseus_deploy.predictor import Logits, Predictor

FILE = "probe.json"
FP32_ATOL = 1e-4  # the order of sums differs between CPUs; relative to the largest logit where that is above 1


@dataclass(frozen=True)
class Probe:
    """Texts, or lists of words, asked in one batch; the logits of shape (items, labels); how far others may be."""

    texts: Sequence[Sequence[str]]
    logits: Logits
    atol: float

    @classmethod
    def ask(cls, predictor: Predictor, texts: Sequence[Sequence[str]], quantised_by: float = 0.0) -> "Probe":
        """Ask a bundle on the machine where it was made.

        `quantised_by` is how far quantisation moved the logits. An int8 graph need not repeat itself elsewhere: where
        activations are rounded depends on the last bits of sums, and another instruction set rounds others. It may
        move as far again, and no farther.

        Raises:
            ExportError: an answer is no finite number.
        """
        logits = np.concatenate(predictor.answer(texts))
        if not np.isfinite(logits).all():
            raise ExportError("the graph answers a probe with a logit that is no finite number; train the model again")
        return cls(texts, logits, max(FP32_ATOL * max(1.0, float(np.abs(logits).max())), quantised_by))

    @classmethod
    def read(cls, folder: Path) -> "Probe | None":
        """Read the probe of a bundle; older ones have none.

        Raises:
            ArtifactError: it cannot be read.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            data: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
            if not isinstance(data["texts"], list):
                raise TypeError("its texts are no list")
            return cls(data["texts"], np.array(data["logits"], np.float32), float(data["atol"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); export the bundle again") from error

    def write(self, folder: Path) -> None:
        """Keep the probe in a bundle, at full precision."""
        content = {"texts": self.texts, "logits": self.logits.tolist(), "atol": self.atol}
        (folder / FILE).write_text(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")

    def distance(self, predictor: Predictor) -> float:
        """Ask a bundle again, and return the largest difference of a logit; infinite where no two can be compared."""
        logits = np.concatenate(predictor.answer(self.texts))
        if logits.shape != self.logits.shape or not np.isfinite(logits).all():
            return float("inf")
        return float(np.abs(logits - self.logits).max())
