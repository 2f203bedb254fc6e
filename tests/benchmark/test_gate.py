from dataclasses import replace

import numpy as np
import pytest

from tests.benchmark.reports import make_report
from theseus_deploy.benchmark.gate import RULES, Answers, Evidence, check_gates, judge, latency_limits
from theseus_deploy.benchmark.report import EXIT_CODES
from theseus_deploy.benchmark.stats import Estimate
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.errors import ConfigError
from theseus_deploy.tasks import Task

CLASSES = Task("single-label", ("no", "yes"), ("text",), "label")
QUIET = {0.5: (1.0, 1.0), 0.95: (1.0, 1.0)}
REGRESSION = Task("regression", (), ("text",), "score")


def make_evidence(changed: int, rows: int = 1000) -> Evidence:
    """A candidate whose first `changed` answers differ from the baseline, which is always right."""
    report = make_report()
    references = np.arange(rows) % 2
    right = np.eye(2)[references]
    logits = right.copy()
    logits[:changed] = 1 - logits[:changed]
    ours, theirs = (Answers(CLASSES, references, values) for values in (logits, right))
    return Evidence(report.candidates[0], report.baseline, ours, theirs, QUIET, seed=1)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.3, 0.4), "pass"), ((0.3, 0.5), "pass"), ((0.45, 0.55), "inconclusive"), ((0.5, 0.6), "inconclusive"),
     ((0.51, 0.6), "fail")],
)  # fmt: skip
def test_the_interval_decides(interval: tuple[float, float], verdict: str) -> None:
    assert RULES["p50-ratio"].verdict(Estimate(0.5, interval), 0.5) == verdict


@pytest.mark.parametrize(
    ("interval", "verdict"), [((0.9, 1.0), "pass"), ((0.85, 0.95), "inconclusive"), ((0.8, 0.89), "fail")]
)
def test_loyalty_has_its_limit_below(interval: tuple[float, float], verdict: str) -> None:
    assert RULES["label-loyalty"].verdict(Estimate(0.9, interval), 0.9) == verdict


def test_every_gate_of_the_contract_is_judged_for_every_candidate() -> None:
    config = BenchmarkConfig(
        max_p50_ratio=0.6, max_p95_ratio=0.7, max_metric_drop=0.05, min_label_loyalty=0.95, max_size_ratio=0.5
    )
    one = make_evidence(changed=10)
    other = replace(one, candidate=replace(one.candidate, name="other"))
    gates = judge(config, [one, other])
    assert [gate.name for gate in gates] == 2 * list(RULES)
    assert {gate.candidate for gate in gates} == {"small (onnxruntime)", "other"}
    assert {gate.name: gate.verdict for gate in gates} == dict.fromkeys(RULES, "pass")
    by_name = {gate.name: gate for gate in gates}
    assert by_name["metric-drop"].value == pytest.approx(0.01)
    assert by_name["label-loyalty"].value == pytest.approx(0.99)
    assert by_name["size-ratio"].interval == (0.5, 0.5)


def test_no_limit_no_gate() -> None:
    assert judge(BenchmarkConfig(), [make_evidence(changed=0)]) == ()
    assert EXIT_CODES[make_report().verdict] == 0


@pytest.mark.parametrize(("changed", "verdict"), [(0, "pass"), (20, "inconclusive"), (60, "fail")])
def test_a_drop_of_the_metric_is_judged_on_paired_answers(changed: int, verdict: str) -> None:
    (gate,) = judge(BenchmarkConfig(max_metric_drop=0.02), [make_evidence(changed)])
    assert gate.verdict == verdict


def test_a_noisy_machine_decides_nothing_that_is_close() -> None:
    config, evidence = BenchmarkConfig(max_p50_ratio=0.6), make_evidence(changed=0)
    verdicts = [
        judge(config, [replace(evidence, noise={**QUIET, 0.5: noise})])[0].verdict
        for noise in ((0.99, 1.01), (0.7, 1.4), (1.1, 1.4))
    ]
    assert verdicts == ["pass", "inconclusive", "inconclusive"]


def test_a_tail_needs_samples_in_it() -> None:
    evidence = make_evidence(changed=0)
    first = evidence.candidate.latency[0]
    short = replace(evidence.candidate, latency=(replace(first, samples=first.samples[:10]),))
    (gate,) = judge(BenchmarkConfig(max_p95_ratio=0.9), [replace(evidence, candidate=short)])
    assert gate.verdict == "inconclusive"


def test_a_regression_drops_in_correlation() -> None:
    draw = np.random.default_rng(1)
    references = draw.standard_normal(400)
    report = make_report(labels=False)
    theirs = Answers(REGRESSION, references, (references + 0.1 * draw.standard_normal(400))[:, None])
    ours = Answers(REGRESSION, references, (references + 1.0 * draw.standard_normal(400))[:, None])
    evidence = Evidence(report.candidates[0], report.baseline, ours, theirs, QUIET, seed=1)
    (gate,) = judge(BenchmarkConfig(max_metric_drop=0.1), [evidence])
    assert gate.verdict == "fail"
    assert gate.value == pytest.approx(0.29, abs=0.05)


def test_loyalty_of_a_regression_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--min-label-loyalty 0\.9 was asked of a regression"):
        check_gates(BenchmarkConfig(min_label_loyalty=0.9), REGRESSION)
    check_gates(BenchmarkConfig(min_label_loyalty=0.9), CLASSES)


def test_limits_by_quantile() -> None:
    assert latency_limits(BenchmarkConfig(max_p95_ratio=0.5)) == {0.95: 0.5}
