"""The statistics of a benchmark: pure functions of samples, seeded, on arrays."""

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


def quantile_ratio(candidate: Array, baseline: Array, quantile: float, seed: int) -> Estimate:
    """Estimate the ratio of a quantile of two sets of times that were taken in the same rounds.

    Both arrays have shape (rounds, samples a round). Rounds are resampled, the same ones on both sides, so that what
    slows a whole round down (a neighbour, the clock) cancels out. The percentiles are expanded for few rounds
    (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 4.1): plain ones cover too little.
    """
    rounds = len(candidate)
    draw = np.random.default_rng(seed)
    ratios = np.empty(RESAMPLES)
    step = max(1, CHUNK // candidate.size)
    for start in range(0, RESAMPLES, step):
        chosen = draw.integers(rounds, size=(min(step, RESAMPLES - start), rounds))
        above = np.quantile(candidate[chosen].reshape(len(chosen), -1), quantile, axis=1)
        below = np.quantile(baseline[chosen].reshape(len(chosen), -1), quantile, axis=1)
        ratios[start : start + len(chosen)] = above / below
    value = np.quantile(candidate, quantile) / np.quantile(baseline, quantile)
    low, high = np.quantile(ratios, _tails(rounds))
    return Estimate(float(value), (min(float(low), float(value)), max(float(high), float(value))))


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
    return Estimate((gained - lost) / count, (float(centre - reach), float(centre + reach)))


def correlation_difference(first: Array, second: Array, references: Array, seed: int) -> Estimate:
    """Estimate pearson(first, references) - pearson(second, references), the inputs resampled in pairs."""
    count = len(references)
    stacked = np.stack([first, second, references]).astype(np.float64)
    draw = np.random.default_rng(seed)
    differences = []
    step = max(1, CHUNK // (3 * count))
    for start in range(0, RESAMPLES, step):
        chosen = draw.integers(count, size=(min(step, RESAMPLES - start), count))
        differences.append(_correlation_gap(stacked[:, chosen]))
    low, high = np.quantile(np.concatenate(differences), _tails(count))
    return Estimate(float(_correlation_gap(stacked[:, None])[0]), (float(low), float(high)))


def _correlation_gap(values: Array) -> Array:
    centred = values - values.mean(axis=-1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=-1))
    products = (centred[:2] * centred[2]).sum(axis=-1)
    scale = norms[:2] * norms[2]
    correlations = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    gap: Array = correlations[0] - correlations[1]
    return gap


def _tails(count: int) -> NDArray[Any]:
    from scipy.stats import norm, t

    tail = float(norm.cdf(np.sqrt(count / max(1, count - 1)) * t.ppf((1 - CONFIDENCE) / 2, max(1, count - 1))))
    return np.array([tail, 1 - tail])


def _z() -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + CONFIDENCE) / 2))
