"""`theseus plan` as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmark.reports import make_report
from tests.cli.conftest import Ran

Theseus = Callable[..., Ran]


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_report().save(Path("report.json"))
    return Path("report.json")


@pytest.mark.thorough
def test_a_plan_is_printed_as_a_table_or_as_json(theseus: Theseus, report: Path) -> None:
    words = ("plan", report, "--qps", 100, "--p99-ms", 50, "--max-batch", 1)
    ran = theseus(*words, "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert "holds 100 inputs/s within 50 ms at p99" in ran.out
    document = json.loads(theseus(*words, "--json", "--price-per-hour", 2).out)
    assert document["config"]["qps"] == 100
    assert [need["cores"] for need in document["needs"]] == [2, 4]
    assert document["needs"][0]["cost_per_month"] == 2 * 730


@pytest.mark.thorough
def test_an_objective_that_none_holds_exits_with_3(theseus: Theseus, report: Path) -> None:
    ran = theseus("plan", report, "--qps", 100, "--p99-ms", 1, "--quiet")
    assert ran.code == 3
    assert "No candidate holds" in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.json", "--qps", 1, "--p99-ms", 9), "nowhere.json is no benchmark report"),
        (("report.json", "--p99-ms", 9), "--qps is missing, and Poisson arrivals have no rate without it"),
        (("report.json", "--qps", 1), "--p99-ms"),
        (("report.json", "--qps", 1, "--p99-ms", 9, "--max-batch", 16), "--batch 1,8,16"),
        (("report.json", "--p99-ms", 9, "--arrivals", "poison"), "--arrivals poison cannot be read"),
    ],
)
def test_a_bad_request_is_one_line(theseus: Theseus, report: Path, words: tuple[object, ...], said: str) -> None:
    ran = theseus("plan", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1
