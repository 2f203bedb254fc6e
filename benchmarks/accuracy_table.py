"""Say what the runs of `benchmarks/accuracy.py` amount to: arms beside one another, with intervals.

    python benchmarks/accuracy_table.py [benchmarks/results/accuracy.jsonl]

Reads the runs and, beside them, `accuracy_tasks.json`, and writes `accuracy.json`. Of every arm the
learning rate is chosen on the validation rows, by the mean over seeds, of the rates that were run on the most seeds;
the rows that are reported have no part in that. `ahead` is how far the shipped default is ahead of an arm on those: a
paired bootstrap, which draws rows and seeds, the same ones for both.
"""

import base64
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.artifact import write_atomically
from theseus_deploy.benchmark.stats import Estimate
from theseus_deploy.tasks import as_seqeval

RUNS = Path(__file__).resolve().parent / "results" / "accuracy.jsonl"
OURS = "theseus+distill"
GROUPS = {  # a mean for each; a task that is in none, as the newsgroups that `--thaw all` was chosen on, stands alone
    "tuned": ("banking77", "cola", "cola-by-matthews", "demo:tweets", "mrpc"),
    "later": ("editorials", "elections", "reviews"),  # held_out.py: no rate was tuned on them
    "held-out": ("products", "wnut17"),  # chosen when the default of these runs was fixed
}
JUDGED_BY = {"cola": "matthews", "cola-by-matthews": "matthews", "wnut17": "f1"}  # the others by accuracy
RESAMPLES, CHUNK, SEED = 2_000, 200, 1
TAILS = (0.025, 0.975)
Array = NDArray[np.float64]
Kept = tuple[float, float, Array]  # an arm's share of the predecessor's score, and how far ours is ahead, resampled too


@dataclass(frozen=True)
class Truth:
    """What is right: a label an item, and where words are tagged the number of words in each row."""

    labels: NDArray[np.uint8]
    names: tuple[str, ...] = ()
    lengths: tuple[int, ...] | None = None

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> "Truth":
        """Read what `accuracy.py` keeps of a task."""
        lengths = task.get("lengths")
        return cls(unpack(task["truth"]), tuple(task.get("labels", ())), lengths and tuple(lengths))

    @property
    def rows(self) -> int:
        """Count the rows, which are what is drawn."""
        return len(self.labels if self.lengths is None else self.lengths)

    def entities(self, labels: NDArray[np.uint8]) -> list[set[tuple[str, int, int]]]:
        """Read the entities of each row off a label a word, as seqeval does."""
        from seqeval.metrics.sequence_labeling import get_entities

        tags = [as_seqeval(self.names[label]) for label in labels]
        bounds = np.cumsum([0, *(self.lengths or ())])
        return [set(get_entities(tags[start:stop])) for start, stop in pairwise(bounds)]


@dataclass(frozen=True)
class Arm:
    """The runs of an arm on a task at its best learning rate, in the order of their seeds."""

    task: str
    name: str
    runs: tuple[Mapping[str, Any], ...]
    rates: tuple[float, ...]  # that were tried

    @property
    def metric(self) -> str:
        """Return what the task is judged by."""
        return JUDGED_BY.get(self.task, "accuracy")

    @cached_property
    def labels(self) -> list[NDArray[np.uint8]]:
        """Return what each run predicted, a label an item."""
        return [unpack(run["predictions"]) for run in self.runs]

    def mean(self, split: str) -> float:
        """Return the mean score over seeds."""
        return float(np.mean([run[split][self.metric] for run in self.runs]))

    def to_json(self, ahead: Estimate | None) -> dict[str, Any]:
        """Return a row of the table."""
        return {
            "arm": self.name,
            "lr": self.runs[0]["lr"],
            "of": self.rates,
            "seeds": [run["seed"] for run in self.runs],
            "validation": self.mean("validation"),
            "test": self.mean("test"),
            "tests": [run["test"][self.metric] for run in self.runs],
            "retained": self.mean("test") / self.mean("predecessor_test"),
            "label_loyalty": float(np.mean([run["loyalty"]["label"] for run in self.runs])),
            "probability_loyalty": float(np.mean([run["loyalty"]["probability"] for run in self.runs])),
            "ahead": asdict(ahead) if ahead else None,
        }


def choose(runs: Iterable[Mapping[str, Any]], task: str) -> dict[str, Arm]:
    """Take every arm of a task at the learning rate that is best on the validation rows, of those with the most seeds.

    So a grid may be laid on one seed: the rate that it prefers is run on all seeds, and only then compared. Runs that
    start otherwise, since `--init auto` chose otherwise then, are no seeds of one setting either.
    """
    grouped: dict[str, dict[tuple[float, str], list[Mapping[str, Any]]]] = {}
    for run in sorted(runs, key=lambda run: int(run["seed"])):
        if run["task"] == task:
            grouped.setdefault(run["arm"], {}).setdefault((run["lr"], run["config"]["init"]), []).append(run)
    found = {}
    for name, settings in grouped.items():
        seeds = max(len(runs) for runs in settings.values())
        rates = tuple(sorted({lr for lr, _ in settings}))
        whole = [Arm(task, name, tuple(runs), rates) for runs in settings.values() if len(runs) == seeds]
        found[name] = max(whole, key=lambda arm: arm.mean("validation"))
    return found


def unpack(packed: str) -> NDArray[np.uint8]:
    """Read labels that were packed as base64 of zlib of a byte a row; returns an array of shape (rows,)."""
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)


def _tally_hits(labels: NDArray[np.uint8], truth: Truth) -> Array:
    return np.stack([labels == truth.labels, np.ones(len(labels))], axis=1)


def _tally_table(labels: NDArray[np.uint8], truth: Truth) -> Array:
    return np.stack([labels, truth.labels, labels * truth.labels, np.ones(len(labels))], axis=1)


def _tally_entities(labels: NDArray[np.uint8], truth: Truth) -> Array:
    pairs = zip(truth.entities(labels), truth.entities(truth.labels), strict=True)
    return np.array([[len(found & true), len(found), len(true)] for found, true in pairs])


def _share(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def _matthews(sums: Array) -> Array:
    said, true, both, total = np.moveaxis(sums, -1, 0)
    spread = said * (total - said) * true * (total - true)
    return (total * both - said * true) / np.sqrt(np.maximum(spread, 1))


def _f1(sums: Array) -> Array:
    return 2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1)


@dataclass(frozen=True)
class Metric:
    """A score that follows from sums over rows: what each row adds to them, and the score of such sums (..., sums)."""

    tally: Callable[[NDArray[np.uint8], Truth], Array]
    score: Callable[[Array], Array]


METRICS = {
    "accuracy": Metric(_tally_hits, _share),
    "matthews": Metric(_tally_table, _matthews),
    "f1": Metric(_tally_entities, _f1),  # of entities
}


def lead(one: Arm, other: Arm, truth: Truth) -> tuple[float, Array]:
    """Return one's mean test score less the other's over the seeds that both have, and the same of many resamples."""
    shared = sorted({run["seed"] for run in one.runs} & {run["seed"] for run in other.runs})
    columns = [[[run["seed"] for run in arm.runs].index(seed) for seed in shared] for arm in (one, other)]
    ours, theirs = (
        float(np.mean([arm.runs[place]["test"][arm.metric] for place in places]))
        for arm, places in zip((one, other), columns, strict=True)
    )
    metric, rows = METRICS[one.metric], truth.rows
    tallies = [
        np.stack([metric.tally(arm.labels[place], truth) for place in places], axis=1).astype(np.float64)
        for arm, places in zip((one, other), columns, strict=True)
    ]  # (rows, seeds, sums)
    draw = np.random.default_rng([SEED, *one.task.encode()])
    found = []
    for _ in range(RESAMPLES // CHUNK):
        drawn = draw.integers(rows, size=(CHUNK, rows)) + rows * np.arange(CHUNK)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=CHUNK * rows).reshape(CHUNK, rows).astype(np.float64)
        seeds = draw.integers(len(shared), size=(CHUNK, len(shared)))
        ours_again, theirs_again = (
            np.take_along_axis(metric.score(np.tensordot(weights, tally, axes=1)), seeds, axis=1).mean(axis=1)
            for tally in tallies
        )
        found.append(ours_again - theirs_again)
    return ours - theirs, np.concatenate(found)


def estimate(value: float, resampled: Array) -> Estimate:
    """Take the interval from resampled values."""
    low, high = np.quantile(resampled, TAILS)
    return Estimate(value, (float(low), float(high)))


def summarise(runs: Sequence[Mapping[str, Any]], truths: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Compare the arms on every task, and in the mean over each group of tasks."""
    tasks, kept = [], dict[str, dict[str, list[Kept]]]()
    for task in sorted({run["task"] for run in runs}):
        arms, truth = choose(runs, task), Truth.of(truths[task])
        group = next((name for name, members in GROUPS.items() if task in members), task)
        ours = arms[OURS]
        predecessor = {split: ours.mean(f"predecessor_{split}") for split in ("validation", "test")}
        rows = []
        for arm in sorted(arms.values(), key=lambda arm: -arm.mean("test")):
            found = lead(ours, arm, truth)
            kept.setdefault(group, {}).setdefault(arm.name, []).append((arm.mean("test") / predecessor["test"], *found))
            rows.append(arm.to_json(None if arm is ours else estimate(*found)))
        about = {"task": task, "metric": ours.metric, "rows": truth.rows, "group": group}
        tasks.append({**about, "predecessor": predecessor, "arms": rows})
    return {
        "runs": len(runs),
        "machine": runs[0]["machine"],
        "tasks": tasks,
        "means": {group: average(arms) for group, arms in kept.items()},
    }


def average(kept: Mapping[str, Sequence[Kept]]) -> list[dict[str, Any]]:
    """Average every arm over its tasks, the best first."""
    means = []
    for name, found in kept.items():
        shares, leads, draws = zip(*found, strict=True)
        ahead = None if name == OURS else asdict(estimate(float(np.mean(leads)), np.mean(draws, axis=0)))
        means.append({"arm": name, "tasks": len(shares), "retained": float(np.mean(shares)), "ahead": ahead})
    return sorted(means, key=lambda one: -one["retained"])


def main() -> None:
    """Write the summary of the runs in a file beside it."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    runs = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    truths = json.loads(path.with_name(f"{path.stem}_tasks.json").read_text("utf-8"))
    write_atomically(path.with_suffix(".json"), json.dumps(summarise(runs, truths), indent=1) + "\n")


if __name__ == "__main__":
    main()
