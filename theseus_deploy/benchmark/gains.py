"""Which share of a gain came from what: the way from the baseline to a candidate, one change at a time.

A speedup is a product: (runtime) x (compression) x (quantisation). Each factor is the ratio of two candidates that
differ in nothing else, so it is known only where both were measured.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import permutations

from theseus_deploy.benchmark.report import BenchmarkReport, Candidate
from theseus_deploy.benchmark.stats import Estimate, median_ratio_change

CHANGES = ("runtime", "compression", "quantisation")  # the order in which a gain is told where all of it was measured
Corner = tuple[Hashable, ...]  # what a candidate is with respect to each of the changes


@dataclass(frozen=True)
class Step:
    """From one candidate to the next: one change, or several that nothing was measured between.

    `ratio` is that of `end` to the baseline over that of `start`, at the first shape: steps multiply to the whole.
    """

    changes: tuple[str, ...]
    start: Candidate
    end: Candidate
    ratio: Estimate

    @property
    def speedup(self) -> Estimate:
        """Return how many times as fast the step made it."""
        low, high = self.ratio.interval
        return Estimate(1 / self.ratio.value, (1 / high, 1 / low))


@dataclass(frozen=True)
class Gap:
    """A candidate that would have told two changes apart: whose model, in which runtime and precision."""

    model: Candidate
    runtime: str
    precision: str


@dataclass(frozen=True)
class Gain:
    """The steps from the baseline to a candidate, and what was not measured to tell them apart."""

    candidate: Candidate
    steps: tuple[Step, ...]
    gaps: tuple[Gap, ...]

    def share(self, step: Step) -> float | None:
        """Return a step's share of the logarithm of the speedup: factors multiply, so their logarithms add up.

        Negative where a step undoes some of it; None where no speedup is certain.
        """
        whole = self.candidate.latency[0].ratio
        return math.log(step.ratio.value) / math.log(whole.p50) if whole.interval[1] < 1 else None


def gain(report: BenchmarkReport, candidate: Candidate) -> Gain:
    """Take the gain of a candidate apart, along the way from the baseline on which most was measured."""
    baseline = report.baseline
    measured = {_corner(one): one for one in (*reversed(report.candidates), candidate, baseline)}
    start, end = _corner(baseline), _corner(candidate)
    changed = [place for place in range(len(CHANGES)) if start[place] != end[place]]
    ways = [_way(start, end, order) for order in permutations(changed)]
    best = max(ways, key=lambda way: sum(corner in measured for _, corner in way))
    steps: list[Step] = []
    here, changes = baseline, list[str]()
    for change, corner in best:
        changes.append(CHANGES[change])
        if corner in measured:
            there = measured[corner]
            steps.append(Step(tuple(changes), here, there, _ratio(report, here, there)))
            here, changes = there, []
    gaps = tuple(_gap(baseline, candidate, corner) for _, corner in best if corner not in measured)
    return Gain(candidate, tuple(steps), gaps)


def _corner(one: Candidate) -> Corner:
    """Return runtime, model and precision. Times depend on a model's shape alone, which two numbers tell apart."""
    return ((one.runtime, one.device), (one.layers, one.parameters), one.precision)


def has_twin(report: BenchmarkReport, one: Candidate) -> bool:
    """Tell whether another candidate is like this one in all that a step changes, and may weigh and score otherwise."""
    return sum(_corner(other) == _corner(one) for other in (report.baseline, *report.candidates)) > 1


def _way(start: Corner, end: Corner, order: tuple[int, ...]) -> list[tuple[int, Corner]]:
    """Return the corners from start to end, each with the place that changed last."""
    return [
        (changed, tuple(end[place] if place in order[: count + 1] else start[place] for place in range(len(start))))
        for count, changed in enumerate(order)
    ]


def _gap(baseline: Candidate, candidate: Candidate, corner: Corner) -> Gap:
    known = _corner(baseline)
    runtime, model, precision = (baseline if part == known[at] else candidate for at, part in enumerate(corner))
    return Gap(model, runtime.runtime, precision.precision)


def _ratio(report: BenchmarkReport, start: Candidate, end: Candidate) -> Estimate:
    if start is report.baseline:
        known = end.latency[0].ratio
        return Estimate(known.p50, known.interval)
    seed, baseline = report.config["seed"], report.baseline.latency[0].by_round
    after, before = end.latency[0].by_round, start.latency[0].by_round
    return median_ratio_change((after, baseline), (before, baseline), (seed, seed))
