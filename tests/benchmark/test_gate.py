from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.benchmark.reports import make_report
from theseus_deploy.benchmark.accuracy import Answers
from theseus_deploy.benchmark.against import compare
from theseus_deploy.benchmark.gate import RULES, Evidence, check_gates, judge
from theseus_deploy.benchmark.report import EXIT_CODES, Change
from theseus_deploy.benchmark.stats import Estimate
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.errors import ConfigError
from theseus_deploy.tasks import KINDS, Task

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
    ours, theirs = (Answers(CLASSES, references.tolist(), values) for values in (logits, right))
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
        max_p50_ratio=0.6, max_p95_ratio=0.7, max_metric_drop=0.05, min_label_loyalty=0.95, max_size_ratio=0.5,
        max_regression_ratio=1.1, against="before.json",
    )  # fmt: skip
    one = replace(make_evidence(changed=10), change=Change("small (onnxruntime)", 0.5, 0.9, 4000, 1.0, (0.98, 1.02)))
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
    assert (gate.verdict, gate.reason[:37]) == ("inconclusive", "10 samples are fewer than the 20 that")


@pytest.mark.parametrize(("limit", "verdict"), [(0.9, "pass"), (0.1, "fail")])
def test_a_crowded_machine_decides_no_tail_and_no_close_median(limit: float, verdict: str) -> None:
    config = BenchmarkConfig(max_p50_ratio=limit, max_p95_ratio=limit)
    close = BenchmarkConfig(max_p50_ratio=0.55)  # of 0.5
    alone = make_evidence(changed=0)
    assert [gate.verdict for gate in judge(config, [replace(alone, crowding=0.04)])] == [verdict, verdict]
    assert judge(close, [alone])[0].verdict == "pass"
    crowd = replace(alone, crowding=0.25)
    median, tail = judge(config, [crowd])
    assert (median.verdict, tail.verdict) == (verdict, "inconclusive")
    assert "lacked a core for 25% of the time" in tail.reason
    assert judge(close, [crowd])[0].verdict == "inconclusive"
    assert "lacked a core for 25% of the time, which more samples do not mend" in judge(close, [crowd])[0].reason


def test_what_is_undecided_has_a_reason_and_a_remedy() -> None:
    config, evidence = BenchmarkConfig(max_p50_ratio=0.5, max_metric_drop=0.02), make_evidence(changed=20)
    median, drop = judge(config, [evidence])
    assert median.reason == "the limit is inside the interval; raise --max-seconds, or quieten the machine"
    assert drop.reason == "the limit is inside the interval of 1,000 rows; add rows to the data"
    assert judge(replace(config, max_rows=1000), [evidence])[1].reason.endswith("rows; raise --max-rows 1000")
    assert judge(replace(config, max_rows=2000), [evidence])[1].reason.endswith("rows; add rows to the data")
    assert [
        gate.reason for gate in judge(BenchmarkConfig(max_size_ratio=0.1, max_metric_drop=0.1), [evidence])
    ] == 2 * [""]


def test_a_regression_drops_in_correlation() -> None:
    draw = np.random.default_rng(1)
    references = draw.standard_normal(400)
    report = make_report(kind="regression")
    theirs = Answers(REGRESSION, references.tolist(), (references + 0.1 * draw.standard_normal(400))[:, None])
    ours = Answers(REGRESSION, references.tolist(), (references + 1.0 * draw.standard_normal(400))[:, None])
    evidence = Evidence(report.candidates[0], report.baseline, ours, theirs, QUIET, seed=1)
    (gate,) = judge(BenchmarkConfig(max_metric_drop=0.1), [evidence])
    assert gate.verdict == "fail"
    assert gate.value == pytest.approx(0.29, abs=0.05)


@pytest.mark.parametrize("metric", KINDS["single-label"].metrics)
@pytest.mark.parametrize(("changed", "verdict"), [(0, "pass"), (400, "fail")])
def test_the_drop_is_of_the_metric_that_decides(metric: str, changed: int, verdict: str) -> None:
    evidence = make_evidence(changed)
    answers, baseline = (
        replace(one, task=replace(CLASSES, metric=metric)) for one in (evidence.answers, evidence.baseline_answers)
    )
    (gate,) = judge(
        BenchmarkConfig(max_metric_drop=0.1), [replace(evidence, answers=answers, baseline_answers=baseline)]
    )
    expected = 1 - answers.task.score(answers.logits, answers.references)[metric]
    assert (gate.value, gate.verdict) == (pytest.approx(expected), verdict)


@pytest.mark.parametrize(
    ("kind", "labels"), [("single-label", ("a", "b")), ("multi-label", ("a", "b")), ("tokens", ("O", "B-a", "I-a"))]
)
def test_a_gate_on_few_inputs_is_never_passed_for_want_of_a_difference(kind: str, labels: tuple[str, ...]) -> None:
    """Eight inputs, both models right everywhere: that is no proof of a hundredth."""
    report = make_report()
    references = {"single-label": [0, 1] * 4, "multi-label": [[0.0, 1.0]] * 8, "tokens": [[0, 1, 2]] * 8}[kind]
    logits = np.array([[1.0, -1.0]] * 8) if kind != "tokens" else np.eye(3)[[0, 1, 2] * 8]
    for metric in KINDS[kind].metrics:
        task = Task(kind, labels, ("text",), "label", metric=metric)
        right = np.where(np.array(references), 1.0, -1.0) if kind == "multi-label" else logits
        right = np.eye(2)[references] if kind == "single-label" else right
        one = Answers(task, references, right)
        evidence = Evidence(report.candidates[0], report.baseline, one, one, QUIET, seed=1)
        gates = judge(BenchmarkConfig(max_metric_drop=0.01, min_label_loyalty=0.99), [evidence])
        assert [gate.verdict for gate in gates] == ["inconclusive", "inconclusive"], metric
        assert [gate.value for gate in gates] == [0.0, 1.0]


SILENT_ROWS: dict[str, tuple[Task, list[Any], str]] = {
    "no label": (Task("multi-label", ("a", "b"), ("text",), "label"), [[0.0, 0.0]] * 40, "score 0 in micro_f1"),
    "no entity": (Task("tokens", ("O", "B-a", "I-a"), ("text",), "label"), [[0, 0]] * 40, "score 0 in f1"),
    "one class": (Task("single-label", ("a", "b"), ("text",), "label", metric="matthews"), [1] * 40, "0 in matthews"),
    "one number": (REGRESSION, [0.5] * 40, "the true answers themselves score 0 in pearson on these 40 rows"),
    "two numbers": (REGRESSION, [0.1, 0.9], "pearson of 2 rows may be anything; add rows, 20 at least"),
}


def test_what_no_number_of_rows_proves_is_said() -> None:
    gates = judge(BenchmarkConfig(max_metric_drop=0.0, min_label_loyalty=1.0), [make_evidence(changed=0)])
    assert [(gate.verdict, gate.reason) for gate in gates] == [
        ("inconclusive", f"no number of rows proves exactly {limit}, which was found; allow a little")
        for limit in (0, 1)
    ]


def test_a_change_that_only_a_crowded_machine_leaves_open_says_so() -> None:
    before = make_report()
    one = before.candidates[0]
    crowd, calm = (
        compare(before, "", before.baseline, [one], (0.99, 1.01), crowding, seed=1).changes[0]
        for crowding in (0.8, 0.0)
    )
    config = BenchmarkConfig(against="before.json", max_regression_ratio=calm.interval[1] * 1.01)
    evidence = replace(make_evidence(changed=0), candidate=one, change=crowd, calm_change=calm, crowding=0.8)
    (gate,) = judge(config, [evidence])
    assert (gate.verdict, gate.interval) == ("inconclusive", crowd.interval)
    assert gate.reason.startswith("candidates lacked a core for 80% of the time, which more samples do not mend")


@pytest.mark.parametrize("name", SILENT_ROWS)
def test_a_metric_that_has_nothing_to_measure_passes_nobody(name: str) -> None:
    """Whoever is wrong everywhere is as good as whoever is right, where both score 0."""
    task, references, said = SILENT_ROWS[name]
    items = sum(map(len, references)) if task.tags_words else len(references)
    theirs = -np.ones((items, task.outputs)) * np.arange(1, task.outputs + 1)
    report = make_report(kind=task.kind)
    answers, baseline = (Answers(task, references, logits) for logits in (-theirs, theirs))
    evidence = Evidence(report.candidates[0], report.baseline, answers, baseline, QUIET, seed=1)
    (gate,) = judge(BenchmarkConfig(max_metric_drop=0.01), [evidence])
    assert gate.verdict == "inconclusive"
    assert said in gate.reason


def test_loyalty_of_a_regression_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--min-label-loyalty 0\.9 was asked of a regression"):
        check_gates(BenchmarkConfig(min_label_loyalty=0.9), REGRESSION)
    check_gates(BenchmarkConfig(min_label_loyalty=0.9), CLASSES)


def test_a_margin_is_the_way_from_the_worse_end_to_the_limit() -> None:
    config = BenchmarkConfig(max_size_ratio=0.6, min_label_loyalty=0.9)
    loyal, size = judge(config, [make_evidence(changed=0)])
    assert size.margin == pytest.approx(0.6 - size.interval[1])
    assert loyal.margin == pytest.approx(loyal.interval[0] - 0.9)
    for gate in (loyal, size):
        assert gate.to_json()["margin"] == gate.margin
