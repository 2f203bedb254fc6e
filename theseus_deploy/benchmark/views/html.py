"""The report as one HTML file: no network, light and dark, printable. The look is in `report.html.j2`."""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from theseus_deploy.benchmark.report import BenchmarkReport, Candidate, Gate
from theseus_deploy.benchmark.views import plots, words

WIDE, NARROW = 1040, 360  # each plot is drawn twice, so that its letters keep their size on a phone
MOST_PAIRS = 20  # of labels that two models exchange, in the page; the JSON has all
FIGURE_SPACE = "\N{FIGURE SPACE}"  # as wide as a digit


@dataclass(frozen=True)
class Cell:
    """What a table shows, the number it sorts by, and what stands below in small letters."""

    text: str
    sort: float | str
    below: str = ""


@dataclass(frozen=True)
class Plot:
    """One plot, drawn for a wide and for a narrow page."""

    title: str
    wide: Markup
    narrow: Markup


def render(report: BenchmarkReport) -> str:
    """Return the report as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = words.plain
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text("utf-8"))
    return template.render(
        report=report,
        verdict=words.verdict_line(report),
        winner=words.winner_line(report),
        method=words.method_line(report),
        noise=words.noise_line(report),
        columns=words.columns(report),
        rows=_rows(report),
        gates=[_gate(gate) for gate in report.gates],
        shapes=_shapes(report),
        pareto=_pareto(report),
        most=MOST_PAIRS,
        disagreements=[one for one in report.candidates if one.disagreement],
        distributions=[_distributions(report, position) for position in range(len(report.baseline.latency))],
        words=words,
    )


def _everyone(report: BenchmarkReport) -> tuple[Candidate, ...]:
    return (report.baseline, *report.candidates)


def _kind(report: BenchmarkReport, one: Candidate) -> str:
    return "baseline" if one is report.baseline else "winner" if one is words.winner(report) else "other"


def _rows(report: BenchmarkReport) -> list[tuple[str, str, dict[str, Cell]]]:
    columns = words.columns(report)
    texts = {key: words.cells(report, key, FIGURE_SPACE) for key in columns}
    rows = []
    for position, one in enumerate(_everyone(report)):
        cells = {
            key: Cell(
                texts[key][position],
                -1.0 if (value := column.value(one)) is None else value,
                words.reach(report, key, one).replace("-", "−"),
            )
            for key, column in columns.items()
        }
        ratio = one.latency[0].ratio
        text = "1 (baseline)" if position == 0 else words.ratio_cell(one.latency[0])
        rows.append((words.plain(one.name), _kind(report, one), {"ratio": Cell(text, ratio.p50), **cells}))
    return rows


def _gate(gate: Gate) -> dict[str, object]:
    return {
        "gate": gate,
        "candidate": words.plain(gate.candidate),
        "limit": words.limit(gate),
        "measured": f"{words.gate_value(gate, gate.value)} {words.gate_interval(gate)}".replace("-", "−"),
        "margin": f"{words.margin(gate):+.3g}".replace("-", "−"),
        "margin_value": words.margin(gate),
        "picture": plots.bullet(gate.interval[0], gate.value, gate.interval[1], gate.limit, gate.verdict),
    }


def _shapes(report: BenchmarkReport) -> list[dict[str, Cell]]:
    rows = []
    for position, first in enumerate(report.baseline.latency):
        everyone = [(one, one.latency[position]) for one in _everyone(report)]
        texts = {
            name: words.aligned([words.milliseconds(getattr(latency, name)) for _, latency in everyone], FIGURE_SPACE)
            for name in ("p50", "p90", "p95", "p99", "mean")
        }
        for number, (one, latency) in enumerate(everyone):
            rows.append(
                {
                    "shape": Cell(words.shape(first), position),
                    "candidate": Cell(words.plain(one.name), words.plain(one.name)),
                    **{name: Cell(texts[name][number], getattr(latency, name)) for name in texts},
                    "rate": Cell(words.digits(latency.per_second), latency.per_second),
                    "ratio": Cell(
                        "1 (baseline)" if one is report.baseline else words.ratio_cell(latency), latency.ratio.p50
                    ),
                    "samples": Cell(f"{len(latency.samples):,}", len(latency.samples)),
                }
            )
    return rows


def _distributions(report: BenchmarkReport, position: int) -> Plot:
    rows = []
    for one in _everyone(report):
        latency = one.latency[position]
        samples = np.array(latency.samples) * 1e3
        rows.append(
            plots.Distribution(words.plain(one.name), samples, latency.p50 * 1e3, latency.p95 * 1e3, _kind(report, one))
        )
    title = words.shape(report.baseline.latency[position])
    return Plot(title, plots.distributions(rows, WIDE), plots.distributions(rows, NARROW))


def _pareto(report: BenchmarkReport) -> Plot:
    metric = report.data["metric"]
    points = [
        plots.Point(words.plain(one.name), one.latency[0].p50 * 1e3, one.scores[metric], _kind(report, one))
        for one in _everyone(report)
    ]
    name = words.metric_name(report)
    return Plot(f"{name} against latency", plots.pareto(points, name, WIDE), plots.pareto(points, name, NARROW))
