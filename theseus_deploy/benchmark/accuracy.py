"""What a candidate answers: the task's metrics, and its loyalty to the baseline."""

import base64

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import Loyalty
from theseus_deploy.data import Split
from theseus_deploy.progress import Progress
from theseus_deploy.tasks import Array, Task, softmax

BATCH = 32
BATCHES_A_REQUEST = 16


def logits_of(worker: Worker, split: Split, progress: Progress) -> NDArray[np.float32]:
    """Ask a worker for the logits of every row, in the rows' order: an array of shape (rows, labels).

    Rows are batched by length, so that little is padding; the batches are the same for every candidate.
    """
    order = sorted(range(len(split)), key=lambda row: sum(map(len, split.texts[row])))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    parts = []
    with progress.track(f"Scoring {worker.name}", total=len(order)) as tracker:
        for start in range(0, len(batches), BATCHES_A_REQUEST):
            asked = batches[start : start + BATCHES_A_REQUEST]
            answer = worker.ask("score", batches=[[split.texts[row] for row in batch] for batch in asked])
            part = np.frombuffer(base64.b64decode(answer["logits"]), dtype="<f4").reshape(-1, answer["columns"])
            parts.append(part)
            tracker.advance(len(part))
    sorted_logits = np.concatenate(parts)
    logits = np.empty_like(sorted_logits)
    logits[order] = sorted_logits
    return logits


def loyalty(task: Task, logits: Array, baseline: Array) -> Loyalty | None:
    """Compare a candidate's answers with the baseline's, both of shape (rows, labels).

    A regression has neither labels nor probabilities to be loyal to: None.

    Source: Xu et al., "Beyond Preserved Accuracy" (EMNLP 2021): the share of equal labels, and 1 - sqrt(JSD), base 2.
    """
    if not task.labels:
        return None
    from scipy.special import rel_entr

    ours, theirs = (softmax(np.asarray(values, dtype=np.float64)) for values in (logits, baseline))
    middle = (ours + theirs) / 2
    divergence = (rel_entr(ours, middle) + rel_entr(theirs, middle)).sum(axis=1) / (2 * np.log(2))
    distance = np.sqrt(divergence.clip(0, 1))  # rounding puts equals a hair below 0
    same = same_labels(task, logits, baseline)
    return Loyalty(label=float(same.mean()), probability=float(1 - distance.mean()))


def same_labels(task: Task, logits: Array, baseline: Array) -> NDArray[np.bool_]:
    """Tell for each row whether both chose the same label."""
    same: NDArray[np.bool_] = task.facts.decide(logits) == task.facts.decide(baseline)
    return same
