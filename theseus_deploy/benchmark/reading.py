"""Read a report's JSON as what it was written from, and refuse one that cannot be compared or planned with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from theseus_deploy.benchmark.report import SCHEMA, BenchmarkReport, Candidate, Shape
from theseus_deploy.errors import ArtifactError, brief

READ = {  # of a report, by those who compare with it or plan with it
    "environment": ("cpu", "cores", "threads", "versions", "noise"),
    "data": ("sha256", "split", "rows", "max_length", "metric"),
}
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


def read_report(path: Path) -> BenchmarkReport:
    """Read what `BenchmarkReport.save` wrote.

    Raises:
        ArtifactError: the file is not a report of this schema.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
        if data["schema"] != SCHEMA:
            raise ArtifactError(f"{path} has schema {data['schema']}; this version reads {SCHEMA}")
        report: BenchmarkReport = _read(BenchmarkReport, data)
        _check(report)
        return report
    except DAMAGED as error:
        raise ArtifactError(
            f"{path} is no benchmark report ({brief(error)}); make one with `theseus benchmark`"
        ) from error


def _read(hint: Any, data: Any) -> Any:
    """Turn JSON into values of a type: a key that a dataclass does not have is of a later release, and left out."""
    inner = get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{name: _read(hints[name], value) for name, value in data.items() if name in hints})
    if NoneType in inner:
        return None if data is None else _read(inner[0], data)
    if get_origin(hint) is tuple:
        return tuple(_read(inner[0], item) for item in data)
    if get_origin(hint) is Mapping:
        return {name: _read(inner[1], value) for name, value in data.items()}
    return data


def _check(report: BenchmarkReport) -> None:
    """Refuse a report in which something is missing that it is read for: to plan with it, or to compare with it."""
    environment, data = report.environment, report.data
    for part, names in READ.items():
        if missing := [name for name in names if name not in getattr(report, part)]:
            raise ValueError(f"its {part} lacks {', '.join(missing)}")
    for name in ("cores", "threads"):
        if not _is_count(environment[name]):
            raise ValueError(f"its {name} are {environment[name]!r}")
    if not all(isinstance(remark, str) for remark in environment["noise"].get("remarks", ())):
        raise ValueError("the remarks on its noise are no texts")
    low, high = environment["noise"]["interval"]
    if not 0 < low <= high:
        raise ValueError(f"the interval of its noise is {low} to {high}")
    for one in (report.baseline, *report.candidates):
        if not one.latency:
            raise ValueError(f"{one.name} was timed at no shape")
        if data["metric"] not in one.scores:
            raise ValueError(f"{one.name} has no score in {data['metric']}")
        for latency in one.latency:
            samples = latency.samples
            if not _is_count(latency.batch):
                raise ValueError(f"{one.name} was timed at batches of {latency.batch!r}")
            if not _are_times(samples):
                raise ValueError(f"{one.name} has samples that are no times, or none")
            if latency.rounds < 1 or len(samples) % latency.rounds:
                raise ValueError(f"{one.name} has {len(samples)} samples in {latency.rounds} rounds")
        for paced in one.paced:
            if not (0 < paced.busy <= 1 and _are_times(paced.samples) and _are_times(paced.again)):
                raise ValueError(f"{one.name} has samples of inputs that came at random that are no times, or none")
            if len(paced.samples) != len(paced.again):
                raise ValueError(f"{one.name} has {len(paced.samples)} samples with pauses, {len(paced.again)} without")
        if _rounds(one) != _rounds(report.baseline):
            raise ValueError(f"{one.name} was not timed in the rounds of {report.baseline.name}")


def _rounds(one: Candidate) -> list[tuple[Shape, int, int]]:
    return [(latency.shape, latency.rounds, len(latency.samples)) for latency in one.latency]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _are_times(samples: Sequence[float]) -> bool:
    return bool(samples) and all(isfinite(value) and value > 0 for value in samples)
