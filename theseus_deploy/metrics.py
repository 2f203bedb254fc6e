"""How good decisions are, by the metrics of each kind of task. `labels` are those of the model, in its order."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.labels import as_seqeval


def score_classes(labels: Sequence[str], decisions: NDArray[Any], references: Sequence[int]) -> dict[str, float]:
    """Score one class an input, both given as indices."""
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    constant = np.ptp(decisions) == 0 or np.ptp(references) == 0  # no correlation then; sklearn says 0 too, and warns
    scores = {
        "accuracy": float(accuracy_score(references, decisions)),
        "macro_f1": float(f1_score(references, decisions, average="macro", zero_division=0.0)),
        "matthews": 0.0 if constant else float(matthews_corrcoef(references, decisions)),
    }
    if len(labels) == 2:  # of the second label, as GLUE and sklearn have it
        scores["f1"] = float(f1_score(references, decisions, zero_division=0.0))
    return scores


def score_many(labels: Sequence[str], decisions: NDArray[Any], references: Sequence[list[float]]) -> dict[str, float]:
    """Score many labels an input: decisions and references of shape (inputs, labels), yes or no each."""
    from sklearn.metrics import accuracy_score, f1_score

    del labels
    truth = np.asarray(references) > 0
    return {
        "micro_f1": float(f1_score(truth, decisions, average="micro", zero_division=0.0)),
        "macro_f1": float(f1_score(truth, decisions, average="macro", zero_division=0.0)),
        "accuracy": float(accuracy_score(truth, decisions)),  # all labels of an input right
    }


def score_entities(labels: Sequence[str], decisions: NDArray[Any], references: Sequence[list[int]]) -> dict[str, float]:
    """Score entities, as CoNLL does, and words: `decisions` are the tags of all words, `references` those of an input.

    Tags without a prefix (parts of speech) are entities of one word.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    names = [as_seqeval(tag) for tag in labels]
    bounds = np.cumsum([0, *map(len, references)])
    truth = [[names[tag] for tag in row] for row in references]
    found = [[names[tag] for tag in decisions[start:stop]] for start, stop in pairwise(bounds)]
    precision, recall, f1, _ = precision_recall_fscore_support(truth, found, average="micro", zero_division=0)
    words = np.concatenate([np.asarray(row, dtype=np.int64) for row in references])
    return {
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
        "accuracy": float((decisions == words).mean()),
    }


def correlate(labels: Sequence[str], decisions: NDArray[Any], references: Sequence[float]) -> dict[str, float]:
    """Score numbers by how they correlate with the right ones."""
    from scipy.stats import pearsonr, spearmanr

    del labels
    if np.ptp(decisions) == 0 or np.ptp(references) == 0:  # a correlation with a constant is undefined
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(decisions, references).statistic),
        "spearman": float(spearmanr(decisions, references).statistic),
    }
