"""The whole benchmark on tiny models in real processes; nothing is asserted about how fast anything is."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.benchmark.requests import CONFIG, asked
from tests.families import write_rows
from tests.watcher import Watcher
from theseus_deploy.benchmark.latency import LOADS, PACED
from theseus_deploy.benchmark.noise import crowding
from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.stage import benchmark
from theseus_deploy.benchmark.views import VIEWS, save
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.data import open_data
from theseus_deploy.errors import ConfigError, DataError
from theseus_deploy.machine import this_machine
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.predictor import Predictor

CANDIDATE = {
    "name", "path", "runtime", "device", "precision", "parameters", "bytes", "load_seconds", "peak_rss_bytes", "scores",
    "loyalty", "latency",
}  # fmt: skip
LATENCY = {"batch", "sequence", "samples", "p50", "p90", "p95", "p99", "mean", "per_second", "ratio"}


pytestmark = pytest.mark.thorough  # candidates are measured, each in a process of its own


@pytest.fixture(scope="module")
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture(scope="module")
def report(tiny_bert: Path, fp32_bundle: Path, int8_bundle: Path, corpus: Path, watcher: Watcher) -> BenchmarkReport:
    candidates = [str(fp32_bundle), str(int8_bundle)]
    return benchmark(candidates, str(tiny_bert), open_data(str(corpus)), CONFIG, watcher)


def test_the_json_has_the_contracts_keys(report: BenchmarkReport) -> None:
    data = json.loads(report.dumps())
    assert data["schema"] == 1
    assert data.keys() >= {"environment", "baseline", "candidates", "gates", "verdict"}
    assert data["environment"].keys() >= {"cpu", "isa", "cores", "threads", "versions", "noise"}
    for candidate in (data["baseline"], *data["candidates"]):
        assert candidate.keys() >= CANDIDATE
        for latency in candidate["latency"]:
            assert latency.keys() >= LATENCY
            assert latency["ratio"].keys() >= {"p50", "interval"}
    for gate in data["gates"]:
        assert gate.keys() >= {"name", "limit", "value", "interval", "verdict"}


def test_the_report_survives_its_json(report: BenchmarkReport, tmp_path: Path) -> None:
    report.save(tmp_path / "report.json")
    assert BenchmarkReport.open(tmp_path / "report.json") == report


def test_a_report_knows_the_request_it_answers(
    report: BenchmarkReport, tiny_bert: Path, fp32_bundle: Path, int8_bundle: Path, corpus: Path
) -> None:
    folders = [str(fp32_bundle), str(int8_bundle)]
    assert asked(folders, tiny_bert, corpus).identity() == json.loads(json.dumps(report.request))
    other = BenchmarkConfig(seed=2)
    assert asked(folders, tiny_bert, corpus, other).identity() != report.request
    elsewhere = replace(report, environment={**report.environment, "cpu": "another"})
    assert asked(folders, tiny_bert, corpus).identity() != elsewhere.request


def test_every_shape_is_measured_in_the_same_rounds(report: BenchmarkReport) -> None:
    shapes = [(1, "data"), (4, "data"), (1, 8), (4, 8)]
    for one in (report.baseline, *report.candidates):
        assert [(latency.batch, latency.sequence) for latency in one.latency] == shapes
        for latency, base in zip(one.latency, report.baseline.latency, strict=True):
            assert len(latency.samples) == len(base.samples) >= 10
            assert latency.rounds == base.rounds >= 10
            assert len(latency.samples) % latency.rounds == 0


def test_every_candidate_is_timed_with_pauses(report: BenchmarkReport) -> None:
    for one in (report.baseline, *report.candidates):
        assert len(one.paced) == len(LOADS)
        assert all(len(paced.samples) == len(paced.again) >= PACED[0] for paced in one.paced)
        assert all(0 < paced.busy < 1 for paced in one.paced)


def test_statistics_come_from_the_samples(report: BenchmarkReport) -> None:
    one, base = report.candidates[0].latency[1], report.baseline.latency[1]
    assert one.p50 == pytest.approx(np.median(one.samples), rel=1e-5)
    assert one.per_second == pytest.approx(4 / np.mean(one.samples), rel=1e-5)
    assert one.ratio.p50 == pytest.approx(np.median(np.divide(one.samples, base.samples)), rel=1e-5)
    assert one.ratio.p95 == pytest.approx(one.p95 / base.p95)
    assert one.ratio.interval[0] <= one.ratio.p50 <= one.ratio.interval[1]
    assert (base.ratio.p50, base.ratio.interval) == (1.0, (1.0, 1.0))


def test_the_same_model_scores_the_same_in_both_runtimes(report: BenchmarkReport) -> None:
    same, quantised = report.candidates
    assert [report.baseline.runtime, same.runtime] == ["torch", "onnxruntime"]
    assert report.baseline.loyalty is None
    assert same.scores == report.baseline.scores
    assert same.loyalty is not None
    assert same.loyalty.label == 1.0
    assert same.loyalty.probability == pytest.approx(1.0, abs=1e-2)
    assert quantised.loyalty is not None
    assert quantised.loyalty.probability < same.loyalty.probability
    assert quantised.precision == "int8-dynamic"
    assert {one.parameters for one in (report.baseline, same, quantised)} == {38402}


def test_noise_is_measured_with_a_second_baseline(report: BenchmarkReport) -> None:
    noise = report.environment["noise"]
    assert noise["interval"][0] <= noise["aa_p50_ratio"] <= noise["interval"][1]
    assert noise["shape"] == {"batch": 1, "sequence": "data"}
    assert len(noise["load_average"]) == 3
    assert noise["others"]["cores"] >= 0
    assert noise["crowding"] == crowding(noise["others"], 1, psutil.cpu_count() or 1)
    assert isinstance(noise["remarks"], list)


@pytest.mark.skipif(this_machine().cores < 2, reason="one core has no second thread")
def test_threads_are_swept_at_the_first_shape(report: BenchmarkReport) -> None:
    for one in (report.baseline, *report.candidates):
        assert [found.threads for found in one.sweep] == [1, 2]
        assert one.sweep[0].latency == one.latency[0]
        for found in one.sweep:
            assert (found.latency.batch, found.latency.sequence) == (1, "data")
            assert found.latency.per_second_and_core == pytest.approx(found.latency.per_second / found.threads)


def test_cost_is_that_of_the_cores_in_use(report: BenchmarkReport) -> None:
    for latency in report.candidates[0].latency:
        assert latency.per_second_and_core == pytest.approx(latency.per_second)
        seconds = 1e6 / latency.per_second
        assert latency.cost_per_million == pytest.approx(seconds * 0.001 / this_machine().cores)


def test_a_first_answer_comes_after_loading(report: BenchmarkReport) -> None:
    for one in (report.baseline, *report.candidates):
        assert one.first_answer_seconds is not None
        assert one.first_answer_seconds > one.load_seconds


def test_every_candidate_is_judged(report: BenchmarkReport) -> None:
    assert [gate.name for gate in report.gates] == ["label-loyalty", "size-ratio"] * 2
    assert report.verdict in ("pass", "fail", "inconclusive")


def test_progress_is_shown_all_along(report: BenchmarkReport, watcher: Watcher) -> None:
    assert sum(line.startswith("Loading ") for line in watcher.told) == 4 + 3  # three again with two threads
    assert sum(line.startswith("Timing ") for line in watcher.told) == 4 + 1
    assert sum(line.startswith("Scoring ") for line in watcher.told) == 3
    assert watcher.steps > 3 * 96


def test_nothing_is_left_running(report: BenchmarkReport) -> None:
    assert workers() == []


def test_an_interrupted_benchmark_leaves_nothing_running(fp32_bundle: Path, corpus: Path) -> None:
    watcher = Watcher(interrupt_at="Timing")
    with pytest.raises(KeyboardInterrupt):
        benchmark([str(fp32_bundle)], str(fp32_bundle), open_data(str(corpus)), CONFIG, watcher)
    assert sum(line.startswith("Loading ") for line in watcher.told) == 3
    assert workers() == []


@pytest.mark.slow
def test_a_terminated_benchmark_leaves_nothing_behind(
    tiny_bert: Path, successor_bundle: Path, corpus: Path, tmp_path: Path
) -> None:
    """A CI job that is cancelled gets SIGTERM: no worker outlives it, and no exported baseline."""
    words = ["benchmark", str(successor_bundle), "--baseline", str(tiny_bert), "--data", str(corpus), "--threads", "1"]
    command = [sys.executable, "-c", "from theseus_deploy_cli.main import run; run()", *words]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as running:
        assert running.stderr is not None
        said = next(line for line in running.stderr if b"in a process of its own" in line)
        children = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGTERM)
        last = running.stderr.read().splitlines()[-1]
    assert (running.returncode, last) == (130, b"theseus: interrupted; nothing was written"), said
    assert not [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []  # onnxruntime leaves a file, `.ses`


def test_what_is_wrong_is_found_before_any_process_starts(fp32_bundle: Path, corpus: Path, tmp_path: Path) -> None:
    data = tmp_path / "odd.csv"
    data.write_text("text,label\na good film,wonderful\n")
    watcher = Watcher()
    with pytest.raises(DataError, match="label 'wonderful' is not one the model knows"):
        asked([str(fp32_bundle)], fp32_bundle, data).run(watcher)
    with pytest.raises(ConfigError, match="--runtime torch"):
        benchmark(
            [str(fp32_bundle)], str(fp32_bundle), open_data(str(corpus)), BenchmarkConfig(runtime="torch"), watcher
        )
    for flag, changed in (
        ("threads", replace(CONFIG, threads=4096)),
        ("threads-sweep", replace(CONFIG, threads_sweep=(4096,))),
    ):
        with pytest.raises(ConfigError, match=rf"--{flag} 4096 is more than the \d+ cores"):
            benchmark([str(fp32_bundle)], str(fp32_bundle), open_data(str(corpus)), changed, watcher)
    assert watcher.told == []


def test_a_report_is_compared_with_itself(fp32_bundle: Path, corpus: Path, tmp_path: Path) -> None:
    config = BenchmarkConfig(batch=(4,), min_samples=5, max_seconds=1, threads=1)
    wanted, before = asked([str(fp32_bundle)], fp32_bundle, corpus, config), tmp_path / "before.json"
    wanted.run().save(before)
    report = replace(wanted, config=replace(config, against=str(before), max_regression_ratio=1000.0)).run()
    assert report.against is not None
    again = replace(wanted, config=replace(config, against=str(before), max_regression_ratio=1000.0))
    assert again.identity() == json.loads(json.dumps(report.request))
    before.write_text(f"{before.read_text()} ")
    assert again.identity() != report.request  # what it was compared with is no longer there
    (change,) = report.against.changes
    assert (change.candidate, change.score_before) == (
        report.candidates[0].name,
        report.candidates[0].scores["accuracy"],
    )
    assert [(gate.name, gate.value, gate.verdict) for gate in report.gates] == [
        ("regression-ratio", change.ratio, "pass")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "metric"), [("tokens", "f1"), ("multi-label", "micro_f1")])
def test_every_head_is_benchmarked_and_judged(
    family: Callable[[str, str], Path], tmp_path: Path, kind: str, metric: str
) -> None:
    folder, data = family("roberta", kind), write_rows(kind, tmp_path / "rows.jsonl")
    config = BenchmarkConfig(
        batch=(2,), sequence=(8,), min_samples=5, max_seconds=1, threads=1, max_metric_drop=0.5, min_label_loyalty=0.5
    )
    checkpoint, bundle = str(folder / "checkpoint"), str(folder / "bundle")
    report = asked([bundle, checkpoint], checkpoint, data, config).run()
    split, task = (
        open_data(str(data), task=open_checkpoint(checkpoint).task).for_scoring(),
        open_checkpoint(checkpoint).task,
    )
    expected = task.score(Predictor(bundle, threads=1).logits(split.texts), task.encode(split.labels, ""))
    assert (report.data["kind"], report.data["metric"], report.data["rows"]) == (kind, metric, 60)
    assert report.data["items"] == (sum(map(len, split.texts)) if kind == "tokens" else 60)
    for one in (report.baseline, *report.candidates):
        assert one.scores == pytest.approx(expected)
        low, high = one.intervals[metric]
        assert low <= one.scores[metric] <= high
    assert "label_loyalty" not in report.baseline.intervals
    for one in report.candidates:
        assert one.loyalty is not None
        assert (one.loyalty.label, one.loyalty.probability) == (1.0, pytest.approx(1.0, abs=1e-2))
        assert one.intervals["label_loyalty"][0] < 1.0 == one.intervals["label_loyalty"][1]
    assert [(gate.name, gate.verdict) for gate in report.gates] == 2 * [
        ("metric-drop", "pass"), ("label-loyalty", "pass"),
    ]  # fmt: skip
    save(report, paths := [tmp_path / f"report{suffix}" for suffix in VIEWS])
    assert BenchmarkReport.open(paths[0]) == report


@pytest.mark.slow
def test_a_task_is_judged_by_the_metric_of_its_data(tiny_bert: Path, corpus: Path) -> None:
    config = BenchmarkConfig(batch=(4,), min_samples=5, max_seconds=1, threads=1, max_metric_drop=1.0)
    data = replace(open_data(str(corpus)), metric="matthews")
    report = benchmark([str(tiny_bert)], str(tiny_bert), data, config)
    assert report.data["metric"] == "matthews"
    assert report.baseline.intervals.keys() == {"matthews"}
    assert [gate.value for gate in report.gates] == [0.0]


def test_rows_without_any_word_are_refused(family: Callable[[str, str], Path], tmp_path: Path) -> None:
    folder, data = family("bert", "tokens"), tmp_path / "rows.jsonl"
    data.write_text('{"tokens": ["a"], "ner_tags": ["O"]}\n' + '{"tokens": [], "ner_tags": []}\n' * 40)
    with pytest.raises(DataError, match=r"has no word in 1 rows; add rows, or raise --max-rows"):
        asked([str(folder / "bundle")], folder / "bundle", data, replace(CONFIG, max_rows=1)).run()


def workers() -> list[str]:
    children = psutil.Process().children(recursive=True)
    return [line for child in children if "theseus_deploy.benchmark.worker" in (line := " ".join(child.cmdline()))]
