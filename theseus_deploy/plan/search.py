"""The smallest fleet that holds an objective, found by simulating fleets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np

from theseus_deploy.benchmark.stats import CONFIDENCE, Array, Estimate
from theseus_deploy.errors import ConfigError
from theseus_deploy.plan.arrivals import Load
from theseus_deploy.plan.service import LEVELS, Seconds, ServiceTimes
from theseus_deploy.plan.simulation import PILOT, Fleet, settle

REPLICATIONS = 20
MOST_SERVERS = 2_000  # that a load may ask for at least: a fleet of as many takes minutes to simulate
INPUTS = 10_000  # of a replication at least: 100 of them are beyond the p99
TURNOVERS = 100  # of a replication at least: how often a fleet's inputs in service are replaced by others
WARM_SHARE = 0.1  # of a replication, at its start: a queue that was empty is not yet what it will be
MOST_LOADED = 0.95  # share of a fleet's capacity: above it a queue remembers for longer than a replication lasts


@dataclass(frozen=True)
class Replication:
    """One run of chance: when inputs arrive, which level of its seconds each draws, and what the levels are.

    The first `warm` inputs are not counted; those of a share of `pilot` show how busy servers will be.
    """

    arrivals: list[float]
    levels: list[int]
    seconds: Seconds
    warm: int
    pilot: float = PILOT


@dataclass(frozen=True)
class Outlook:
    """What a fleet will show: latencies in seconds, the share of time its servers work, inputs a batch.

    The intervals are as wide as replications differ, and no number of them makes that less: each of them also resamples
    the rounds that were measured (Barton and Schruben, "Uniform and bootstrap resampling of empirical distributions",
    1993), so few samples never look certain. Latencies are positive and skewed, so their logarithms are taken for
    normal.
    """

    p50: Estimate
    p99: Estimate
    utilisation: float
    batch: float


def replications(times: ServiceTimes, load: Load, seed: int) -> list[Replication]:
    """Draw the runs that every fleet is tried on; candidates that share the seed are tried on the same arrivals."""
    count = max(INPUTS, ceil(TURNOVERS * load.rate * times.table()[0].mean()))
    warm, pilot = (ceil(WARM_SHARE * count), PILOT) if load.stamps is None else (0, 1.0)  # a log may begin at midnight
    runs = []
    for place in range(REPLICATIONS):
        chance, machine = np.random.default_rng([seed, place]).spawn(2)
        arrivals = load.arrivals(warm + count, chance)
        levels = chance.integers(LEVELS, size=len(arrivals))
        runs.append(Replication(arrivals.tolist(), levels.tolist(), times.seconds(machine), warm, pilot))
    return runs


def look_ahead(runs: Sequence[Replication], fleet: Fleet, network: float = 0.0) -> Outlook:
    """Simulate a fleet in every replication, `network` seconds away from those who ask."""
    quantiles, busy, batch = [], [], []
    for run in runs:
        served = settle(run.arrivals, run.levels, run.seconds, fleet, run.pilot)
        quantiles.append(np.quantile(served.latencies[run.warm :], [0.5, 0.99]) + network)
        busy.append(served.utilisation(fleet.servers))
        batch.append(served.sizes.mean())
    p50, p99 = np.array(quantiles).T
    return Outlook(_spread(p50), _spread(p99), float(np.mean(busy)), float(np.mean(batch)))


def smallest_fleet(
    times: ServiceTimes,
    load: Load,
    window: float,
    p99: float,
    seed: int,
    network: float = 0.0,
    trying: Callable[[int], object] | None = None,
) -> tuple[int | None, Outlook]:
    """Find the fewest servers whose p99 is surely within so many seconds, with the batching window in seconds.

    None where no number is enough: the outlook is then that of as many as still help. In growing steps until a fleet
    holds, then by halving, since with more servers inputs wait less; beyond some number they wait for none, and each
    server is slower for its pauses. So where a step made it worse, the best number is looked for on both sides of the
    one before. `trying` is told of every fleet before it is simulated.

    Raises:
        ConfigError: the load would take more servers than can be simulated.
    """
    least = ceil(load.rate / times.capacity / MOST_LOADED)
    if least > MOST_SERVERS:
        raise ConfigError(
            f"--qps {load.rate:g} keeps {least:,} servers busy, and more than {MOST_SERVERS:,} are not simulated; plan "
            "for a part of it"
        )
    runs = replications(times, load, seed)

    @cache
    def outlook(servers: int) -> Outlook:
        if trying:
            trying(servers)
        return look_ahead(runs, Fleet(servers, times.most, window), network)

    def reach(servers: int) -> float:
        return outlook(servers).p99.interval[1]

    def holds(servers: int) -> bool:
        return reach(servers) <= p99

    before, low, high = least - 1, least - 1, least
    while not holds(high):
        if low >= least and reach(high) >= reach(low):
            best = _lowest(reach, max(least, before), high)
            if not holds(best):
                return None, outlook(best)
            low, high = before, best
            break
        before, low, high = low, high, high + 2 * (high - low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high, outlook(high)


def _lowest(value: Callable[[int], float], low: int, high: int) -> int:
    """Return where a function that falls and then rises is lowest, by leaving out the worse third."""
    while high - low > 2:
        third = (high - low) // 3
        one, other = low + third, high - third
        low, high = (low, other) if value(one) <= value(other) else (one, high)
    return min(range(low, high + 1), key=value)


def _spread(values: Array) -> Estimate:
    from scipy.stats import t

    logs = np.log(values)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1)) * logs.std(ddof=1)
    middle = logs.mean()
    return Estimate(float(np.exp(middle)), (float(np.exp(middle - reach)), float(np.exp(middle + reach))))
