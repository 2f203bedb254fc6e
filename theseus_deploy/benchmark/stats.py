"""The statistics of a benchmark: pure functions of samples, seeded, on arrays."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 2_000
CONFIDENCE = 0.95
CHUNK = 4_000_000  # numbers held at once while resampling: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    interval: Interval

    @property
    def half_width(self) -> float:
        """Return half the interval's width, as a share of the value."""
        return (self.interval[1] - self.interval[0]) / 2 / self.value

    def widened(self, noise: Interval) -> "Estimate":
        """Widen a ratio by what that of two equals may be: a noisy machine decides nothing that is close.

        The two errors are independent, so that the squares of their logarithms add up. What equals differ by tells how
        far a process may be from another of the same model, and not which of the two was off: it widens both sides.
        """
        low, high = self.interval
        reach = max(-math.log(noise[0]), math.log(noise[1]), 0.0)
        below, above = (math.hypot(math.log(ratio), reach) for ratio in (self.value / low, high / self.value))
        return Estimate(self.value, (self.value * math.exp(-below), self.value * math.exp(above)))


def quantile_ratio(candidate: Array, baseline: Array, quantile: float, seed: int) -> Estimate:
    """Estimate the ratio of a quantile of two sets of times that were taken in the same rounds.

    Both arrays have shape (rounds, samples a round). Rounds are resampled, the same ones on both sides, so that what
    slows a whole round down (a neighbour, the clock) cancels out. The percentiles are expanded for few rounds
    (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 4.1): plain ones cover too little.
    """
    above, below = (_quantiles(times, quantile, seed) for times in (candidate, baseline))
    value = float(np.quantile(candidate, quantile) / np.quantile(baseline, quantile))
    return _estimate(value, above / below, len(candidate))


def median_ratio(candidate: Array, baseline: Array, seed: int) -> Estimate:
    """Estimate the median of candidate / baseline, each pair the times of one batch: arrays as in `quantile_ratio`.

    Neither how long the batch is nor what state the machine is in tells in such a ratio: measured, its error is less
    than half that of the ratio of the medians. Both are the ratio at the median length wherever longer batches take
    longer and the ratio goes one way with the length.
    """
    ratios = candidate / baseline
    return _estimate(float(np.median(ratios)), _quantiles(ratios, 0.5, seed), len(ratios))


def median_ratio_change(now: tuple[Array, Array], before: tuple[Array, Array], seeds: tuple[int, int]) -> Estimate:
    """Estimate the factor between two ratios as `median_ratio` has them, each of a candidate and its baseline.

    Equal seeds resample the same rounds, where both were timed in the same ones; others are for separate timings.
    """
    ratios = [candidate / baseline for candidate, baseline in (now, before)]
    after, first = (_quantiles(one, 0.5, seed) for one, seed in zip(ratios, seeds, strict=True))
    return _estimate(float(np.median(ratios[0]) / np.median(ratios[1])), after / first, min(map(len, ratios)))


def share(hits: NDArray[np.bool_]) -> Estimate:
    """Estimate how often something is true, with Wilson's interval: few rows, all of them true, prove little."""
    count, rate, z = len(hits), float(hits.mean()), _z()
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return Estimate(rate, (max(0.0, min(rate, float(centre - reach))), min(1.0, max(rate, float(centre + reach)))))


def paired_difference(first: Array, second: Array) -> Estimate:
    """Estimate the mean of first - second over the same inputs, both 0 or 1 each.

    The interval is that of Agresti and Min ("Simple improved confidence intervals for comparing matched proportions",
    2005): half an input is added to each of the four cells, so that few rows never look certain.
    """
    count = len(first)
    gained, lost = float(np.sum(first > second)), float(np.sum(first < second))
    total = count + 2
    centre = (gained - lost) / total
    reach = _z() * np.sqrt((gained + lost + 1) - (gained - lost) ** 2 / total) / total
    low, high = (float(np.clip(end, -1, 1)) for end in (centre - reach, centre + reach))
    return Estimate((gained - lost) / count, (low, high))


def bootstrap(measure: Callable[[Array], Array], inputs: Array, unseen: int, seed: int) -> Estimate:
    """Estimate a measure of inputs by resampling them: percentiles of its values, expanded as in `quantile_ratio`.

    `inputs` counts the inputs of each sort; `measure` maps counts of shape (resamples, sorts + unseen) to one value a
    resample. The last sorts are those that no input was of and that might be drawn as well, each for half an input,
    as in `paired_difference`: where all inputs are alike, resampling them alone would make few look certain.
    """
    pool = np.append(inputs, np.full(unseen, 0.5))
    size = round(float(pool.sum()))
    draw = np.random.default_rng(seed)
    step = max(1, CHUNK // len(pool))
    values = [
        measure(draw.multinomial(size, pool / pool.sum(), size=min(step, RESAMPLES - start)).astype(np.float64))
        for start in range(0, RESAMPLES, step)
    ]
    value = float(measure(np.append(inputs, np.zeros(unseen))[None])[0])
    return _estimate(value, np.concatenate(values), round(float(inputs.sum())))


def correlation(weights: Array, first: Array, second: Array) -> Array:
    """Return Pearson's correlation for each row of weights, (resamples, inputs); 0 with what is constant.

    Both series have the shape (inputs,), or that of the weights where they differ from resample to resample.
    """
    total = weights.sum(axis=1, keepdims=True)
    one, two = (series - series[..., :1] for series in (first, second))  # so that what is constant is exactly 0
    one, two = (series - (weights * series).sum(axis=1, keepdims=True) / total for series in (one, two))
    covariance = (weights * one * two).sum(axis=1)
    spread = (weights * one**2).sum(axis=1) * (weights * two**2).sum(axis=1)
    noise = np.finfo(np.float64).eps * (total[:, 0] * np.abs(one).max(axis=1) * np.abs(two).max(axis=1)) ** 2
    found: Array = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > noise)
    return found


def ranks(weights: Array, series: Array) -> Array:
    """Rank a series, (inputs,), in each resample that weights of shape (resamples, inputs) describe; ties share one."""
    _, place = np.unique(series, return_inverse=True)
    order = np.argsort(place, kind="stable")
    firsts = np.flatnonzero(np.diff(place[order], prepend=-1))
    drawn = np.add.reduceat(weights[:, order], firsts, axis=1)
    found: Array = (drawn.cumsum(axis=1) - (drawn - 1) / 2)[:, place]
    return found


def _quantiles(series: Array, quantile: float, seed: int) -> Array:
    """Return the quantile in each of many resamples of the rounds, the same ones for one seed and shape."""
    rounds = len(series)
    draw = np.random.default_rng(seed)
    step = max(1, CHUNK // series.size)
    return np.concatenate(
        [
            np.quantile(
                series[draw.integers(rounds, size=(min(step, RESAMPLES - start), rounds))], quantile, axis=(1, 2)
            )
            for start in range(0, RESAMPLES, step)
        ]
    )


def _estimate(value: float, resampled: Array, count: int) -> Estimate:
    """Take the interval from resampled values of `count` independent things; it holds the value itself."""
    low, high = np.quantile(resampled, _tails(count))
    return Estimate(value, (min(float(low), value), max(float(high), value)))


def _tails(count: int) -> NDArray[Any]:
    from scipy.stats import norm, t

    tail = float(norm.cdf(np.sqrt(count / max(1, count - 1)) * t.ppf((1 - CONFIDENCE) / 2, max(1, count - 1))))
    return np.array([tail, 1 - tail])


def _z() -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + CONFIDENCE) / 2))
