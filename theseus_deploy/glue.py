"""The tasks of GLUE (Wang et al., 2019, arXiv 1804.07461) as a table of facts; their rows are the Hub's."""

from dataclasses import dataclass

HUB = "nyu-mll/glue"
LABEL = "label"


@dataclass(frozen=True)
class GlueTask:
    """Where a task's texts are, its labels in GLUE's own order, none for a number, and the metric that decides.

    Of two labels the second is the one that F1 is of. Where the paper gives two metrics, this is the first but
    accuracy: MRPC and QQP are uneven.
    """

    text: tuple[str, ...]
    labels: tuple[str, ...]
    metric: str = "accuracy"


PAIR = ("sentence1", "sentence2")
TASKS = {
    "cola": GlueTask(("sentence",), ("unacceptable", "acceptable"), "matthews"),
    "mnli": GlueTask(("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    "mrpc": GlueTask(PAIR, ("not_equivalent", "equivalent"), "f1"),
    "qnli": GlueTask(("question", "sentence"), ("entailment", "not_entailment")),
    "qqp": GlueTask(("question1", "question2"), ("not_duplicate", "duplicate"), "f1"),
    "rte": GlueTask(PAIR, ("entailment", "not_entailment")),
    "sst2": GlueTask(("sentence",), ("negative", "positive")),
    "stsb": GlueTask(PAIR, (), "pearson"),
}
NAMES = tuple(f"glue/{name}" for name in TASKS)


def spelled(name: str) -> str:
    """Return a name of GLUE as `NAMES` has it, `glue/SST-2` for instance as `glue/sst2`, and any other as it is."""
    known = name.casefold().replace("-", "").replace("_", "")
    return known if known.startswith("glue/") else name
