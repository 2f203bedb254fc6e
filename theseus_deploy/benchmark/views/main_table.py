"""The main table of a report: a line a candidate, a column a quantity."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from theseus_deploy.benchmark.report import BenchmarkReport, Candidate
from theseus_deploy.benchmark.views.numbers import aligned, digits, megabytes, milliseconds
from theseus_deploy.benchmark.views.words import kind_of, metric_parts, percentile, said


@dataclass(frozen=True)
class Column:
    """A column of the main table: `value` sorts it, `text` shows it; "" where there is nothing to show.

    `known_as` is the name in a candidate's `intervals` of how sure the value is, if anything is said of that.
    """

    header: str
    unit: str
    value: Callable[[Candidate], float | None]
    text: Callable[[float], str]
    explanation: str
    known_as: str = ""

    @property
    def name(self) -> str:
        """Return header and unit in one line."""
        return f"{self.header} {self.unit}".strip()


def columns(report: BenchmarkReport) -> dict[str, Column]:
    """Return the columns of the main table but for the ratio. Times are at the first shape.

    There is no loyalty where no candidate has any: numbers are neither alike nor not. Nor is there a cost without a
    price, or what an older report did not measure.
    """
    metric = report.data["metric"]
    where, seconds = report.baseline.latency[0].shape, partial(digits, significant=2)
    found = {
        "p50": Column("p50", "ms", lambda one: one.latency[0].p50, milliseconds, f"median time, {where}"),
        "p95": Column(
            "p95", "ms", lambda one: percentile(one.latency[0], "p95"), milliseconds, f"95th percentile, {where}"
        ),
        "rate": Column(
            "rate", "1/s", lambda one: one.latency[0].per_second, digits, "inputs a second, at the mean time"
        ),
        "cost": Column(
            "cost",
            "a million",
            lambda one: one.latency[0].cost_per_million,
            digits,
            "of a million inputs, in your price",
        ),
        "size": Column("size", "MB", lambda one: one.bytes, megabytes, "weights on disk"),
        "load": Column("load", "s", lambda one: one.load_seconds, seconds, "process start to ready"),
        "first": Column("first", "s", lambda one: one.first_answer_seconds, seconds, "start to first answer"),
        "memory": Column(
            "memory", "MB", lambda one: one.peak_rss_bytes, lambda value: f"{value / 1e6:,.0f}", "peak while timed"
        ),
        "metric": Column(
            *metric_parts(report), lambda one: one.scores[metric], "{:.3f}".format, f"on {_amount(report)}", metric
        ),
        "loyalty": Column(
            "loyalty",
            "",
            lambda one: one.loyalty.label if one.loyalty else None,
            "{:.3f}".format,
            f"share of {said(report).alike} the baseline's",
            "label_loyalty",
        ),
    }
    everyone = (report.baseline, *report.candidates)
    optional = {key for key in ("first", "cost", "loyalty") if all(found[key].value(one) is None for one in everyone)}
    return {key: column for key, column in found.items() if key not in optional}


def _amount(report: BenchmarkReport) -> str:
    """Say how much was scored."""
    rows = f"{report.data['rows']:,} rows"
    return f"{rows}, {report.data['items']:,} words" if kind_of(report) == "tokens" else rows


def reach(report: BenchmarkReport, key: str, one: Candidate) -> str:
    """Write how sure a column's value of a candidate is; "" where nothing is said of that."""
    bounds = one.intervals.get(columns(report)[key].known_as)
    return f"[{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""


def cells(report: BenchmarkReport, key: str, space: str = " ") -> list[str]:
    """Return a column's texts for the baseline and each candidate, decimal points aligned."""
    column = columns(report)[key]
    found = [column.value(one) for one in (report.baseline, *report.candidates)]
    return aligned(["–" if value is None else column.text(value) for value in found], space)
