"""Stage 3: candidates, a baseline and data in, a report out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from theseus_deploy.benchmark.accuracy import Answers, loyalty
from theseus_deploy.benchmark.against import Past, compare, open_earlier
from theseus_deploy.benchmark.certainty import agreement_estimate, score_estimate
from theseus_deploy.benchmark.contender import Contender, line_up
from theseus_deploy.benchmark.disagreement import disagreement
from theseus_deploy.benchmark.gate import QUANTILES, Evidence, check_gates, judge, latency_limits
from theseus_deploy.benchmark.latency import CONTROL, Timings, shapes, summarise
from theseus_deploy.benchmark.noise import crowding, governors, remarks
from theseus_deploy.benchmark.report import BenchmarkReport, Candidate, Latency, Sweep
from theseus_deploy.benchmark.stats import Estimate
from theseus_deploy.benchmark.trial import Measured, Trial
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.data import Corpus, open_data
from theseus_deploy.disk import sha256_of
from theseus_deploy.errors import ConfigError, DataError
from theseus_deploy.labels import Reference
from theseus_deploy.machine import cpu_quota, this_machine, versions
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task


@dataclass(frozen=True, kw_only=True)
class BenchmarkRequest:
    """What a benchmark is asked for, by name: candidates, their baseline, and data with its columns.

    References are measured as candidates are, and judged by no gate.
    """

    candidates: Sequence[str]
    baseline: str
    data: str
    config: BenchmarkConfig
    text: tuple[str, ...] | None = None
    label: str | None = None
    references: Sequence[str] = ()

    @cached_property
    def opened(self) -> tuple[list[Contender], Corpus]:
        """Find and check the models, the baseline first, and open the data with the baseline's columns: once."""
        contenders = line_up(self.baseline, self.candidates, self.config, self.references)
        return contenders, open_data(self.data, self.text, self.label, contenders[0].task)

    def check(self) -> None:
        """Refuse what `run` refuses before it starts a process: for callers that have work to do before it."""
        _prepare(*self.opened, self.config)

    def run(self, progress: Progress = SILENT) -> BenchmarkReport:
        """Benchmark, as `benchmark` does."""
        return _benchmark(*self.opened, self.config, progress)

    def identity(self) -> dict[str, Any]:
        """Put together all that a report depends on, with the machine: `request` of a report that answers this."""
        contenders, corpus = self.opened
        folders = [one.sha256 for one in contenders if one.role == "candidate"]
        environment = {**this_machine().to_json(), "versions": versions()}
        return {
            "folders": folders, "data": corpus.sha256, "config": self.config.to_json(), "environment": environment,
            "against": sha256_of(Path(self.config.against)) if self.config.against else None,
        }  # fmt: skip


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


def _prepare(contenders: list[Contender], corpus: Corpus, config: BenchmarkConfig) -> _Prepared:
    split = corpus.for_scoring().sample(config.max_rows)
    task = contenders[0].task.reading(corpus.text, corpus.label, corpus.metric)
    check_gates(config, task)
    check_threads(config)
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
        one.name: latency_limits(config, baseline.name, Past.of(earlier, one.name))
        for one in contenders[1:]
        if one.role == "candidate"
    }
    measured = Trial(contenders, split, config, environment["threads"], progress).measure(limits)
    answers = {name: Answers(prepared.task, prepared.references, logits) for name, logits in measured.logits.items()}
    first, *others = (
        _candidate(contender, baseline, answers, measured, split, config, environment["threads"])
        for contender in contenders
    )
    noise = _noise(measured.timings[0], baseline.name, config.seed)
    floor = {quantile: estimate.interval for quantile, estimate in noise.items()}
    working = environment["threads"] if baseline.device == "cpu" else 1
    crowd = crowding(measured.others, working, psutil.cpu_count() or environment["cores"])
    against, changes, calm = None, {}, {}
    if earlier:
        found, without = (
            compare(earlier, str(config.against), first, others, floor[0.5], share, config.seed)
            for share in (crowd, 0.0)
        )
        against = replace(found, sha256=sha256_of(Path(str(config.against))))
        changes, calm = ({change.candidate: change for change in one.changes} for one in (found, without))
    evidence = [
        Evidence(
            one,
            first,
            answers[one.name],
            answers[first.name],
            floor,
            config.seed,
            changes.get(one.name),
            crowd,
            calm.get(one.name),
        )
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
    environment["noise"]["remarks"] = [*remarks(environment), *(f"{one.remark}." for one in contenders if one.remark)]
    return BenchmarkReport(
        environment=environment,
        data={**prepared.data, "items": len(answers[first.name].logits)},
        config=config.to_json(),
        baseline=first,
        candidates=tuple(others),
        gates=judge(config, evidence),
        against=against,
    )


def check_threads(config: BenchmarkConfig) -> None:
    """Refuse more threads than there are cores.

    Raises:
        ConfigError: more were asked for.
    """
    cores = this_machine().cores
    for flag, asked in (("--threads", config.threads or 0), ("--threads-sweep", max(config.threads_sweep, default=0))):
        if asked > cores:
            raise ConfigError(f"{flag} {asked} is more than the {cores} cores that this program may use; lower it")


def _price(config: BenchmarkConfig, cores: int | None) -> float | None:
    """Return what so many cores of this machine cost an hour; all of it where a GPU works."""
    if config.price_per_hour is None or cores is None:
        return config.price_per_hour
    return config.price_per_hour * min(1.0, cores / this_machine().cores)


def _candidate(
    contender: Contender,
    baseline: Contender,
    answers: Mapping[str, Answers],
    measured: Measured,
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


def _noise(timings: Timings, baseline: str, seed: int) -> dict[float, Estimate]:
    """Estimate what the machine adds by itself: the baseline against a second process of the same baseline."""
    return {quantile: timings.ratio(CONTROL, baseline, quantile, seed) for quantile in QUANTILES}
