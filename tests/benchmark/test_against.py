"""An earlier report: what it is compared in, and what is refused. Everything is made of constructed samples."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmark.reports import make_report
from tests.benchmark.test_gate import QUIET, make_evidence
from theseus_deploy.benchmark.against import Past, compare, open_earlier
from theseus_deploy.benchmark.contender import Contender, line_up
from theseus_deploy.benchmark.gate import judge
from theseus_deploy.benchmark.report import BenchmarkReport, Candidate, Shape
from theseus_deploy.benchmark.stats import Estimate, median_ratio, median_ratio_change
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.errors import ArtifactError, ConfigError

SHAPE = Shape(1, "data")


@pytest.fixture(scope="module")
def contenders(tiny_bert: Path, fp32_bundle: Path) -> list[Contender]:
    return line_up(str(tiny_bert), [str(fp32_bundle)], BenchmarkConfig())


@pytest.fixture
def earlier(contenders: list[Contender], tmp_path: Path) -> Path:
    """A report of these contenders, as an earlier run has left it."""
    report = make_report(contenders[1].name)
    path = tmp_path / "earlier.json"
    replace(report, baseline=replace(report.baseline, sha256=contenders[0].sha256)).save(path)
    return path


def opened(path: Path, contenders: list[Contender], limit: float | None = None, **changed: Any) -> BenchmarkReport:
    now = make_report()
    environment = {**now.environment, **changed}
    config = BenchmarkConfig(against=str(path), max_regression_ratio=limit)
    found = open_earlier(config, contenders, environment, {**now.data, **changed.get("data", {})}, SHAPE)
    assert found is not None
    return found


def slower(one: Candidate, factor: float) -> Candidate:
    first = one.latency[0]
    samples = tuple(value * factor for value in first.samples)
    ratio = replace(first.ratio, p50=first.ratio.p50 * factor)
    return replace(one, latency=(replace(first, samples=samples, ratio=ratio), *one.latency[1:]))


def test_a_report_of_the_same_environment_is_opened(earlier: Path, contenders: list[Contender]) -> None:
    assert opened(earlier, contenders) == BenchmarkReport.open(earlier)
    assert open_earlier(BenchmarkConfig(), contenders, {}, {}, SHAPE) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cpu": "another"}, "cpu was a CPU, is another"),
        ({"threads": 1}, "threads was 2, is 1"),
        ({"preloaded": ["libjemalloc.so.2"]}, "preloaded was None, is .'libjemalloc.so.2'"),
        ({"versions": {"numpy": "3"}}, "numpy was 2, is 3"),
        ({"versions": {"numpy": "2", "torch": "2.13"}}, "torch was None, is 2.13"),
        ({"data": {"sha256": "f" * 64}}, "data sha256 was"),
        ({"data": {"rows": 95}}, "data rows was 96, is 95"),
        ({"data": {"max_length": 32}}, "data max_length was 64, is 32"),
    ],
)
def test_another_environment_is_refused(
    earlier: Path, contenders: list[Contender], changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"was measured otherwise \(.*{said}.*; compare reports of one environment"):
        opened(earlier, contenders, **changed)


def test_another_baseline_runtime_or_shape_is_refused(earlier: Path, contenders: list[Contender]) -> None:
    base, bundle = contenders
    for other in (replace(base, sha256="e" * 64), replace(base, runtime="onnxruntime"), replace(base, device="cuda")):
        with pytest.raises(ConfigError, match=r"was measured otherwise \((baseline|runtime) was"):
            opened(earlier, [other, bundle])
    now = make_report()
    with pytest.raises(ConfigError, match="shape was batch 1, the data's lengths, is batch 8"):
        open_earlier(BenchmarkConfig(against=str(earlier)), contenders, now.environment, now.data, Shape(8, "data"))


def test_a_candidate_that_is_not_in_it_is_refused(earlier: Path, contenders: list[Contender]) -> None:
    base, bundle = contenders
    new = replace(bundle, name="new (torch)")
    with pytest.raises(ConfigError, match=r"does not know new \(torch\), only .*\(onnxruntime\)"):
        opened(earlier, [base, new])
    assert opened(earlier, [base, bundle, new])
    assert opened(earlier, [base, bundle, replace(new, role="reference")], limit=1.1)
    with pytest.raises(ConfigError, match=r"does not know new \(torch\)"):
        opened(earlier, [base, bundle, new], limit=1.1)


def test_what_is_no_report_is_refused(contenders: list[Contender], tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"a": 1}))
    for name in ("other.json", "nothing.json"):
        with pytest.raises(ArtifactError, match="is no benchmark report"):
            opened(tmp_path / name, contenders)


def test_a_limit_without_a_report_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--max-regression-ratio 1\.1 has nothing to compare with; .*--against"):
        BenchmarkConfig(max_regression_ratio=1.1)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.3, "inconclusive"), (1.9, "fail")])
def test_a_candidate_that_became_slower_fails(factor: float, verdict: str) -> None:
    before = make_report()
    now = slower(before.candidates[0], factor)
    against = compare(before, "before.json", before.baseline, [now], (0.99, 1.01), 0.0, seed=1)
    (change,) = against.changes
    assert change.ratio == pytest.approx(factor)
    assert change.before == before.candidates[0].latency[0].ratio.p50
    assert change.interval[0] < factor < change.interval[1]
    config = BenchmarkConfig(against="before.json", max_regression_ratio=1.3)
    evidence = replace(make_evidence(changed=0), candidate=now, noise=QUIET, change=change)
    (gate,) = judge(config, [evidence])
    assert (gate.name, gate.verdict, gate.interval) == ("regression-ratio", verdict, change.interval)


def test_the_noise_of_both_reports_counts() -> None:
    before = make_report()
    narrow, wide = (
        compare(before, "", before.baseline, before.candidates, noise, 0.0, seed=1).changes[0].interval
        for noise in ((1.0, 1.0), (0.8, 1.25))
    )
    assert wide == pytest.approx(Estimate(1.0, narrow).widened((0.8, 1.25)).interval)
    quiet, noisy = (
        compare(
            replace(before, environment={**before.environment, "noise": {"interval": floor}}),
            "", before.baseline, before.candidates, (1.0, 1.0), 0.0, seed=1,
        ).changes[0].interval
        for floor in ([1.0, 1.0], [0.8, 2.0])
    )  # fmt: skip
    assert noisy == pytest.approx(Estimate(1.0, quiet).widened((0.5, 2.0)).interval)
    crowd = replace(before, environment={**before.environment, "noise": {"interval": [1.0, 1.0], "crowding": 0.2}})
    (change,) = compare(crowd, "", before.baseline, before.candidates, (1.0, 1.0), 0.0, seed=1).changes
    assert change.interval == pytest.approx(Estimate(1.0, quiet).widened((0.9, 1 / 0.9)).interval, rel=1e-3)


def test_the_past_of_a_candidate_is_there_where_the_report_has_it(earlier: Path) -> None:
    report = BenchmarkReport.open(earlier)
    (one,) = report.candidates
    past = Past.of(report, one.name)
    assert past is not None
    assert past.candidate.tolist() == one.latency[0].by_round.tolist()
    assert Past.of(report, "other") is None
    assert Past.of(None, one.name) is None


def test_a_change_is_the_ratio_of_two_ratios() -> None:
    draw = np.random.default_rng(3)
    base, one, other = (scale * draw.lognormal(0, 0.1, (40, 4)) for scale in (1.0, 0.5, 0.6))
    then, now = median_ratio(one, base, 1), median_ratio(other, base, 1)
    change = median_ratio_change((other, base), (one, base), (1, 2))
    assert change.value == pytest.approx(now.value / then.value)
    assert change.half_width > max(then.half_width, now.half_width)
    assert change.interval[0] < 1.2 < change.interval[1]


def test_a_report_keeps_what_it_was_compared_with(tmp_path: Path) -> None:
    before = make_report()
    against = compare(before, "before.json", before.baseline, before.candidates, (1.0, 1.0), 0.0, seed=1)
    report = replace(before, against=against)
    report.save(tmp_path / "report.json")
    assert BenchmarkReport.open(tmp_path / "report.json") == report


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data["environment"].pop("noise"), "its environment lacks noise"),
        (lambda data: data["environment"].pop("versions"), "its environment lacks versions"),
        (lambda data: data["environment"]["noise"].update(interval=[0, 0]), "the interval of its noise is 0 to 0"),
        (lambda data: data["environment"]["noise"].pop("interval"), "interval"),
        (lambda data: data["environment"].update(threads=0), "its threads are 0"),
        (lambda data: data["environment"].update(cores="2"), "its cores are '2'"),
        (lambda data: data["environment"]["noise"].update(remarks=5), "not iterable"),
        (lambda data: data["environment"]["noise"].update(remarks=[5]), "the remarks on its noise are no texts"),
        (lambda data: data["baseline"]["latency"][0].update(batch="8"), "was timed at batches of '8'"),
        (lambda data: data["baseline"]["latency"][0].update(batch=0), "was timed at batches of 0"),
        (lambda data: data["data"].pop("metric"), "its data lacks metric"),
        (lambda data: data.update(data=None), "NoneType"),
        (lambda data: data.update(environment="x"), "no attribute .items"),
        (lambda data: data["baseline"].update(scores={}), "has no score in accuracy"),
        (lambda data: data["baseline"].update(latency=[]), "was timed at no shape"),
        (lambda data: data["baseline"]["latency"][0].update(samples=[]), "has samples that are no times, or none"),
        (lambda data: data["baseline"]["latency"][0].update(samples=[0.0]), "has samples that are no times, or none"),
        (lambda data: data["baseline"]["latency"][0].update(rounds=0), "has 48 samples in 0 rounds"),
        (lambda data: data["baseline"]["latency"][0].update(rounds=7), "has 48 samples in 7 rounds"),
        (
            lambda data: data["candidates"][0]["latency"][0].update(samples=[0.1], rounds=1),
            "not timed in the rounds of",
        ),
        (lambda data: data["candidates"][0]["latency"].pop(), "not timed in the rounds of"),
        (lambda data: data["baseline"]["latency"][0].update(ratio=5), "no attribute"),
        (
            lambda data: data["baseline"]["paced"][0].update(samples=[], again=[]),
            "at random that are no times, or none",
        ),
        (lambda data: data["baseline"]["paced"][0].update(busy=2.0), "at random that are no times, or none"),
        (lambda data: data["baseline"]["paced"][0].update(busy=0.0), "at random that are no times, or none"),
        (lambda data: data["baseline"]["paced"][0].update(again=[1, 1]), "has 1 samples with pauses, 2 without"),
    ],
)
def test_a_damaged_report_is_refused_where_it_is_opened(
    earlier: Path, damage: Callable[[dict[str, Any]], object], said: str
) -> None:
    data = json.loads(earlier.read_text())
    damage(data)
    earlier.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=rf"earlier.json is no benchmark report \(.*{said}.*; make one with"):
        BenchmarkReport.open(earlier)


def test_what_a_later_release_adds_to_a_report_is_left_out(earlier: Path) -> None:
    before, data = BenchmarkReport.open(earlier), json.loads(earlier.read_text())
    for part in (data, data["baseline"], data["baseline"]["latency"][0]["ratio"]):
        part["joules"] = {"value": 1.0}
    earlier.write_text(json.dumps(data))
    assert BenchmarkReport.open(earlier) == before
