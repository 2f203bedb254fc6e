"""How far a plan, and a simulation of the same arrivals, are from what a fleet showed."""

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapreplace
from typing import Any

import numpy as np

from benchmarks.plan_fleet import Cell
from theseus_deploy.benchmark.report import Paced
from theseus_deploy.benchmark.stats import Array
from theseus_deploy.plan.arrivals import Load
from theseus_deploy.plan.search import look_ahead, replications
from theseus_deploy.plan.service import LEVELS, ServiceTimes
from theseus_deploy.plan.simulation import Fleet, settle

BATCHES = (1, 2, 4, 8)  # inputs, whose seconds are known
QUANTILES, NAMES = (0.5, 0.95, 0.99), ("p50", "p95", "p99")
DRAWS = 5  # of service times, for one replay of arrivals
SEED = 1


def compare_open(
    cell: Cell, runs: Sequence[tuple[dict[str, Any], dict[str, Any]]], times: ServiceTimes, network: float
) -> dict[str, Any]:
    """Compare what passes showed with simulations of their arrivals in the times that they took, and with a plan.

    A pass is a pair of what it timed and what it showed. The machine is faster in one than in another; the plan, from
    the times of all, is for what it will be.
    """
    assert cell.rate is not None
    measured, errors = [], []
    for timing, run in runs:
        own = service_times([timing], cell.fleet, timing["turnaround"])
        replayed = replayed_latencies(cell.fleet, run["arrivals"], own, np.random.default_rng(SEED))
        measured.append(np.quantile(run["latencies"], QUANTILES))
        errors.append((np.quantile(replayed, QUANTILES) + timing["ways"] - timing["turnaround"]) / measured[-1] - 1)
    return {
        "inputs": sum(len(run["latencies"]) for _, run in runs),
        "late_p99": max(run["late_p99"] for _, run in runs),
        "measured": _by_name(measured),
        "error": _by_name(errors),
        "planned": foretell(cell, times, network),
        "busy": [_busy(run, timing["turnaround"]) / cell.fleet.servers for timing, run in runs],
    }


def foretell(cell: Cell, times: ServiceTimes, network: float) -> dict[str, Any]:
    """Plan as `theseus plan` does."""
    assert cell.rate is not None
    outlook = look_ahead(replications(times, Load(cell.rate), SEED), cell.fleet, network)
    return {"p50": outlook.p50.value, "p99": outlook.p99.value, "p99_interval": outlook.p99.interval}


def compare_closed(cell: Cell, runs: Sequence[dict[str, Any]], times: ServiceTimes) -> dict[str, Any]:
    """Compare a closed load with a simulation of as many clients."""
    assert cell.clients is not None
    levels = np.random.default_rng(SEED).integers(LEVELS, size=20_000)
    measured = np.concatenate([run["latencies"] for run in runs])
    simulated = serve_clients(cell.clients, levels.tolist(), times, cell.fleet)
    errors = np.quantile(simulated, QUANTILES) / np.quantile(measured, QUANTILES) - 1
    return {
        "inputs": measured.size,
        "measured": _quantiles(measured),
        "simulated": _quantiles(simulated),
        "error": dict(zip(NAMES, errors.tolist(), strict=True)),
    }


def replayed_latencies(fleet: Fleet, arrivals: list[float], times: ServiceTimes, draw: np.random.Generator) -> Array:
    """Simulate the same arrivals several times, with other draws of the service times."""
    seconds = times.seconds()
    return np.concatenate([
        settle(arrivals, draw.integers(LEVELS, size=len(arrivals)).tolist(), seconds, fleet).latencies
        for _ in range(DRAWS)
    ])  # fmt: skip


def serve_clients(clients: int, levels: list[int], times: ServiceTimes, fleet: Fleet) -> Array:
    """Simulate clients of which each asks again when it is answered, so that servers never pause for long.

    Whoever asks before the next batch starts was answered by a batch that started before, so all of them are known.
    """
    table = times.table().tolist()
    free, asking, latencies = [0.0] * fleet.servers, [0.0] * clients, list[float]()
    for level in levels:
        start = asking[0] + fleet.window
        if fleet.most <= clients:
            start = min(start, asking[fleet.most - 1])
        start = max(start, free[0])
        size = min(fleet.most, bisect_right(asking, start))
        end = start + table[size - 1][level]
        heapreplace(free, end)
        latencies += [end - moment for moment in asking[:size]]
        asking = sorted([*asking[size:], *[end] * size])
    return np.array(latencies)


def service_times(passes: Sequence[dict[str, Any]], fleet: Fleet, overhead: float) -> ServiceTimes:
    """Take the seconds of passes as the rounds of a benchmark; they are cut to equal numbers."""
    measured = {}
    for size in BATCHES:
        rounds = [one["seconds"][str(size)] for one in passes]
        measured[size] = np.array([samples[: min(map(len, rounds))] for samples in rounds])
    paced = []
    for load in zip(*(one["paced"] for one in passes), strict=True):
        samples, again = (tuple(np.concatenate([one[name] for one in load])) for name in ("samples", "again"))
        paced.append(Paced(float(np.mean([one["busy"] for one in load])), samples, again))
    return ServiceTimes(measured, fleet.most, paced, overhead)


def _busy(run: dict[str, Any], overhead: float) -> float:
    """Return how many servers had work, in the mean over the time in which inputs arrived."""
    return float(sum(run["seconds"]) + overhead * len(run["seconds"])) / float(run["arrivals"][-1])


def _by_name(passes: Sequence[Array]) -> dict[str, list[float]]:
    return dict(zip(NAMES, np.transpose(passes).tolist(), strict=True))


def _quantiles(latencies: Array) -> dict[str, float]:
    return dict(zip(NAMES, np.quantile(latencies, QUANTILES).tolist(), strict=True))
