"""What views say in words: who won, by how much, and what cannot be told."""

from dataclasses import replace

import pytest

from tests.benchmark.reports import GATES, make_report
from theseus_deploy.benchmark.gains import gain
from theseus_deploy.benchmark.report import Gate, Verdict
from theseus_deploy.benchmark.views import markdown, words
from theseus_deploy.benchmark.winner import winner


def test_a_reference_is_shown_and_never_wins() -> None:
    report = make_report("a (torch)", "b (torch)")
    slow, fast = report.candidates
    assert winner(report) == fast
    referred = replace(report, candidates=(slow, replace(fast, role="reference")))
    assert winner(referred) == slow
    assert "b (torch)" in markdown.render(referred)


def test_a_winner_passed_its_gates_and_is_certainly_faster() -> None:
    report = make_report("a (torch)", "b (torch)")
    best = winner(report)
    assert best is not None
    assert best.name == "b (torch)"
    held = replace(report, gates=(replace(GATES[1], candidate="b (torch)"),))
    assert words.winner_line(held).startswith("a (torch) is 2.")
    everyone = tuple(replace(GATES[1], candidate=name) for name in ("a (torch)", "b (torch)"))
    assert words.winner_line(replace(report, gates=everyone)) == (
        "No candidate passed every gate; the fastest, b (torch), was stopped by metric-drop."
    )
    swapped = replace(report, baseline=report.candidates[1], candidates=(report.candidates[1],))
    slow = replace(swapped.candidates[0].latency[0], ratio=report.baseline.latency[0].ratio)
    slower = replace(swapped, candidates=(replace(swapped.candidates[0], latency=(slow,)),))
    assert words.winner_line(slower) == "No candidate is certainly faster than the baseline."
    both = replace(slower, candidates=(*slower.candidates, replace(best, name="c (torch)")))
    both = replace(both, gates=(replace(GATES[1], candidate="c (torch)"),))
    assert words.winner_line(both) == (
        "No candidate that passed every gate is certainly faster than the baseline; "
        "the fastest, c (torch), was stopped by metric-drop."
    )
    unsure = replace(best.latency[0], ratio=replace(best.latency[0].ratio, p50=0.1, interval=(0.05, 1.05)))
    fastest = replace(best, name="d (torch)", latency=(unsure,))
    assert words.winner_line(replace(both, candidates=(*both.candidates, fastest))) == words.winner_line(both)


def test_noise_is_allowed_for_before_anybody_wins() -> None:
    report = make_report()
    (one,) = report.candidates
    close = replace(one.latency[0].ratio, p50=0.98, interval=(0.97, 0.99))
    close_report = replace(report, candidates=(replace(one, latency=(replace(one.latency[0], ratio=close),)),))

    def line(**noise: object) -> str:
        environment = {**report.environment, "noise": {**report.environment["noise"], **noise}}
        return words.winner_line(replace(close_report, environment=environment))

    assert "1.0x faster" in line(interval=[0.999, 1.001])
    assert line(interval=[0.96, 0.998]) == "No candidate is certainly faster than the baseline."
    assert line(interval=[1.0, 1.0], crowding=0.9) == "No candidate is certainly faster than the baseline."


def test_noise_that_tells_equals_far_apart_is_said() -> None:
    report = make_report()

    def line(low: float, high: float) -> str:
        noise = {**report.environment["noise"], "aa_p50_ratio": (low + high) / 2, "interval": [low, high]}
        return words.noise_line(replace(report, environment={**report.environment, "noise": noise}))

    assert "quieten" not in words.noise_line(report)
    assert "quieten" not in line(1.0015, 1.0222)  # as one of twenty quiet machines reads, and no reason to worry
    assert "quieten" in line(1.1, 1.3)
    assert "quieten" in line(0.85, 1.05)


def test_how_much_faster_in_words() -> None:
    assert words.faster(0.21) == "4.8x faster"
    assert words.faster(1.5) == "1.5x slower"
    assert words.faster(0.21, (0.20, 0.22)) == "4.8x faster"
    assert words.faster(0.21, (0.10, 0.50)) == "2.0x to 10x faster"


def test_too_few_samples_have_no_tail() -> None:
    latency = make_report().baseline.latency[0]
    assert len(latency.samples) == 48
    assert [words.percentile(latency, name) for name in ("p50", "p95", "p99")] == [latency.p50, latency.p95, None]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"layers": 2, "parameters": 500}, "4 layers → 2 layers"),
        ({"parameters": 2_000_000}, "0.0 M parameters → 2.0 M parameters"),
        ({"runtime": "onnxruntime", "device": "cuda"}, "torch → onnxruntime on cuda"),
        ({"precision": "bf16"}, "fp32 → bf16"),
    ],
)
def test_a_step_says_from_what_to_what_it_went(end: dict[str, object], said: str) -> None:
    report = make_report()
    one = replace(report.candidates[0], **{"runtime": "torch", **end})  # type: ignore[arg-type]
    (step,) = gain(replace(report, candidates=(one,)), one).steps
    assert words.change_detail(step) == said


@pytest.mark.parametrize(
    ("name", "limit", "value", "verdict", "shown"),
    [
        ("size-ratio", 0.25, 0.2545, "fail", "0.255 [0.255, 0.255], the limit ≤ 0.25"),
        ("size-ratio", 0.25, 0.25, "pass", "0.25 [0.25, 0.25], the limit ≤ 0.25"),
        ("size-ratio", 0.5, 0.4999, "pass", "0.4999 [0.4999, 0.4999], the limit ≤ 0.5"),
        ("metric-drop", 0.01, 0.01003, "fail", "0.01003 [0.01003, 0.01003], the limit ≤ 0.01"),
        ("label-loyalty", 0.99, 0.98996, "fail", "0.98996 [0.98996, 0.98996], the limit ≥ 0.99"),
        ("label-loyalty", 0.9999999, 0.99999985, "fail", "0.99999985 [0.99999985, 0.99999985], the limit ≥ 0.9999999"),
        ("label-loyalty", 0.9, 0.95, "pass", "0.9500 [0.9500, 0.9500], the limit ≥ 0.9"),
    ],
)
def test_a_number_of_a_gate_stands_on_its_side_of_the_limit(
    name: str, limit: float, value: float, verdict: Verdict, shown: str
) -> None:
    gate = Gate(name, "it", limit, value, (value, value), verdict)
    assert words.gate_line(gate) == f"it: {name} is {shown}: {verdict}"
