"""What else happens on the machine while it is timed: other processes, a hypervisor, a throttle, a changing clock."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from theseus_deploy.benchmark.stats import Estimate, Interval
from theseus_deploy.machine import throttled_seconds

NEIGHBOURS = 5  # that are named
IDLE = 0.05  # cores; who takes less is not worth a name
BUSY = 0.1  # cores that others may take before it is worth a remark
CROWDED = 0.05  # of a candidate's time without a core: then the 95th percentile is that of the queue for it
MOST_CROWDED = 0.9  # of the time without a core; beyond it an interval is wide enough to decide nothing
STOLEN = 0.01  # of the machine's time, by the hypervisor
RESTING = {"idle", "iowait", "steal", "guest", "guest_nice"}  # guests are counted in user and nice already
GOVERNORS = "devices/system/cpu/cpu*/cpufreq/scaling_governor"
STEADY_GOVERNORS = {"performance", "userspace"}


@dataclass(frozen=True)
class Snapshot:
    """Seconds of CPU time, counted since the machine or the process was started; `at` is on a monotonic clock.

    `processes` maps a process to its name and seconds, those of this program and its workers left out.
    """

    at: float
    busy: float
    stolen: float
    ours: float
    processes: Mapping[tuple[int, float], tuple[str, float]]
    throttled: float | None


def snapshot() -> Snapshot:
    """Count what every process on this machine has used so far."""
    machine, this = psutil.cpu_times()._asdict(), psutil.Process()
    family = {this.pid: this, **{child.pid: child for child in this.children(recursive=True)}}
    found: dict[tuple[int, float], tuple[str, float]] = {}
    ours = 0.0
    for process in psutil.process_iter():
        try:
            times = process.cpu_times()
            if process.pid in family:  # what a worker used that has ended is counted in its parent
                ours += times.user + times.system
                ours += times.children_user + times.children_system if process.pid == this.pid else 0
            else:
                found[process.pid, process.create_time()] = process.name(), times.user + times.system
        except psutil.Error:  # it has just ended, or is none of our business
            continue
    return Snapshot(
        at=time.monotonic(),
        busy=sum(seconds for kind, seconds in machine.items() if kind not in RESTING),
        stolen=machine.get("steal", 0.0),
        ours=ours,
        processes=found,
        throttled=throttled_seconds(),
    )


def neighbours(first: Snapshot, last: Snapshot) -> dict[str, Any]:
    """Say what others took between two snapshots: `cores` on average, and the busiest of them by name.

    `stolen` counts cores that the hypervisor gave to others, `throttled_seconds` is how long the cgroup's quota made
    this program wait (None without a quota). Processes that have ended are in `cores`, and have no name.
    """
    seconds = last.at - first.at
    used = {
        key: (name, (total - first.processes.get(key, (name, 0.0))[1]) / seconds)
        for key, (name, total) in last.processes.items()
    }
    busiest = sorted(used.values(), key=lambda one: -one[1])[:NEIGHBOURS]
    others = last.busy - first.busy - (last.ours - first.ours)
    waited = None if first.throttled is None or last.throttled is None else last.throttled - first.throttled
    return {
        "cores": round(max(0.0, others) / seconds, 3),
        "processes": [{"name": name, "cores": round(cores, 3)} for name, cores in busiest if cores >= IDLE],
        "stolen": round((last.stolen - first.stolen) / seconds, 3),
        "throttled_seconds": waited,
    }


def crowding(others: Mapping[str, Any], threads: int, cores: int) -> float:
    """Return for about which share of their time so many threads lacked a core, for others or the hypervisor had it.

    `cores` are all of the machine, for nobody knows on which of them the others worked.
    """
    working = min(threads, cores)
    lacking: float = others["cores"] + others["stolen"] + working - cores
    return min(1.0, max(0.0, lacking) / working)


def crowded(noise: Interval, crowding: float, ratio: float) -> Interval:
    """Widen what equals may differ by where candidates lacked a core for a share of the time, for this ratio of times.

    What takes less time than the kernel gives at once is seldom made to wait for a core, and what takes longer is. So
    two processes of one model wait alike, which their ratio does not show, and a model that is ten times as fast may
    have waited for none of that share.
    """
    left = 1 - min(crowding, MOST_CROWDED) * (1 - min(ratio, 1 / ratio))
    return noise[0] * left, noise[1] / left


def allowed_for(ratio: Estimate, noise: Interval, crowding: float) -> Estimate:
    """Widen a ratio of times by what equals may differ by, and by where candidates lacked a core."""
    return ratio.widened(crowded(noise, crowding, ratio.value))


def governors(system: Path = Path("/sys")) -> list[str] | None:
    """Return the kernel's frequency governors, or None where the machine does not tell, as in most virtual ones."""
    return sorted({path.read_text().strip() for path in system.glob(GOVERNORS)}) or None


def remarks(environment: Mapping[str, Any]) -> list[str]:
    """Say, a sentence each, what makes times on this machine hard to believe, and what to do about it."""
    noise, threads, cores = environment["noise"], environment["threads"], environment["cores"]
    others, governors = noise["others"], noise["governors"]
    said = []
    if threads > cores:
        said.append(f"{threads} threads share the {cores} cores that this program may use: lower --threads.")
    if others["cores"] > BUSY:
        names = ", ".join(f"{one['name']} {one['cores']:.2f}" for one in others["processes"])
        said.append(f"Others kept {others['cores']:.2f} cores busy{names and f' ({names})'}: stop them.")
    if noise["crowding"] > CROWDED:
        said.append(f"Candidates lacked a core for {noise['crowding']:.0%} of the time: gates count that as noise.")
    if others["stolen"] > STOLEN * cores:
        said.append(f"The hypervisor gave {others['stolen']:.2f} cores to others: measure on a machine of your own.")
    if others["throttled_seconds"]:
        said.append(f"The CPU quota stopped this program for {others['throttled_seconds']:.1f} s: lower --threads.")
    if governors and not set(governors) <= STEADY_GOVERNORS:
        said.append(f"The clock follows the load (governor {', '.join(governors)}): choose performance.")
    return said
