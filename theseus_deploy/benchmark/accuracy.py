"""What a candidate answers: its logits, and its loyalty to the baseline."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import Loyalty
from theseus_deploy.errors import ModelError
from theseus_deploy.labels import Reference
from theseus_deploy.progress import Progress
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Array, Task

BATCH = 32
BATCHES_A_REQUEST = 16


@dataclass(frozen=True)
class Answers:
    """What is true of each input, and a model's logits of shape (items, labels)."""

    task: Task
    references: Sequence[Reference]
    logits: Array

    @cached_property
    def decisions(self) -> NDArray[np.generic]:
        """Return what the metrics compare with the references: (items,) or (items, labels)."""
        return self.task.decide(self.logits)

    @cached_property
    def truth(self) -> NDArray[np.generic]:
        """Return the references in the shape of the decisions."""
        return self.task.flat(self.references)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Return the first item of each input, and behind them the number of all items."""
        sizes = (len(row) if isinstance(row, list) and self.task.tags_words else 1 for row in self.references)
        return np.fromiter(accumulate(sizes, initial=0), dtype=np.int64)

    def per_input(self, of_items: NDArray[np.generic]) -> NDArray[np.int64]:
        """Add up what was found for each item, (items,), over the items of each input, (inputs,)."""
        sums = np.concatenate([[0], np.cumsum(of_items, dtype=np.int64)])
        found: NDArray[np.int64] = np.diff(sums[self.starts])
        return found


def logits_of(worker: Worker, split: Split, progress: Progress) -> NDArray[np.float32]:
    """Ask a worker for the logits of every row, in the rows' order: an array of shape (items, labels).

    Rows are batched by length, so that little is padding; the batches are the same for every candidate.

    Raises:
        ModelError: a logit is no finite number, so that nothing could be said of it.
    """
    order = sorted(range(len(split)), key=lambda row: sum(map(len, split.texts[row])))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    answers: list[NDArray[np.float32]] = []
    with progress.track(f"Scoring {worker.name}", total=len(order)) as tracker:
        for start in range(0, len(batches), BATCHES_A_REQUEST):
            asked = batches[start : start + BATCHES_A_REQUEST]
            answer = worker.ask("score", batches=[[split.texts[row] for row in batch] for batch in asked])
            logits = np.frombuffer(base64.b64decode(answer["logits"]), dtype="<f4").reshape(-1, answer["columns"])
            answers += np.split(logits, np.cumsum(answer["items"])[:-1])
            tracker.advance(len(answer["items"]))
    of_row = dict(zip(order, answers, strict=True))
    found = np.concatenate([of_row[row] for row in range(len(split))])
    if broken := int((~np.isfinite(found)).any(axis=1).sum()):
        raise ModelError(
            f"{worker.name} answers {broken} of {len(found)} with a logit that is no finite number; train it again"
        )
    return found


def loyalty(task: Task, logits: Array, baseline: Array) -> Loyalty | None:
    """Compare a candidate's answers with the baseline's, both of shape (items, labels).

    A regression has neither labels nor probabilities to be loyal to: None. Of many labels, all must be the same, and
    the divergence is that of each, on or off, averaged. Words that were cut off for both have no part in it.

    Source: Xu et al., "Beyond Preserved Accuracy" (EMNLP 2021): the share of equal labels, and 1 - sqrt(JSD), base 2.
    """
    probabilities = task.facts.probabilities
    if probabilities is None:
        return None
    from scipy.special import rel_entr

    seen = seen_by_either(task, logits, baseline)
    logits, baseline = logits[seen], baseline[seen]
    ours, theirs = (probabilities(np.asarray(values, dtype=np.float64)) for values in (logits, baseline))
    middle = (ours + theirs) / 2
    divergence = (rel_entr(ours, middle) + rel_entr(theirs, middle)).sum(axis=-1) / (2 * np.log(2))
    distance = np.sqrt(divergence.clip(0, 1))  # rounding puts equals a hair below 0
    return Loyalty(label=float(task.agree(logits, baseline).mean()), probability=float(1 - distance.mean()))


def seen_by_either(task: Task, logits: Array, baseline: Array) -> NDArray[np.bool_]:
    """Tell of each item whether it counts: those that either saw (`Task.seen`), or all where none was seen."""
    seen = task.seen(logits, baseline)
    return seen if seen.any() else np.ones_like(seen)
