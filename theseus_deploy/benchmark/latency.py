"""Interleaved rounds: samples first, statistics from them.

A round asks every worker, one after the other and in a new random order, to time the same batches. What slows the
machine down for a while therefore slows all of them, and the ratio of two candidates is taken over the same batches.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import Latency, Paced, Ratio, Shape
from theseus_deploy.benchmark.stats import Array, Estimate, median_ratio, quantile_ratio
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.progress import Progress
from theseus_deploy.splits import Split

MEDIAN = 0.5
NARROW = 0.03  # a ratio is known well enough when its interval reaches no further than this share of it
MIN_ROUNDS = 10  # resampling fewer covers the truth less often than it says: 91 % of the time at 5, simulated
ROUND_SECONDS = 0.1  # what one candidate should be busy in a round: long against a process switch, short against drift
MOST_IN_A_ROUND = 8
WARM_SHARE = 0.15  # of a shape's time, for all workers together
WARM_BATCHES = 8
SECONDS_AN_HOUR = 3600
LOADS = (0.1, 0.25, 0.5, 0.75)  # shares of the time in which a process has work
PACED = (3, 1000)  # inputs at each load, at least and at most
CONTROL = "the baseline again"  # a second process of it: what two equal candidates differ by is noise


@dataclass(frozen=True)
class Timings:
    """The seconds of one shape: for each worker an array of shape (rounds, batches a round), in the same rounds."""

    shape: Shape
    seconds: dict[str, Array]

    def ratio(self, name: str, baseline: str, quantile: float, seed: int) -> Estimate:
        """Estimate the ratio of two workers: the median is paired by batch, which other quantiles cannot be."""
        pair = self.seconds[name], self.seconds[baseline]
        return median_ratio(*pair, seed) if quantile == MEDIAN else quantile_ratio(*pair, quantile, seed)


@dataclass(frozen=True)
class Limit:
    """What an interval will be judged by, and how it is found of the times that a worker of this name has by now."""

    value: float
    estimate: Callable[[Timings, str], Estimate]

    def decides(self, timings: Timings, name: str) -> bool:
        """Tell whether the interval is clear of the limit."""
        low, high = self.estimate(timings, name).interval
        return not low <= self.value < high


Limits = Mapping[str, Sequence[Limit]]  # by worker


def shapes(config: BenchmarkConfig) -> list[Shape]:
    """List the shapes to measure; the first, on which gates are decided, is what production pays: data, first batch."""
    data = [Shape(batch, "data") for batch in dict.fromkeys(config.batch)]
    return data + [
        Shape(batch, length) for batch in dict.fromkeys(config.batch) for length in dict.fromkeys(config.sequence)
    ]


def measure(
    workers: Sequence[Worker],
    baseline: str,
    shape: Shape,
    split: Split,
    config: BenchmarkConfig,
    seconds: float,
    limits: Limits,
    progress: Progress,
) -> Timings:
    """Time all workers at one shape until every ratio to the baseline is known well, or the seconds are over.

    One that will be judged, and is not yet clear of its limit, is not yet known well. At least ten rounds are
    measured, whatever the seconds.
    """
    start = time.perf_counter()
    draw = np.random.default_rng([config.seed, shape.batch, shape.fixed or 0])
    batches = _batches(split, shape.batch, draw)
    with progress.track(f"Timing {shape}", total=100) as tracker:
        warm = [next(batches) for _ in range(WARM_BATCHES)]
        share = seconds * WARM_SHARE / len(workers)
        paces = [worker.ask("warm", batches=warm, sequence=shape.fixed, seconds=share)["seconds"] for worker in workers]
        size = min(MOST_IN_A_ROUND, max(1, round(ROUND_SECONDS / max(paces))))
        least = max(MIN_ROUNDS, math.ceil(config.min_samples / size))
        taken: dict[str, list[list[float]]] = {worker.name: [] for worker in workers}
        shown, look, rounds = 0, least, 0
        while True:
            chosen = [next(batches) for _ in range(size)]
            for position in draw.permutation(len(workers)):
                worker = workers[position]
                taken[worker.name].append(worker.ask("time", batches=chosen, sequence=shape.fixed)["seconds"])
            rounds += 1
            spent = (time.perf_counter() - start) / seconds
            done = min(99, round(100 * spent))
            tracker.advance(max(0, done - shown), samples=rounds * size)
            shown = max(shown, done)
            timings = Timings(shape, {name: np.array(rows) for name, rows in taken.items()})
            if rounds >= least and rounds >= look:
                if _known(timings, baseline, config.seed) and _decided(timings, limits):
                    return timings
                look = math.ceil(rounds * 1.25)
            if rounds >= MIN_ROUNDS and spent >= 1:
                return timings


def measure_paced(worker: Worker, split: Split, seed: int, seconds: float) -> tuple[Paced, ...]:
    """Time single inputs of the data as they arrive at random at several loads.

    The seconds are for all loads together, but for a few inputs at each in any case.
    """
    draw, found = np.random.default_rng([seed, 0]), []
    batches = _batches(split, 1, draw)
    warm = [next(batches) for _ in range(WARM_BATCHES)]
    service = float(np.mean(worker.ask("time", batches=warm, sequence=None)["seconds"]))
    for load in LOADS:
        count = int(np.clip(seconds / len(LOADS) * load / service, *PACED))
        arrivals = draw.exponential(service / load, count).cumsum()
        answer = worker.ask("pace", batches=[next(batches) for _ in range(count)], arrivals=arrivals.tolist())
        taken = (tuple(round(value, 9) for value in answer[name]) for name in ("seconds", "again"))
        found.append(Paced(answer["busy"], *taken))
    return tuple(found)


def summarise(
    timings: Timings,
    name: str,
    baseline: str,
    seed: int,
    cores: int | None = None,
    price_per_hour: float | None = None,
) -> Latency:
    """Derive percentiles, throughput, cost and the ratio to the baseline from the samples.

    `cores` are those that were kept busy, None on a GPU; the price is theirs.
    """
    samples = timings.seconds[name]
    p50, p90, p95, p99 = (float(value) for value in np.quantile(samples, [0.5, 0.9, 0.95, 0.99]))
    mean = float(samples.mean())
    per_second = timings.shape.batch / mean
    if name == baseline:
        ratio = Ratio(1.0, (1.0, 1.0), 1.0, (1.0, 1.0))
    else:
        middle, tail = (timings.ratio(name, baseline, quantile, seed) for quantile in (MEDIAN, 0.95))
        ratio = Ratio(middle.value, middle.interval, tail.value, tail.interval)
    return Latency(
        batch=timings.shape.batch,
        sequence=timings.shape.sequence,
        rounds=len(samples),
        samples=tuple(round(float(value), 9) for value in samples.ravel()),
        p50=p50, p90=p90, p95=p95, p99=p99, mean=mean,
        per_second=per_second,
        ratio=ratio,
        per_second_and_core=per_second / cores if cores else None,
        cost_per_million=price_per_hour / SECONDS_AN_HOUR / per_second * 1e6 if price_per_hour is not None else None,
    )  # fmt: skip


def _known(timings: Timings, baseline: str, seed: int) -> bool:
    others = timings.seconds.keys() - {baseline}
    return all(timings.ratio(name, baseline, MEDIAN, seed).half_width <= NARROW for name in others)


def _decided(timings: Timings, limits: Limits) -> bool:
    return all(limit.decides(timings, name) for name, asked in limits.items() for limit in asked)


def _batches(split: Split, size: int, draw: np.random.Generator) -> Iterator[list[tuple[str, ...]]]:
    """Draw batches of the data's rows, all rows in random order before any comes again."""
    rows: list[int] = []
    while True:
        while len(rows) < size:
            rows += draw.permutation(len(split)).tolist()
        chosen, rows = rows[:size], rows[size:]
        yield [split.texts[row] for row in chosen]
