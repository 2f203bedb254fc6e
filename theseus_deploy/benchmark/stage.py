"""Stage 3: candidates, a baseline and data in, a report out."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from theseus_deploy.benchmark.accuracy import Answers, logits_of, loyalty
from theseus_deploy.benchmark.against import compare, open_earlier, regression_limit
from theseus_deploy.benchmark.certainty import agreement_estimate, score_estimate
from theseus_deploy.benchmark.contender import Contender, line_up
from theseus_deploy.benchmark.disagreement import disagreement
from theseus_deploy.benchmark.gate import QUANTILES, Evidence, check_gates, judge, latency_limits
from theseus_deploy.benchmark.latency import (
    CONTROL,
    Limits,
    Shape,
    Timings,
    measure,
    measure_paced,
    shapes,
    summarise,
)
from theseus_deploy.benchmark.noise import crowding, governors, neighbours, remarks, snapshot
from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import BenchmarkReport, Candidate, Latency, Paced, Sweep
from theseus_deploy.benchmark.stats import Estimate
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.data import Corpus, Split, open_data
from theseus_deploy.errors import ConfigError, DataError
from theseus_deploy.machine import cpu_quota, this_machine, versions
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.tasks import Array, Reference, Task

PACED_SHARE = 0.1  # of the time for all timing: how fast a process is that has pauses
FIRST_SHAPE = 2.0  # its share of the time in shares of another shape's: gates are decided there


def check_request(
    candidates: Sequence[str],
    baseline: str,
    data: str,
    text: tuple[str, ...] | None,
    label: str | None,
    config: BenchmarkConfig,
) -> None:
    """Refuse what `benchmark_paths` refuses before it starts a process: for callers that have work to do before it."""
    contenders = line_up(baseline, candidates, config)
    _prepare(contenders, open_data(data, text, label, contenders[0].task), config)


def benchmark_paths(
    candidates: Sequence[str],
    baseline: str,
    data: str,
    text: tuple[str, ...] | None,
    label: str | None,
    config: BenchmarkConfig,
    progress: Progress = SILENT,
    references: Sequence[str] = (),
) -> BenchmarkReport:
    """Open the data with the baseline's columns, and benchmark; references are measured, and judged by no gate."""
    contenders = line_up(baseline, candidates, config, references)
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
    folders = [one.sha256 for one in contenders if one.role == "candidate"]
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
class _Prepared:
    """What is known before anything is measured: the rows with their true labels, the machine, the earlier report.

    `data` is what the report says of the rows.
    """

    task: Task
    split: Split
    references: list[Reference]
    environment: dict[str, Any]
    data: dict[str, Any]
    earlier: BenchmarkReport | None


@dataclass(frozen=True)
class _Measured:
    """What the workers answered: the times of each shape, and by worker those after pauses, load, memory and logits.

    `sweep` has the times of the first shape by the number of threads, `others` what was busy beside the workers.
    """

    timings: list[Timings]
    sweep: dict[int, Timings]
    others: dict[str, Any]
    paced: dict[str, tuple[Paced, ...]]
    loaded: dict[str, dict[str, Any]]
    memory: dict[str, int]
    logits: dict[str, Array]


def _prepare(contenders: list[Contender], corpus: Corpus, config: BenchmarkConfig) -> _Prepared:
    split = corpus.for_scoring().sample(config.max_rows)
    task = contenders[0].task.reading(corpus.text, corpus.label, corpus.metric)
    check_gates(config, task)
    _check_threads(config)
    references = task.encode(split.labels, f"{corpus.ref} ({split.name})")
    if task.tags_words and not any(references):
        raise DataError(f"{corpus.ref} ({split.name}) has no word in {len(split)} rows; add rows, or raise --max-rows")
    environment = _environment(config)
    data = {
        "ref": corpus.ref,
        "sha256": corpus.sha256,
        "split": split.name,
        "rows": len(split),
        "max_length": task.max_length,
        "kind": task.kind,
        "metric": task.primary,
    }
    earlier = open_earlier(config, contenders, environment, data, shapes(config)[0])
    return _Prepared(task, split, references, environment, data, earlier)


def _benchmark(
    contenders: list[Contender], corpus: Corpus, config: BenchmarkConfig, progress: Progress
) -> BenchmarkReport:
    baseline, prepared = contenders[0], _prepare(contenders, corpus, config)
    split, environment, earlier = prepared.split, prepared.environment, prepared.earlier
    limits = {
        one.name: latency_limits(config, regression_limit(earlier, one.name, config.max_regression_ratio))
        for one in contenders[1:]
        if one.role == "candidate"
    }
    measured = _measure(contenders, split, config, environment["threads"], limits, progress)
    answers = {name: Answers(prepared.task, prepared.references, logits) for name, logits in measured.logits.items()}
    first, *others = (
        _candidate(contender, baseline, answers, measured, split, config, environment["threads"])
        for contender in contenders
    )
    noise = _noise(measured.timings[0], baseline.name, config.seed)
    floor = {quantile: estimate.interval for quantile, estimate in noise.items()}
    working = environment["threads"] if baseline.device == "cpu" else 1
    crowd = crowding(measured.others, working, psutil.cpu_count() or environment["cores"])
    against = compare(earlier, str(config.against), first, others, floor[0.5], crowd, config.seed) if earlier else None
    changes = {change.candidate: change for change in against.changes} if against else {}
    evidence = [
        Evidence(one, first, answers[one.name], answers[first.name], floor, config.seed, changes.get(one.name), crowd)
        for one in others
        if one.role == "candidate"
    ]
    environment["noise"] |= {
        "aa_p50_ratio": noise[0.5].value,
        "interval": list(noise[0.5].interval),
        "aa_p95_ratio": noise[0.95].value,
        "p95_interval": list(noise[0.95].interval),
        "shape": {"batch": first.latency[0].batch, "sequence": first.latency[0].sequence},
        "others": measured.others,
        "crowding": crowd,
    }
    environment["noise"]["remarks"] = remarks(environment)
    return BenchmarkReport(
        environment=environment,
        data={**prepared.data, "items": len(answers[first.name].logits)},
        config=config.to_json(),
        baseline=first,
        candidates=tuple(others),
        gates=judge(config, evidence),
        against=against,
    )


def _check_threads(config: BenchmarkConfig) -> None:
    cores = this_machine().cores
    if max(config.threads_sweep, default=0) > cores:
        raise ConfigError(
            f"--threads-sweep {max(config.threads_sweep)} is more than the {cores} cores that this program may use; "
            "lower it"
        )


def _price(config: BenchmarkConfig, cores: int | None) -> float | None:
    """Return what so many cores of this machine cost an hour; all of it where a GPU works."""
    if config.price_per_hour is None or cores is None:
        return config.price_per_hour
    return config.price_per_hour * min(1.0, cores / this_machine().cores)


def _measure(
    contenders: list[Contender],
    split: Split,
    config: BenchmarkConfig,
    threads: int,
    limits: Limits,
    progress: Progress,
) -> _Measured:
    baseline, todo = contenders[0], shapes(config)
    others = [count for count in sorted(set(config.threads_sweep)) if count != threads]
    budget = _Budget(config.max_seconds * (1 - PACED_SHARE), [FIRST_SHAPE] + [1.0] * (len(todo) - 1 + len(others)))
    with ExitStack() as stack:
        # The control comes first: it reads every shared library from the disk, so that no load time pays for that.
        control, _ = _start(stack, replace(baseline, name=CONTROL), split, config, threads, progress)
        started = [_start(stack, contender, split, config, threads, progress) for contender in contenders]
        workers = [worker for worker, _ in started]
        before = snapshot()
        timings = _time(workers, control, baseline.name, todo, split, config, budget, limits, progress)
        busy = neighbours(before, snapshot())
        each = config.max_seconds * PACED_SHARE / len(workers)
        paced = {worker.name: measure_paced(worker, split, config.seed, each) for worker in workers}
        loaded = {worker.name: answer for worker, answer in started}
        memory = {worker.name: int(worker.ask("memory")["peak_rss_bytes"]) for worker in workers}
        logits = {worker.name: logits_of(worker, split, progress) for worker in workers}
    sweep = {count: _sweep(contenders, count, todo[0], split, config, budget, progress) for count in others}
    if config.threads_sweep:
        sweep[threads] = timings[0]
    return _Measured(timings, dict(sorted(sweep.items())), busy, paced, loaded, memory, logits)


class _Budget:
    """The seconds for all timing, dealt out by weight: what one measurement leaves, the later ones share."""

    def __init__(self, seconds: float, weights: Sequence[float]) -> None:
        self._left, self._weights = seconds, list(weights)

    @contextmanager
    def share(self) -> Iterator[float]:
        """Give the next measurement its seconds, and count what it takes."""
        start = time.perf_counter()
        yield max(1.0, self._left) * self._weights[0] / sum(self._weights)
        self._left -= time.perf_counter() - start
        self._weights.pop(0)


def _candidate(
    contender: Contender,
    baseline: Contender,
    answers: Mapping[str, Answers],
    measured: _Measured,
    split: Split,
    config: BenchmarkConfig,
    threads: int,
) -> Candidate:
    name, is_baseline = contender.name, contender is baseline
    ours, theirs, loaded = answers[name], answers[baseline.name], measured.loaded[name]
    task = ours.task
    loyal = None if is_baseline else loyalty(task, ours.logits, theirs.logits)
    intervals = {task.primary: score_estimate(ours, config.seed).interval}
    if loyal:
        intervals["label_loyalty"] = agreement_estimate(ours, theirs, config.seed).interval

    def latency(timings: Timings, threads: int) -> Latency:
        cores = threads if contender.device == "cpu" else None
        return summarise(timings, name, baseline.name, config.seed, cores, _price(config, cores))

    return Candidate(
        name=name,
        path=contender.ref if contender.role == "candidate" else baseline.ref,
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
        latency=tuple(latency(timings, threads) for timings in measured.timings),
        intervals=intervals,
        disagreement=None if is_baseline else disagreement(ours, theirs, split.texts),
        role=contender.role,
        first_answer_seconds=loaded["first_answer_seconds"],
        sweep=tuple(Sweep(count, latency(timings, count)) for count, timings in measured.sweep.items()),
        paced=measured.paced[name],
    )


def _environment(config: BenchmarkConfig) -> dict[str, Any]:
    """Describe the machine before anything is started on it."""
    machine = this_machine()
    return {
        **machine.to_json(),
        "threads": config.threads or machine.cores,
        "cpu_quota": cpu_quota(),
        "gpu": _gpu_name() if config.device == "cuda" else None,
        "versions": versions(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "preloaded": [Path(name).name for name in os.environ.get("LD_PRELOAD", "").replace(":", " ").split()],
        "noise": {"load_average": list(psutil.getloadavg()), "governors": governors()},
    }


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else "one that torch does not see"


def _start(
    stack: ExitStack,
    contender: Contender,
    split: Split,
    config: BenchmarkConfig,
    threads: int,
    progress: Progress,
) -> tuple[Worker, dict[str, Any]]:
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
        precision=contender.precision,
        cuda_graphs=config.cuda_graphs,
    )
    ready = time.perf_counter()
    worker.ask("score", batches=[[split.texts[0]]])
    answered = time.perf_counter()
    return worker, {
        **loaded, "load_seconds": ready - worker.started, "first_answer_seconds": answered - worker.started
    }  # fmt: skip


def _time(
    workers: list[Worker],
    control: Worker,
    baseline: str,
    todo: Sequence[Shape],
    split: Split,
    config: BenchmarkConfig,
    budget: _Budget,
    limits: Limits,
    progress: Progress,
) -> list[Timings]:
    """Time every shape in its share of the time; the control takes part in the first and is ended."""
    timings: list[Timings] = []
    for shape in todo:
        first = not timings
        taking_part = [*workers, control] if first else workers
        judged = limits if first else {}
        with budget.share() as seconds:
            timings.append(measure(taking_part, baseline, shape, split, config, seconds, judged, progress))
        if first:
            control.close()
    return timings


def _sweep(
    contenders: list[Contender],
    threads: int,
    shape: Shape,
    split: Split,
    config: BenchmarkConfig,
    budget: _Budget,
    progress: Progress,
) -> Timings:
    """Time one shape in new processes of so many threads: thread pools take their size when they are made."""
    progress.say(f"{threads} thread{'s' * (threads != 1)}")
    with ExitStack() as stack:
        workers = [_start(stack, contender, split, config, threads, progress)[0] for contender in contenders]
        with budget.share() as seconds:
            return measure(workers, contenders[0].name, shape, split, config, seconds, {}, progress)


def _noise(timings: Timings, baseline: str, seed: int) -> dict[float, Estimate]:
    """Estimate what the machine adds by itself: the baseline against a second process of the same baseline."""
    return {quantile: timings.ratio(CONTROL, baseline, quantile, seed) for quantile in QUANTILES}
