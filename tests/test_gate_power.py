"""How the experiment counts: what a fault is, what a catch is, and that an interrupted one goes on."""

import json
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gate_power
from theseus_deploy.benchmark.gate import RULES
from theseus_deploy.benchmark.stats import Estimate


def compared(kind: str, verdict: str, count: int, machine: str = "quiet") -> list[dict[str, Any]]:
    return [{"seed": seed, "machine": machine, "kind": kind, "verdict": verdict, "ratio": 1.0} for seed in range(count)]


@pytest.mark.parametrize(
    ("kind", "verdicts", "rate", "reached"),
    [
        ("A/A", {"pass": 199, "inconclusive": 1}, 0.0, True),
        ("A/A", {"pass": 196, "fail": 4}, 0.02, True),
        ("A/A", {"pass": 195, "fail": 5}, 0.025, False),
        ("slower", {"fail": 196, "inconclusive": 4}, 0.98, True),
        ("slower", {"fail": 195, "inconclusive": 5}, 0.975, False),
    ],
)
def test_a_fault_is_a_failed_equal_and_a_catch_a_failed_slowdown(
    kind: str, verdicts: dict[str, int], rate: float, reached: bool
) -> None:
    comparisons = [one for verdict, count in verdicts.items() for one in compared(kind, verdict, count)]
    (found,) = gate_power.summarise(comparisons)
    assert (found["comparisons"], found["verdicts"], found["rate"]) == (200, verdicts, pytest.approx(rate))
    assert found["interval"][0] <= rate <= found["interval"][1]
    assert found["reached"] is reached


def test_machines_are_counted_apart() -> None:
    found = gate_power.summarise(compared("A/A", "pass", 3) + compared("A/A", "fail", 2, "noisy"))
    assert [(one["machine"], one["rate"]) for one in found] == [("quiet", 0.0), ("noisy", 1.0)]


def test_what_was_compared_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_power, "RESULT", tmp_path / "gate_power.json")
    comparisons = compared("A/A", "pass", 2) + compared("slower", "fail", 2)
    gate_power.save(comparisons)
    kept = json.loads((tmp_path / "gate_power.json").read_text())
    assert kept["comparisons"] == comparisons
    assert kept["summary"] == json.loads(json.dumps(gate_power.summarise(comparisons)))


def test_what_was_compared_otherwise_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_power, "RESULT", tmp_path / "gate_power.json")
    assert gate_power.earlier() == []
    gate_power.save(compared("A/A", "pass", 2))
    assert gate_power.earlier() == compared("A/A", "pass", 2)
    monkeypatch.setitem(gate_power.CONFIG, "max_seconds", 1.0)
    with pytest.raises(SystemExit, match="made with another config; move it away"):
        gate_power.earlier()


@pytest.mark.parametrize(("name", "newly"), [("gate_power", 0), ("gate_power_10s", 2)])
def test_what_is_recorded_holds_by_the_rule_of_now_as_far_as_the_readme_says(name: str, newly: int) -> None:
    """It was measured when noise widened a ratio only on the side that it had been seen on."""
    comparisons = json.loads((gate_power.RESULT.parent / f"{name}.json").read_text())["comparisons"]
    assert len(comparisons) == 400
    changed = []
    for one in comparisons:
        seen = -log(min(1, one["noise"][0])), log(max(1, one["noise"][1]))
        reaches = (log(one["ratio"] / one["interval"][0]), log(one["interval"][1] / one["ratio"]))
        alone = [sqrt(max(0, reach**2 - noise**2)) for reach, noise in zip(reaches, seen, strict=True)]
        bounds = (one["ratio"] * exp(-alone[0]), one["ratio"] * exp(alone[1]))
        verdict = RULES["p50-ratio"].verdict(Estimate(one["ratio"], bounds).widened(one["noise"]), gate_power.LIMIT)
        if verdict != one["verdict"]:
            changed.append(verdict)
    assert changed == ["inconclusive"] * newly
