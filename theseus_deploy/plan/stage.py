"""A report and an objective in, a plan out: what each candidate needs to hold it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from theseus_deploy.benchmark.report import BenchmarkReport, Candidate
from theseus_deploy.configs import POISSON, PlanConfig
from theseus_deploy.errors import ArtifactError
from theseus_deploy.plan.arrivals import Load, replay
from theseus_deploy.plan.search import Outlook, smallest_fleet
from theseus_deploy.plan.service import ServiceTimes
from theseus_deploy.progress import SILENT, Progress, Tracker

SCHEMA = 1
HOURS_A_MONTH = 730  # a twelfth of a year


@dataclass(frozen=True)
class Need:
    """The smallest fleet of one candidate that holds the objective, and what it will show.

    A server is a process of as many threads as the benchmark gave it, a core each. Where no number of servers is
    enough, `servers`, `cores` and the cost are None, and the outlook is that of as many servers as still help.
    """

    candidate: str
    max_batch: int
    servers: int | None
    cores: int | None
    cost_per_month: float | None
    outlook: Outlook


@dataclass(frozen=True)
class Plan:
    """What was asked, at which mean rate, on which machine, and what every candidate needs, the cheapest first.

    `remarks` are the report's own on what kept the machine from being quiet.
    """

    config: PlanConfig
    qps: float
    machine: Mapping[str, Any]
    needs: tuple[Need, ...]
    remarks: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Return what the command exits with: 0, or that of a failed gate where no candidate holds the objective."""
        return 0 if any(need.servers for need in self.needs) else 3

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON; latencies in seconds, a month of 730 hours."""
        return {"schema": SCHEMA, **asdict(self)}


def plan_path(path: Path, config: PlanConfig, progress: Progress = SILENT) -> Plan:
    """Plan from the JSON that `theseus benchmark --report` wrote."""
    return plan(BenchmarkReport.open(path), config, progress)


def plan(report: BenchmarkReport, config: PlanConfig, progress: Progress = SILENT) -> Plan:
    """Find the smallest fleet of every candidate, the baseline among them.

    Raises:
        ArtifactError: the report lacks what a plan needs.
        ConfigError: a batch larger than all that were measured.
        DataError: arrivals that cannot be replayed.
    """
    machine = {key: report.environment.get(key) for key in ("cpu", "cores", "threads")}
    if missing := [key for key, value in machine.items() if value is None]:
        raise ArtifactError(f"the report does not say the machine's {', '.join(missing)}; benchmark again")
    overhead = config.overhead_ms / 1e3
    everyone = [
        (one, ServiceTimes.of(one, config.max_batch, overhead=overhead))
        for one in (report.baseline, *report.candidates)
    ]
    load = _load(config)
    needs = []
    with progress.track("Simulating fleets", total=len(everyone)) as tracker:
        for one, times in everyone:
            needs.append(_need(one, times, load, config, machine, partial(_tell, tracker, one.name)))
            tracker.advance(candidate=one.name)
    remarks = report.environment["noise"].get("remarks", ())
    return Plan(config, load.rate, machine, tuple(sorted(needs, key=_order)), tuple(remarks))


def _load(config: PlanConfig) -> Load:
    if config.arrivals != POISSON:
        return replay(Path(config.arrivals), config.qps)
    assert config.qps is not None  # the configuration says so
    return Load(config.qps)


def _need(
    candidate: Candidate,
    times: ServiceTimes,
    load: Load,
    config: PlanConfig,
    machine: Mapping[str, Any],
    trying: Callable[[int], object],
) -> Need:
    window, p99 = config.batch_window_ms / 1e3, config.p99_ms / 1e3
    servers, outlook = smallest_fleet(times, load, window, p99, config.seed, config.network_ms / 1e3, trying)
    cores = servers and servers * machine["threads"]
    price = config.price_per_hour
    cost = None if cores is None or price is None else cores * price / machine["cores"] * HOURS_A_MONTH
    return Need(candidate.name, times.most, servers, cores, cost, outlook)


def _tell(tracker: Tracker, candidate: str, servers: int) -> None:
    tracker.advance(0, candidate=candidate, servers=servers)


def _order(need: Need) -> tuple[float, float]:
    return need.cores or inf, need.outlook.p99.value
