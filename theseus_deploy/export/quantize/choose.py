"""From what was asked to the graph that ships."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from theseus_deploy.configs import ExportConfig, Quantize
from theseus_deploy.errors import ConfigError
from theseus_deploy.export.quantize.calibrate import ROWS, calibrate, rows_of
from theseus_deploy.export.quantize.fp16 import FP16, to_fp16
from theseus_deploy.export.quantize.graph import open_graph
from theseus_deploy.export.quantize.int8 import to_int8
from theseus_deploy.export.quantize.judge import Judge
from theseus_deploy.export.quantize.scheme import Scheme, parts
from theseus_deploy.export.quantize.sensitivity import Budget, keep_within
from theseus_deploy.machine import this_machine, usable_cores
from theseus_deploy.progress import Progress
from theseus_deploy.tasks import Task

PRECISION: Mapping[Quantize, str] = {
    "none": "fp32", "dynamic": "int8-dynamic", "static": "int8-static", "fp16": FP16,
}  # fmt: skip
GPU = "CUDAExecutionProvider"
WANTS_DATA: Mapping[Quantize, str] = {"static": f"--quantize static is calibrated on up to {ROWS} rows of text"}
SCORED = "--max-metric-drop is found on rows with labels"


@dataclass(frozen=True)
class Chosen:
    """The precision of the graph that was written, and the `quantization` object of the manifest's receipt."""

    precision: str
    receipt: Mapping[str, Any]


def check_request(config: ExportConfig, task: Task | None, has_data: bool) -> None:
    """Refuse at once what cannot be done; the task may not be known yet.

    Raises:
        ConfigError: rows, a GPU or labels are needed, and there are none.
    """
    if not has_data and (
        asked := WANTS_DATA.get(config.quantize) or (SCORED if config.max_metric_drop is not None else "")
    ):
        raise ConfigError(f"{asked}, and 0 were given; name them with --data, or use --quantize dynamic alone")
    if task and not task.labels and config.min_agreement is not None:
        raise ConfigError(
            f"--min-agreement {config.min_agreement} is about labels, and a regression has none; use --max-metric-drop"
        )
    if config.quantize == "fp16":
        import onnxruntime

        if GPU not in (found := onnxruntime.get_available_providers()):
            raise ConfigError(
                f"--quantize fp16 is for GPUs ({GPU}), and this onnxruntime has {', '.join(found)}; install "
                "onnxruntime-gpu, or use --quantize dynamic for CPUs"
            )


def quantise(graph: Path, config: ExportConfig, judge: Judge, progress: Progress) -> Chosen:
    """Replace the fp32 graph of the judge's bundle by the quantised one that was asked for.

    A CPU without native int8 sums pairs of products in 16 bits, which full-range weights overflow; for it they are
    given 7 bits.

    Raises:
        ConfigError: rows, a GPU or labels are needed, and there are none.
        ExportError: something with a weight stayed fp32 that was not to, or int8 is not within the budget.
    """
    corpus, predictor = judge.corpus, judge.fp32
    check_request(config, predictor.task, corpus is not None)
    precision = PRECISION[config.quantize]
    progress.say(f"quantising to {precision}")
    if config.quantize == "fp16":
        return Chosen(precision, to_fp16(graph, graph))
    method: Literal["dynamic", "static"] = "static" if config.quantize == "static" else "dynamic"
    scheme = Scheme(method, not this_machine().native_int8, config.per_channel, config.quantize_embeddings)
    ranges, notes = None, dict[str, Any]()
    if method == "static" and corpus:
        rows = rows_of(corpus)
        ranges = calibrate(graph, (predictor.encode([row]) for row in rows), config.threads or usable_cores())
        notes["calibration"] = {"rows": len(rows), "range": "minimum to maximum"}
    if budget := Budget.of(config):
        scored = budget.max_metric_drop is not None
        sensitivity = keep_within(
            budget,
            scheme,
            parts(open_graph(graph).graph),
            alone=lambda candidate: judge.verdict(candidate, ranges, scored=False),
            together=lambda candidate: judge.verdict(candidate, ranges, scored),
            progress=progress,
        )
        scheme, notes["sensitivity"] = sensitivity.scheme, sensitivity.to_json()
    return Chosen(precision, {**to_int8(graph, graph, scheme, ranges).to_json(), **notes})
