"""Stage 3: candidates, a baseline and data in, a report out."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import psutil

from theseus_deploy.benchmark.accuracy import Answers, logits_of, loyalty
from theseus_deploy.benchmark.certainty import agreement_estimate, score_estimate
from theseus_deploy.benchmark.contender import Contender, line_up
from theseus_deploy.benchmark.disagreement import disagreement
from theseus_deploy.benchmark.gate import QUANTILES, Evidence, check_gates, judge, latency_limits
from theseus_deploy.benchmark.latency import Timings, measure, shapes, summarise
from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import BenchmarkReport, Candidate
from theseus_deploy.benchmark.stats import Estimate
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.data import Corpus, Split, open_data
from theseus_deploy.errors import DataError
from theseus_deploy.machine import cpu_quota, this_machine, versions
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.tasks import Array

CONTROL = "the baseline again"  # a second process of it: what two equal candidates differ by is noise
FIRST_SHAPE = 2.0  # its share of the time in shares of another shape's: gates are decided there


def benchmark_paths(
    candidates: Sequence[str],
    baseline: str,
    data: str,
    text: tuple[str, ...] | None,
    label: str | None,
    config: BenchmarkConfig,
    progress: Progress = SILENT,
) -> BenchmarkReport:
    """Open the data with the baseline's columns, and benchmark."""
    contenders = line_up(baseline, candidates, config)
    return _benchmark(contenders, open_data(data, text, label, contenders[0].task), config, progress)


def request(
    candidates: Sequence[str],
    baseline: str,
    data: str,
    text: tuple[str, ...] | None,
    label: str | None,
    config: BenchmarkConfig,
) -> dict[str, Any]:
    """Put together all that a report depends on but the machine: equal to the `request` of a report that answers it."""
    contenders = line_up(baseline, candidates, config)
    corpus = open_data(data, text, label, contenders[0].task)
    folders = [contender.sha256 for contender in contenders]
    return {"folders": folders, "data": corpus.sha256, "config": config.to_json()}


def benchmark(
    candidates: Sequence[str],
    baseline: str,
    corpus: Corpus,
    config: BenchmarkConfig,
    progress: Progress = SILENT,
) -> BenchmarkReport:
    """Measure every candidate against the baseline on the corpus's scoring split.

    Each gets a process of its own, and only one of them works at any time.

    Raises:
        ConfigError: candidates that cannot be compared, or a runtime that cannot run them.
        DataError: labels that the baseline does not know.
        ModelError: a folder that is no trained model, or a process that died.
    """
    return _benchmark(line_up(baseline, candidates, config), corpus, config, progress)


@dataclass(frozen=True)
class _Measured:
    """What the workers answered: the times of each shape, and by worker its load, its memory and its logits."""

    timings: list[Timings]
    loaded: dict[str, dict[str, Any]]
    memory: dict[str, int]
    logits: dict[str, Array]


def _benchmark(
    contenders: list[Contender], corpus: Corpus, config: BenchmarkConfig, progress: Progress
) -> BenchmarkReport:
    baseline, split = contenders[0], corpus.for_scoring().sample(config.max_rows)
    task = baseline.task.reading(corpus.text, corpus.label, corpus.metric)
    check_gates(config, task)
    references = task.encode(split.labels, f"{corpus.ref} ({split.name})")
    if task.tags_words and not any(references):
        raise DataError(f"{corpus.ref} ({split.name}) has no word in {len(split)} rows; add rows, or raise --max-rows")
    environment = _environment(config)
    measured = _measure(contenders, split, config, environment["threads"], progress)
    answers = {name: Answers(task, references, logits) for name, logits in measured.logits.items()}
    first, *others = (_candidate(contender, baseline, answers, measured, split, config) for contender in contenders)
    noise = _noise(measured.timings[0], baseline.name, config.seed)
    floor = {quantile: estimate.interval for quantile, estimate in noise.items()}
    evidence = [Evidence(one, first, answers[one.name], answers[first.name], floor, config.seed) for one in others]
    environment["noise"] |= {
        "aa_p50_ratio": noise[0.5].value,
        "interval": list(noise[0.5].interval),
        "aa_p95_ratio": noise[0.95].value,
        "p95_interval": list(noise[0.95].interval),
        "shape": {"batch": first.latency[0].batch, "sequence": first.latency[0].sequence},
    }
    return BenchmarkReport(
        environment=environment,
        data={
            "ref": corpus.ref,
            "sha256": corpus.sha256,
            "split": split.name,
            "rows": len(split),
            "items": len(answers[first.name].logits),
            "max_length": task.max_length,
            "kind": task.kind,
            "metric": task.primary,
        },
        config=config.to_json(),
        baseline=first,
        candidates=tuple(others),
        gates=judge(config, evidence),
    )


def _measure(
    contenders: list[Contender], split: Split, config: BenchmarkConfig, threads: int, progress: Progress
) -> _Measured:
    baseline = contenders[0]
    with ExitStack() as stack:
        # The control comes first: it reads every shared library from the disk, so that no load time pays for that.
        control, _ = _start(stack, replace(baseline, name=CONTROL), threads, progress)
        started = [_start(stack, contender, threads, progress) for contender in contenders]
        workers = [worker for worker, _ in started]
        timings = _time(workers, control, baseline.name, split, config, progress)
        return _Measured(
            timings,
            loaded={worker.name: loaded for worker, loaded in started},
            memory={worker.name: int(worker.ask("memory")["peak_rss_bytes"]) for worker in workers},
            logits={worker.name: logits_of(worker, split, progress) for worker in workers},
        )


def _candidate(
    contender: Contender,
    baseline: Contender,
    answers: Mapping[str, Answers],
    measured: _Measured,
    split: Split,
    config: BenchmarkConfig,
) -> Candidate:
    name, is_baseline = contender.name, contender is baseline
    ours, theirs, loaded = answers[name], answers[baseline.name], measured.loaded[name]
    task = ours.task
    loyal = None if is_baseline else loyalty(task, ours.logits, theirs.logits)
    intervals = {task.primary: score_estimate(ours, config.seed).interval}
    if loyal:
        intervals["label_loyalty"] = agreement_estimate(ours, theirs, config.seed).interval
    return Candidate(
        name=name,
        path=contender.ref,
        sha256=contender.sha256,
        runtime=contender.runtime,
        device=contender.device,
        precision=contender.precision,
        parameters=int(contender.parameters or loaded["parameters"]),
        layers=contender.layers,
        bytes=contender.bytes,
        load_seconds=loaded["load_seconds"],
        peak_rss_bytes=measured.memory[name],
        scores=task.score(ours.logits, ours.references),
        loyalty=loyal,
        latency=tuple(summarise(timings, name, baseline.name, config.seed) for timings in measured.timings),
        intervals=intervals,
        disagreement=None if is_baseline else disagreement(ours, theirs, split.texts),
    )


def _environment(config: BenchmarkConfig) -> dict[str, Any]:
    """Describe the machine before anything is started on it."""
    machine = this_machine()
    return {
        **machine.to_json(),
        "threads": config.threads or machine.cores,
        "cpu_quota": cpu_quota(),
        "versions": versions(),
        "noise": {"load_average": list(psutil.getloadavg())},
    }


def _start(stack: ExitStack, contender: Contender, threads: int, progress: Progress) -> tuple[Worker, dict[str, Any]]:
    progress.say(f"Loading {contender.name} in a process of its own")
    worker = stack.enter_context(Worker(contender.name, threads))
    loaded = worker.ask(
        "load",
        runtime=contender.runtime,
        path=str(contender.path),
        ref=contender.ref,
        max_length=contender.task.max_length,
        threads=threads,
        device=contender.device,
    )
    return worker, {**loaded, "load_seconds": time.perf_counter() - worker.started}


def _time(
    workers: list[Worker], control: Worker, baseline: str, split: Split, config: BenchmarkConfig, progress: Progress
) -> list[Timings]:
    """Time every shape in its share of what is left of the time; the control takes part in the first and is ended."""
    end = time.perf_counter() + config.max_seconds
    timings: list[Timings] = []
    todo = shapes(config)
    for position, shape in enumerate(todo):
        first = position == 0
        weight = FIRST_SHAPE if first else 1.0
        seconds = max(1.0, end - time.perf_counter()) * weight / (weight + len(todo) - position - 1)
        taking_part = [*workers, control] if first else workers
        limits = dict.fromkeys((worker.name for worker in workers[1:]), latency_limits(config)) if first else {}
        timings.append(measure(taking_part, baseline, shape, split, config, seconds, limits, progress))
        if first:
            control.close()
    return timings


def _noise(timings: Timings, baseline: str, seed: int) -> dict[float, Estimate]:
    """Estimate what the machine adds by itself: the baseline against a second process of the same baseline."""
    return {quantile: timings.ratio(CONTROL, baseline, quantile, seed) for quantile in QUANTILES}
