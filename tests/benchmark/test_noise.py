"""What else the machine did: counted on real processes, told from constructed numbers."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from theseus_deploy.benchmark.noise import Snapshot, crowded, crowding, governors, neighbours, remarks, snapshot

NAMES = {(7, 1.0): ("browser", 20.0), (8, 1.0): ("shell", 1.0)}
FIRST = Snapshot(at=100, busy=50, stolen=1, ours=20, processes=NAMES, throttled=0.0)
QUIET: dict[str, Any] = {"cores": 0.02, "processes": [], "stolen": 0.0, "throttled_seconds": None}


def environment(
    threads: int = 2, governors: list[str] | None = None, crowd: float = 0.05, **others: Any
) -> dict[str, Any]:
    noise = {"governors": governors, "crowding": crowd, "others": {**QUIET, **others}}
    return {"threads": threads, "cores": 2, "noise": noise}


def test_what_others_took_is_what_is_left_of_the_machine() -> None:
    processes = {(7, 1.0): ("browser", 24.0), (8, 1.0): ("shell", 1.1), (9, 105.0): ("cron", 2.0)}
    last = Snapshot(at=110, busy=72, stolen=3, ours=30, processes=processes, throttled=0.5)
    assert neighbours(FIRST, last) == {
        "cores": 1.2,  # of 22 seconds in 10, this program used 10
        "processes": [{"name": "browser", "cores": 0.4}, {"name": "cron", "cores": 0.2}],
        "stolen": 0.2,
        "throttled_seconds": 0.5,
    }


def test_a_machine_without_a_quota_throttles_nothing() -> None:
    last = Snapshot(at=110, busy=51, stolen=1, ours=30, processes={}, throttled=None)
    assert neighbours(FIRST, last) == {"cores": 0.0, "processes": [], "stolen": 0.0, "throttled_seconds": None}


def test_a_child_is_ours_alive_or_dead() -> None:
    before = snapshot()
    spin = "import sys, time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
    subprocess.run([sys.executable, "-c", spin], check=True)
    with subprocess.Popen([sys.executable, "-c", spin + "print(flush=True); sys.stdin.read()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        after = snapshot()
        assert child.pid not in {pid for pid, _ in after.processes}
    assert after.ours - before.ours >= 0.3
    assert after.at <= time.monotonic()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (environment(), []),
        (environment(threads=3), ["3 threads share the 2 cores that this program may use: lower --threads."]),
        (environment(cores=0.5), ["Others kept 0.50 cores busy: stop them."]),
        (
            environment(cores=0.5, processes=[{"name": "browser", "cores": 0.4}]),
            ["Others kept 0.50 cores busy (browser 0.40): stop them."],
        ),
        (
            environment(crowd=0.25),
            ["Candidates lacked a core for 25% of the time: gates count that as noise."],
        ),
        (environment(stolen=0.3), ["The hypervisor gave 0.30 cores to others: measure on a machine of your own."]),
        (environment(throttled_seconds=1.5), ["The CPU quota stopped this program for 1.5 s: lower --threads."]),
        (environment(governors=["performance"]), []),
        (
            environment(governors=["performance", "powersave"]),
            ["The clock follows the load (governor performance, powersave): choose performance."],
        ),
    ],
)
def test_a_remark_names_the_cause_and_the_remedy(found: dict[str, Any], said: list[str]) -> None:
    assert remarks(found) == said


@pytest.mark.parametrize(
    ("others", "stolen", "threads", "cores", "share"),
    [
        (0.1, 0.0, 1, 2, 0.0),  # there is room for both
        (1.0, 0.0, 1, 2, 0.0),
        (1.25, 0.0, 1, 2, 0.25),
        (1.0, 0.2, 1, 2, 0.2),
        (1.0, 0.0, 2, 2, 0.5),
        (1.0, 0.0, 8, 2, 0.5),  # our own threads are no others
        (3.0, 0.0, 1, 2, 1.0),
    ],
)
def test_who_lacks_a_core_is_told_from_what_others_took(
    others: float, stolen: float, threads: int, cores: int, share: float
) -> None:
    assert crowding({"cores": others, "stolen": stolen}, threads, cores) == pytest.approx(share)


def test_a_crowd_widens_the_noise() -> None:
    assert crowded((0.9, 1.2), 0.0, 0.1) == (0.9, 1.2)
    assert crowded((0.9, 1.2), 0.5, 1.0) == (0.9, 1.2)  # equals wait alike
    assert crowded((0.9, 1.2), 0.5, 0.5) == pytest.approx((0.675, 1.6)) == crowded((0.9, 1.2), 0.5, 2.0)
    assert crowded((0.9, 1.2), 1.0, 1e-9) == pytest.approx((0.09, 12.0))


def test_governors_are_read_from_the_kernel(tmp_path: Path) -> None:
    assert governors(tmp_path) is None
    for core, name in enumerate(["powersave", "performance", "powersave"]):
        path = tmp_path / f"devices/system/cpu/cpu{core}/cpufreq/scaling_governor"
        path.parent.mkdir(parents=True)
        path.write_text(f"{name}\n")
    assert governors(tmp_path) == ["performance", "powersave"]
