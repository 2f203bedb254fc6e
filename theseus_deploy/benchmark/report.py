"""What a benchmark found. The JSON is the truth; terminal, markdown, HTML and JUnit are views of it (`views/`)."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.disk import write_atomically

SCHEMA = 1
NUMBERS = re.compile(r"\[\n[-+.,\deE\s]+\]")  # a list of nothing but numbers goes on one line
Verdict = Literal["pass", "fail", "inconclusive"]
Role = Literal["candidate", "reference"]
EXIT_CODES: Mapping[Verdict | None, int] = {"pass": 0, None: 0, "fail": 3, "inconclusive": 4}


@dataclass(frozen=True)
class Shape:
    """Inputs at once, and their length in tokens: fixed, or the data's own with tokenisation included."""

    batch: int
    sequence: int | Literal["data"]

    @property
    def fixed(self) -> int | None:
        """Return the length in tokens, or None for the data's own."""
        return None if self.sequence == "data" else self.sequence

    def __str__(self) -> str:
        return f"batch {self.batch}, " + (
            "the data's lengths" if self.sequence == "data" else f"{self.sequence} tokens"
        )


@dataclass(frozen=True)
class Ratio:
    """Candidate over baseline with 95 % intervals; 0.25 is four times as fast.

    `p50` is the median of the ratios batch by batch, `p95` the ratio of the 95th percentiles over the same rounds.
    """

    p50: float
    interval: tuple[float, float]
    p95: float
    p95_interval: tuple[float, float]


@dataclass(frozen=True)
class Latency:
    """The times of one shape, in seconds a batch: `samples` as measured, the rest derived from them.

    `sequence` is a length in tokens, or "data" for the data's own lengths with tokenisation included. The samples are
    in the order of their rounds, equally many a round; every candidate timed the same batches at the same place.
    `per_second` counts inputs at the mean time: batch / mean, and `per_second_and_core` divides that by the threads;
    None on a GPU. `cost_per_million` inputs is what these cores cost meanwhile, a part of the machine's price.
    """

    batch: int
    sequence: int | Literal["data"]
    rounds: int
    samples: tuple[float, ...]
    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    per_second: float
    ratio: Ratio
    per_second_and_core: float | None = None
    cost_per_million: float | None = None

    @property
    def shape(self) -> Shape:
        """Return what was timed."""
        return Shape(self.batch, self.sequence)

    @property
    def by_round(self) -> NDArray[np.float64]:
        """Return the samples as an array of shape (rounds, samples a round)."""
        return np.array(self.samples).reshape(self.rounds, -1)


@dataclass(frozen=True)
class Sweep:
    """The times of the first shape with so many threads; the ratio is to the baseline with as many."""

    threads: int
    latency: Latency


@dataclass(frozen=True)
class Paced:
    """Seconds of single inputs of the data that arrived at random, and of the same ones `again` without a pause.

    `busy` is the share of the time in which the process worked. One that has pauses finds its weights gone from the
    caches and its core slowed down, and not for the first input after a pause alone.
    """

    busy: float
    samples: tuple[float, ...]
    again: tuple[float, ...]


@dataclass(frozen=True)
class Loyalty:
    """Agreement with the baseline (Xu et al., EMNLP 2021): of labels, and of probabilities, 1 - sqrt(JSD), base 2."""

    label: float
    probability: float


@dataclass(frozen=True)
class Exchange:
    """A label of the baseline's and what the candidate says where it says that: how often, and how often each is right.

    Where an input may have many labels, each is one of the two: `toxic` or `not toxic`.
    """

    baseline: str
    candidate: str
    count: int
    baseline_right: int
    candidate_right: int


@dataclass(frozen=True)
class Sighting:
    """An input on which the two disagree: what each says, its probability, and what is true.

    `row` counts from 1 among the rows that were scored, `text` is cut short, and `word` is what the labels are of
    where words are tagged.
    """

    row: int
    text: str
    word: str | None
    baseline: str
    baseline_score: float
    candidate: str
    candidate_score: float
    truth: str


@dataclass(frozen=True)
class Disagreement:
    """Where a candidate departs from the baseline.

    `confusion` holds every pair of labels that occurs, the most frequent first, those that agree included; `texts`
    the inputs on which both are surest of different labels, the surest first.
    """

    confusion: tuple[Exchange, ...]
    texts: tuple[Sighting, ...]

    @property
    def departures(self) -> tuple[Exchange, ...]:
        """Return the pairs of labels that differ."""
        return tuple(one for one in self.confusion if one.baseline != one.candidate)


@dataclass(frozen=True)
class Candidate:
    """One model in one runtime: `path` is what the user named, `sha256` its content.

    Sizes are in bytes (`bytes` is its weights on disk); `load_seconds` runs from the start of a process to ready, and
    `first_answer_seconds` to the answer to the first input. A `reference` is the baseline in another form, measured
    for comparison and judged by no gate. `sweep` is there on request.
    `intervals` holds the 95 % intervals of what was found on the data's inputs, by name: of the metric that decides,
    and of `label_loyalty`.
    """

    name: str
    path: str
    sha256: str
    runtime: str
    device: str
    precision: str
    parameters: int
    layers: int
    bytes: int
    load_seconds: float
    peak_rss_bytes: int
    scores: Mapping[str, float]
    loyalty: Loyalty | None
    latency: tuple[Latency, ...]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    disagreement: Disagreement | None = None
    role: Role = "candidate"
    first_answer_seconds: float | None = None
    sweep: tuple[Sweep, ...] = ()
    paced: tuple[Paced, ...] = ()

    def at(self, batch: int, sequence: int | str) -> Latency:
        """Return the times of one shape."""
        return next(item for item in self.latency if (item.batch, item.sequence) == (batch, sequence))


@dataclass(frozen=True)
class Gate:
    """A limit and what was found: `interval` is what decides, `value` is its point.

    `reason` says why nothing is decided, and what would help; "" where it is.
    """

    name: str
    candidate: str
    limit: float
    value: float
    interval: tuple[float, float]
    verdict: Verdict
    reason: str = ""

    @property
    def at_most(self) -> bool:
        """Tell whether the limit is an upper one."""
        return self.name != "label-loyalty"

    @property
    def margin(self) -> float:
        """Return how far the interval's worse end stays inside the limit; negative where it reaches beyond."""
        low, high = self.interval
        return self.limit - high if self.at_most else low - self.limit

    def to_json(self) -> dict[str, Any]:
        """Return the gate as the contract has it, with its margin."""
        return {**asdict(self), "margin": self.margin}


@dataclass(frozen=True)
class Change:
    """What became of a candidate since an earlier report: its p50 ratio to the baseline, score and size then.

    `ratio` is its ratio to the baseline now over that of `before`, above 1 where it became slower; the 95 % interval is
    widened by the noise floors of both reports.
    """

    candidate: str
    before: float
    score_before: float
    bytes_before: int
    ratio: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Against:
    """The earlier report, and what changed since, of candidates of the same names."""

    path: str
    changes: tuple[Change, ...]
    sha256: str = ""  # of that report's file


@dataclass(frozen=True)
class BenchmarkReport:
    """Everything a benchmark found, the raw samples included."""

    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    baseline: Candidate
    candidates: tuple[Candidate, ...]
    gates: tuple[Gate, ...]
    against: Against | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Return the worst verdict of all gates, or None where there are none."""
        verdicts = {gate.verdict for gate in self.gates}
        return next((verdict for verdict in ("fail", "inconclusive", "pass") if verdict in verdicts), None)

    @property
    def exit_code(self) -> int:
        """Return what a command that made this report exits with."""
        return EXIT_CODES[self.verdict]

    @property
    def request(self) -> dict[str, Any]:
        """Return all that this report depends on, as `BenchmarkRequest.identity` puts it."""
        folders = [one.sha256 for one in (self.baseline, *self.candidates) if one.role == "candidate"]
        environment = {name: self.environment.get(name) for name in ("cpu", "isa", "cores", "versions")}
        return {
            "folders": folders, "data": self.data["sha256"], "config": dict(self.config), "environment": environment,
            "against": self.against.sha256 if self.against else None,
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the report as the contract has it."""
        gates = [gate.to_json() for gate in self.gates]
        return {"schema": SCHEMA, **asdict(self), "gates": gates, "verdict": self.verdict}

    def dumps(self) -> str:
        """Return the report as JSON text."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        return NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n"

    def save(self, path: Path) -> None:
        """Write the report's JSON, whole or not at all."""
        write_atomically(path, self.dumps())

    @classmethod
    def open(cls, path: Path) -> "BenchmarkReport":
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is not a report of this schema.
        """
        from theseus_deploy.benchmark.reading import read_report

        return read_report(path)
