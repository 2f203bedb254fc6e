"""From what was asked to the graph that ships."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from theseus_deploy.configs import BenchmarkConfig, ExportConfig, Quantize
from theseus_deploy.data import Corpus
from theseus_deploy.errors import ConfigError
from theseus_deploy.export.quantize.calibrate import ROWS, Ranges, calibrate
from theseus_deploy.export.quantize.fp16 import FP16, to_fp16
from theseus_deploy.export.quantize.graph import open_graph
from theseus_deploy.export.quantize.int8 import to_int8
from theseus_deploy.export.quantize.judge import Judge, rows_to_score
from theseus_deploy.export.quantize.scheme import Scheme, parts
from theseus_deploy.export.quantize.sensitivity import Budget, keep_within
from theseus_deploy.export.quantize.tournament import FP32, Timer, compete
from theseus_deploy.machine import GPU_WHEEL, this_machine, usable_cores
from theseus_deploy.progress import Progress
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task

PRECISION: Mapping[str, str] = {"dynamic": "int8-dynamic", "static": "int8-static", "fp16": FP16}
GPU = "CUDAExecutionProvider"
WANTS_DATA: Mapping[Quantize, str] = {"static": f"--quantize static is calibrated on up to {ROWS} rows of text"}
SCORED = "--max-metric-drop is found on rows with labels"
RACE_SECONDS = 60.0  # for each of the tournament's two races
RACE_ROWS = 256


@dataclass(frozen=True)
class Chosen:
    """The precision of the graph that was written, and two objects of the manifest's receipt.

    `receipt` is its `quantization`, `session` the entries of onnxruntime's session configuration that suit the graph.
    """

    precision: str
    receipt: Mapping[str, Any]
    session: Mapping[str, str] = field(default_factory=dict)


def check_request(config: ExportConfig, task: Task | None, has_data: bool, has_timer: bool) -> None:
    """Refuse at once what cannot be done; the task may not be known yet.

    Raises:
        ConfigError: rows, a GPU, labels or a timer are needed, and there are none.
    """
    if config.quantize == "auto" and not has_timer:
        raise ConfigError("--quantize auto times what it tries, and no timer was given; pass theseus_deploy.race.race")
    if not has_data and (
        asked := WANTS_DATA.get(config.quantize) or (SCORED if config.max_metric_drop is not None else "")
    ):
        raise ConfigError(f"{asked}, and 0 were given; name them with --data, or use --quantize dynamic alone")
    if task and not task.labels and not has_data and config.quantize == "auto":
        raise ConfigError(
            "--quantize auto judges a regression by its metric on rows with labels, and 0 were given; name them with "
            "--data, or use --quantize dynamic"
        )
    if task and not task.labels and config.min_agreement is not None:
        raise ConfigError(
            f"--min-agreement {config.min_agreement} is about labels, and a regression has none; use --max-metric-drop"
        )
    if config.quantize == "fp16":
        import onnxruntime

        if GPU not in (found := onnxruntime.get_available_providers()):
            raise ConfigError(
                f"--quantize fp16 is for GPUs ({GPU}), and this onnxruntime has {', '.join(found)}; use --quantize "
                f"dynamic for CPUs, or `pip install 'theseus-deploy[gpu]'` and then `{GPU_WHEEL}`"
            )


def check_rows(config: ExportConfig, task: Task, corpus: Corpus) -> None:
    """Refuse rows of which the metric of a budget tells nothing, so that any graph would be within it.

    Raises:
        ConfigError: too few numbers, or nothing in them that the metric counts.
        DataError: the model does not know their labels.
    """
    if (
        (budget := Budget.of(config, task))
        and budget.scored
        and (reason := task.unmeasured(rows_to_score(corpus, task)[1]))
    ):
        raise ConfigError(f"{budget} cannot be judged: {reason}")


def quantise(graph: Path, config: ExportConfig, judge: Judge, progress: Progress, timer: Timer | None = None) -> Chosen:
    """Replace the fp32 graph of the judge's bundle by the quantised one that was asked for, or was the fastest.

    A CPU without native int8 sums pairs of products in 16 bits, which full-range weights overflow; for it they are
    given 7 bits.

    Raises:
        ConfigError: rows, a GPU, labels or a timer are needed, and there are none.
        ExportError: something with a weight stayed fp32 that was not to, or int8 is not within the budget.
    """
    check_request(config, judge.task, judge.corpus is not None, timer is not None)
    if judge.corpus:
        check_rows(config, judge.task, judge.corpus)
    if config.quantize == "auto" and timer:
        return _fastest(graph, config, judge, progress, timer)
    precision = PRECISION[config.quantize]
    progress.say(f"quantising to {precision}")
    if config.quantize == "fp16":
        return Chosen(precision, to_fp16(graph, graph))
    method: Literal["dynamic", "static"] = "static" if config.quantize == "static" else "dynamic"
    scheme = Scheme(method, not this_machine().native_int8, config.per_channel, config.quantize_embeddings)
    ranges, notes = None, dict[str, Any]()
    if method == "static" and judge.corpus:
        ranges, notes["calibration"] = _calibrated(graph, config, judge, judge.corpus, progress)
    if budget := Budget.of(config, judge.task):
        sensitivity = keep_within(
            budget,
            scheme,
            parts(open_graph(graph).graph),
            alone=lambda candidate: judge.verdict(candidate, ranges, scored=False),
            together=lambda candidate: judge.verdict(candidate, ranges, budget.scored),
            progress=progress,
        )
        scheme, notes["sensitivity"] = sensitivity.scheme, sensitivity.to_json()
    return Chosen(precision, {**to_int8(graph, graph, scheme, ranges).to_json(), **notes})


def _fastest(graph: Path, config: ExportConfig, judge: Judge, progress: Progress, timer: Timer) -> Chosen:
    """Hold the tournament, and write what won it; that may be the fp32 graph, which is there already."""
    task = judge.task
    budget = Budget.of(config, task)
    assert budget  # `auto` always has one
    reduced, scales = not this_machine().native_int8, (True, False) if config.per_channel else (False,)
    schemes: dict[Scheme, Ranges | None] = {
        Scheme("dynamic", reduced, per_channel, config.quantize_embeddings): None for per_channel in scales
    }
    notes = dict[str, Any]()
    if judge.corpus:
        ranges, notes["calibration"] = _calibrated(graph, config, judge, judge.corpus, progress)
        schemes |= {replace(scheme, method="static"): ranges for scheme in list(schemes)}
    corpus, made_up = judge.corpus, Split("the check", list(judge.texts), [""] * len(judge.texts))
    rows = corpus.for_scoring().sample(RACE_ROWS) if corpus else made_up
    timing = BenchmarkConfig(seed=config.seed, threads=config.threads, max_seconds=RACE_SECONDS)
    found = compete(
        judge, schemes, budget, lambda racers: timer(racers, rows, task.max_length, timing, progress), progress
    )
    notes["tournament"] = {"batch": 1, "sequence": "data" if corpus else "made up", **found.to_json()}
    scheme = found.winner.scheme
    if scheme is None or scheme.method == "dynamic":
        notes.pop("calibration", None)
    if scheme is None:
        return Chosen(FP32, {"method": "none", **notes}, found.session)
    receipt = to_int8(graph, graph, scheme, schemes[replace(scheme, kept=())]).to_json()
    return Chosen(PRECISION[scheme.method], {**receipt, **notes}, found.session)


def _calibrated(
    graph: Path, config: ExportConfig, judge: Judge, corpus: Corpus, progress: Progress
) -> tuple[Ranges, dict[str, Any]]:
    """Find the ranges of activations on rows of the data, and say on how many."""
    rows = corpus.for_calibration().sample(ROWS).texts
    if len(rows) < ROWS:
        progress.say(f"static int8 is calibrated on {len(rows)} of {ROWS} rows: others may go beyond their ranges")
    ranges = calibrate(graph, judge.encode(rows), config.threads or usable_cores())
    return ranges, {"rows": len(rows), "range": "minimum to maximum"}
