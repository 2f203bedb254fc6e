from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.benchmark.reports import make_report
from theseus_deploy.configs import PlanConfig
from theseus_deploy.errors import ArtifactError, ConfigError
from theseus_deploy.plan.stage import Plan, plan, plan_path
from theseus_deploy.plan.views import render

REPORT = make_report("small (onnxruntime)")


def planned(**asked: Any) -> Plan:
    return plan(REPORT, PlanConfig(**{"p99_ms": 40.0, "qps": 300.0, "max_batch": 1, **asked}))


def shown(found: Plan) -> str:
    console = Console(width=80, highlight=False)
    with console.capture() as capture:
        console.print(render(found))
    return capture.get()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "report.json"
    REPORT.save(path)
    return plan_path(path, PlanConfig(p99_ms=40.0, qps=300.0, max_batch=1, price_per_hour=0.5))


@pytest.fixture(scope="module")
def hopeless() -> Plan:
    return planned(p99_ms=4.0, batch_window_ms=1.0)


def test_every_candidate_has_its_fleet_the_cheapest_first(found: Plan) -> None:
    assert [need.candidate.split()[0] for need in found.needs] == ["small", "base"]
    cores = [need.cores or 0 for need in found.needs]
    assert cores == sorted(cores)
    assert cores[0] < cores[-1]
    for need in found.needs:
        assert need.servers is not None
        assert need.cores == 2 * need.servers  # the report's threads
        assert need.outlook.p99.interval[1] <= 0.040
        assert need.cost_per_month == pytest.approx((need.cores or 0) * 0.25 * 730)
    assert found.exit_code == 0
    assert found.to_json()["needs"][0]["outlook"]["p99"]["value"] == found.needs[0].outlook.p99.value


def test_the_terminal_shows_the_answer_first(found: Plan) -> None:
    lines = shown(found).splitlines()
    assert lines[0].startswith("small (onnxruntime) holds 300 inputs/s within 40 ms at p99 on 6 cores; 10 with")
    assert max(map(len, lines)) <= 80
    assert "0.5 an hour for 2 cores" in shown(found)
    assert "a process of 2 threads, a core each" in " ".join(shown(found).split())
    crowd = replace(found, remarks=("Others kept 0.50 cores busy: stop them.",))
    assert shown(crowd).splitlines()[-1].strip() == "Others kept 0.50 cores busy: stop them."


def test_brackets_of_a_name_are_shown_and_no_markup(found: Plan) -> None:
    needs = tuple(replace(need, candidate=name) for need, name in zip(found.needs, ("a[fast]", "[/b]"), strict=True))
    lines = shown(replace(found, needs=needs)).splitlines()
    assert [line.split()[0] for line in lines if "[fast]" in line or "[/b]" in line][-2:] == ["a[fast]", "[/b]"]


@pytest.mark.thorough
def test_an_objective_that_only_some_hold() -> None:
    found = planned(p99_ms=12.0)
    assert [need.servers is None for need in found.needs] == [False, True]
    assert (found.needs[-1].cores, found.needs[-1].cost_per_month) == (None, None)
    assert found.exit_code == 0
    assert "none" in shown(found)
    assert "Give --price-per-hour" in shown(found)


@pytest.mark.thorough
def test_an_objective_that_none_holds_is_a_failed_gate(hopeless: Plan) -> None:
    assert hopeless.exit_code == 3
    answer = " ".join(shown(hopeless).split())
    assert answer.startswith("No candidate holds 300 inputs/s within 4 ms at p99, on any number of cores")
    assert "where more servers no longer help, p99 is" in answer
    assert "lower --batch-window-ms" in answer


@pytest.mark.thorough
def test_an_objective_inside_the_interval_asks_for_samples(hopeless: Plan) -> None:
    almost = replace(hopeless.config, p99_ms=hopeless.needs[0].outlook.p99.value * 1e3 + 0.01)
    assert "benchmark with more --max-seconds" in " ".join(shown(replace(hopeless, config=almost)).split())


@pytest.mark.thorough
def test_the_overhead_needs_servers(found: Plan) -> None:
    assert (planned(overhead_ms=5.0).needs[-1].servers or 0) > (found.needs[-1].servers or 0)


def test_bursts_need_servers(found: Plan, tmp_path: Path) -> None:
    stamps = tmp_path / "stamps"
    stamps.write_text("\n".join(str(burst + 0.001 * place) for burst in range(10) for place in range(100)))
    bursts = planned(arrivals=str(stamps))
    assert bursts.qps == 300
    assert (bursts.needs[-1].servers or 0) > (found.needs[-1].servers or 0)


def test_a_report_without_threads_is_refused() -> None:
    environment = {key: value for key, value in REPORT.environment.items() if key != "threads"}
    with pytest.raises(ArtifactError, match="does not say the machine's threads; benchmark again"):
        plan(replace(REPORT, environment=environment), PlanConfig(p99_ms=1.0, qps=1.0))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"price_per_hour": 1e308}, r"--price-per-hour 1e\+308 is outside 0..1e\+09; move it inside"),
        ({"overhead_ms": 1e306}, r"--overhead-ms 1e\+306 is outside 0..1e\+09"),
        ({"p99_ms": 1e308}, r"--p99-ms 1e\+308 is outside 0..1e\+09"),
        ({"qps": 0.0}, r"--qps 0.0 is outside 1e-06..1e\+09"),
        ({"qps": 1e-320}, r"--qps 1e-320 is outside 1e-06..1e\+09; move it inside"),
        ({"qps": 1e300}, r"--qps 1e\+300 is outside 1e-06..1e\+09; move it inside"),
        ({"p99_ms": -1.0}, "--p99-ms -1.0 is not above 0"),
        ({"qps": None}, "--qps is missing"),
        ({"batch_window_ms": -1.0}, r"--batch-window-ms -1.0 is outside 0..1e\+09"),
        (
            {"batch_window_ms": 30.0, "network_ms": 10.0},
            "--batch-window-ms 30 and --network-ms 10 leave nothing of --p99-ms 40",
        ),
        ({"network_ms": -1.0}, r"--network-ms -1.0 is outside 0..1e\+09"),
        ({"max_batch": 0}, "--max-batch 0 is below 1"),
        ({"overhead_ms": -0.1}, r"--overhead-ms -0.1 is outside 0..1e\+09"),
        ({"price_per_hour": -1.0}, r"--price-per-hour -1.0 is outside 0..1e\+09"),
        ({"seed": -1}, "--seed -1 is below 0"),
        ({"p99_ms": float("nan")}, "--p99-ms nan is not a finite number"),
    ],
)
def test_a_request_out_of_its_limits_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PlanConfig(**{"p99_ms": 40.0, "qps": 300.0, **asked})


@pytest.mark.thorough
def test_a_long_search_says_which_fleet_it_tries() -> None:
    told: list[dict[str, Any]] = []

    class Listener:
        def say(self, message: str) -> None:
            del message

        @contextmanager
        def track(self, title: str, total: int) -> Iterator["Listener"]:
            del title, total
            yield self

        def advance(self, steps: int = 1, **facts: Any) -> None:
            told.append({"steps": steps, **facts})

    made = plan(REPORT, PlanConfig(p99_ms=40.0, qps=300.0, max_batch=1), Listener())
    assert sum(line["steps"] for line in told) == len(made.needs)
    for need in made.needs:
        assert {"steps": 0, "candidate": need.candidate, "servers": need.servers} in told
