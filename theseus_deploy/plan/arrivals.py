"""When inputs arrive: drawn, or replayed from a log."""

from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

import numpy as np

from theseus_deploy.benchmark.stats import Array
from theseus_deploy.configs import RATES
from theseus_deploy.errors import DataError

MIN_STAMPS = 1000  # of fewer inputs, the slowest hundredth is no more than a few


@dataclass(frozen=True)
class Load:
    """Inputs a second: independent ones (Poisson arrivals), or at given times, ascending, in seconds from 0."""

    rate: float
    stamps: Array | None = None

    def arrivals(self, count: int, draw: np.random.Generator) -> Array:
        """Return the times of so many arrivals, in seconds; given times are what they are, and all of them."""
        return draw.exponential(1 / self.rate, count).cumsum() if self.stamps is None else self.stamps


def replay(path: Path, rate: float | None) -> Load:
    """Read time stamps in seconds, one a line, in any order; a `rate` stretches them to that mean.

    Raises:
        DataError: the file cannot be read, holds no number in a line, too few of them, or all the same one.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(
            f"--arrivals {path} cannot be read ({error}); give poisson, or a file of time stamps"
        ) from error
    stamps = np.sort([_stamp(line, place, path) for place, line in enumerate(lines, start=1) if line.strip()])
    if len(stamps) < MIN_STAMPS:
        raise DataError(f"{path} has {len(stamps)} time stamps, and a p99 needs {MIN_STAMPS}; give a longer log")
    if stamps[0] == stamps[-1]:
        raise DataError(f"{path} has {len(stamps)} times the stamp {stamps[0]:g}, and no rate; give a log that lasts")
    with np.errstate(over="ignore"):
        times: Array = stamps - stamps[0]
        own = float((len(times) - 1) / times[-1])
    least, most = RATES if rate is None else (0, inf)  # a log that is stretched gives no more than its shape
    if not (0 < own < inf and least <= own <= most):
        raise DataError(
            f"{path} has {len(times):,} times within {times[-1]:g} seconds, which are {own:g} a second; give times in "
            "seconds"
        )
    return Load(own, times) if rate is None else Load(rate, times * own / rate)


def _stamp(line: str, place: int, path: Path) -> float:
    try:
        value = float(line)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise DataError(f"{path}, line {place}: {line.strip()[:40]!r} is no time in seconds; write one number a line")
    return value
