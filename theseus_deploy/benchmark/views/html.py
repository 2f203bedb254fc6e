"""The report as one HTML file: no network, light and dark, printable. The look is in `report.html.j2`."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from theseus_deploy.benchmark.gains import gain, has_twin
from theseus_deploy.benchmark.report import BenchmarkReport, Candidate, Gate, Latency
from theseus_deploy.benchmark.views import main_table, numbers, plots, words
from theseus_deploy.benchmark.winner import winner, winner_or_fastest

WIDE, NARROW = 1040, 360  # each plot is drawn twice, so that its letters keep their size on a phone
MOST_PAIRS = 20  # of labels that two models exchange, in the page; the JSON has all
FIGURE_SPACE = "\N{FIGURE SPACE}"  # as wide as a digit
PERCENTILES = ("p50", "p90", "p95", "p99")


@dataclass(frozen=True)
class Cell:
    """What a table shows, the number it sorts by, and what stands below in small letters."""

    text: str | Markup
    sort: float | str
    below: str = ""


UNKNOWN = Cell("–", -1.0)


@dataclass(frozen=True)
class Plot:
    """One plot, drawn for a wide and for a narrow page."""

    title: str
    wide: Markup
    narrow: Markup

    @classmethod
    def of(cls, title: str, draw: Callable[[int], Markup]) -> "Plot":
        """Draw for both widths."""
        return cls(title, draw(WIDE), draw(NARROW))


def render(report: BenchmarkReport) -> str:
    """Return the report as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = words.plain
    steps = _steps(report)
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text("utf-8"))
    return template.render(
        report=report,
        columns=main_table.columns(report),
        rows=_rows(report),
        gates=[_gate(gate) for gate in report.gates],
        forest=_forest(report),
        steps=steps,
        unknown=any(step["metric"] is UNKNOWN for step in steps),
        waterfall=_waterfall(report),
        sizes=_sizes(report),
        shapes=_shapes(report),
        sweep=_sweep(report),
        pareto=_pareto(report),
        most=MOST_PAIRS,
        disagreements=[one for one in report.candidates if one.disagreement],
        distributions=[_distributions(report, position) for position in range(len(report.baseline.latency))],
        words=words,
    )


def _everyone(report: BenchmarkReport) -> tuple[Candidate, ...]:
    return (report.baseline, *report.candidates)


def _kind(report: BenchmarkReport, one: Candidate) -> str:
    return "baseline" if one is report.baseline else "winner" if one is winner(report) else "other"


def _label(report: BenchmarkReport, one: Candidate) -> plots.Label:
    return plots.Label(*words.name_parts(one), _kind(report, one))


def _name(one: Candidate) -> Cell:
    return Cell(words.plain(one.name), words.plain(one.name))


def _rows(report: BenchmarkReport) -> list[tuple[str, str, dict[str, Cell]]]:
    columns = main_table.columns(report)
    texts = {key: main_table.cells(report, key, FIGURE_SPACE) for key in columns}
    rows = []
    for position, one in enumerate(_everyone(report)):
        cells = {
            key: Cell(
                texts[key][position],
                -1.0 if (value := column.value(one)) is None else value,
                main_table.reach(report, key, one).replace("-", "−"),
            )
            for key, column in columns.items()
        }
        ratio = _ratio(report, one, one.latency[0])
        rows.append((words.plain(one.name), _kind(report, one), {"ratio": ratio, **cells}))
    return rows


def _gate(gate: Gate) -> dict[str, object]:
    return {
        "gate": gate,
        "candidate": words.plain(gate.candidate),
        "limit": words.limit(gate),
        "measured": f"{words.gate_value(gate, gate.value)} {words.gate_interval(gate)}".replace("-", "−"),
        "margin": f"{gate.margin:+.3g}".replace("-", "−"),
        "margin_value": gate.margin,
        "picture": plots.bullet(gate.interval[0], gate.value, gate.interval[1], gate.limit, gate.verdict),
    }


def _forest(report: BenchmarkReport) -> Plot:
    blocks = [
        (
            str(latency.shape).capitalize(),
            [
                plots.Fork(_label(report, one), ratio.p50, ratio.interval, words.ratio_cell(one.latency[position]))
                for one in report.candidates
                for ratio in [one.latency[position].ratio]
            ],
        )
        for position, latency in enumerate(report.baseline.latency)
    ]
    low, high = report.environment["noise"]["interval"]
    limits = sorted({gate.limit for gate in report.gates if gate.name == "p50-ratio"})
    return Plot.of("Ratios", lambda width: plots.forest(blocks, (low, high), limits, width))


def _steps(report: BenchmarkReport) -> list[dict[str, Cell]]:
    """List what each candidate's gain is made of, a row a step: how long it takes and weighs after it, and scores."""
    metric = report.data["metric"]
    rows = []
    for one in report.candidates:
        found = gain(report, one)
        for number, step in enumerate(found.steps):
            share, after = found.share(step), step.end
            its_own = after is one or not has_twin(report, after)  # models of one shape take as long, and that is all
            rows.append(
                {
                    "candidate": Cell(words.plain(one.name), f"{words.plain(one.name)} {number}"),
                    "step": Cell(words.changes(step), words.changes(step), words.change_detail(step)),
                    "factor": Cell(words.factor(step), step.speedup.value),
                    "share": UNKNOWN if share is None else Cell(f"{share:.0%}".replace("-", "−"), share),
                    "time": Cell(numbers.milliseconds(after.latency[0].p50), after.latency[0].p50),
                    "size": Cell(numbers.megabytes(after.bytes), after.bytes) if its_own else UNKNOWN,
                    "metric": Cell(f"{after.scores[metric]:.3f}", after.scores[metric]) if its_own else UNKNOWN,
                }
            )
    return rows


def _waterfall(report: BenchmarkReport) -> Plot | None:
    found = gain(report, winner_or_fastest(report))
    falls = [
        plots.Fall(
            plots.Label(words.changes(step).capitalize(), words.change_detail(step), _kind(report, found.candidate)),
            step.start.latency[0].p50 * 1e3,
            step.end.latency[0].p50 * 1e3,
            words.factor(step) + ("" if (share := found.share(step)) is None else f", {share:.0%}"),
        )
        for step in found.steps
    ]
    return Plot.of("Gain", lambda width: plots.waterfall(falls, width)) if falls else None


def _sizes(report: BenchmarkReport) -> list[dict[str, Cell]]:
    everyone = _everyone(report)
    most, base = max(one.bytes for one in everyone), report.baseline.bytes
    return [
        {
            "candidate": _name(one),
            "layers": Cell(str(one.layers), one.layers),
            "parameters": Cell(f"{one.parameters:,}", one.parameters),
            "precision": Cell(one.precision, one.precision),
            "bits": Cell(numbers.digits(8 * one.bytes / one.parameters), one.bytes / one.parameters),
            "size": Cell(numbers.megabytes(one.bytes), one.bytes),
            "picture": Cell(plots.bar(one.bytes, most, _kind(report, one)), one.bytes),
            "less": Cell(
                "–" if one is report.baseline else f"{(one.bytes - base) / 1e6:+,.1f}".replace("-", "−"),
                one.bytes - base,
            ),
            "ratio": Cell(
                "1 (baseline)" if one is report.baseline else f"{numbers.times(one.bytes / base)}x", one.bytes
            ),
        }
        for one in everyone
    ]


def _shapes(report: BenchmarkReport) -> list[dict[str, Cell]]:
    rows = []
    for position, first in enumerate(report.baseline.latency):
        everyone = [(one, one.latency[position]) for one in _everyone(report)]
        values = {name: [words.percentile(latency, name) for _, latency in everyone] for name in PERCENTILES}
        texts = {
            name: numbers.aligned(
                ["–" if value is None else numbers.milliseconds(value) for value in values[name]], FIGURE_SPACE
            )
            for name in PERCENTILES
        }
        for number, (one, latency) in enumerate(everyone):
            rows.append(
                {
                    "shape": Cell(str(first.shape), position),
                    "candidate": _name(one),
                    **{name: Cell(texts[name][number], values[name][number] or -1.0) for name in PERCENTILES},
                    "rate": Cell(numbers.digits(latency.per_second), latency.per_second),
                    "ratio": _ratio(report, one, latency),
                    "samples": Cell(f"{len(latency.samples):,}", len(latency.samples), f"{latency.rounds} rounds"),
                }
            )
    return rows


def _sweep(report: BenchmarkReport) -> list[dict[str, Cell]]:
    """List the times of the first shape by the number of threads, where that was asked for."""
    return [
        {
            "candidate": _name(one),
            "threads": Cell(str(sweep.threads), sweep.threads),
            "p50": Cell(numbers.milliseconds(latency.p50), latency.p50),
            "rate": Cell(numbers.digits(latency.per_second), latency.per_second),
            "core": _optional(latency.per_second_and_core),
            "cost": _optional(latency.cost_per_million),
            "ratio": _ratio(report, one, latency),
        }
        for one in _everyone(report)
        for sweep in one.sweep
        for latency in [sweep.latency]
    ]


def _ratio(report: BenchmarkReport, one: Candidate, latency: Latency) -> Cell:
    return Cell("1 (baseline)" if one is report.baseline else words.ratio_cell(latency), latency.ratio.p50)


def _optional(value: float | None) -> Cell:
    return Cell("–", -1.0) if value is None else Cell(numbers.digits(value), value)


def _distributions(report: BenchmarkReport, position: int) -> Plot:
    rows = []
    for one in _everyone(report):
        latency = one.latency[position]
        samples = np.array(latency.samples) * 1e3
        rows.append(plots.Distribution(_label(report, one), samples, latency.p50 * 1e3, latency.p95 * 1e3))
    title = str(report.baseline.latency[position].shape)
    return Plot.of(title, lambda width: plots.distributions(rows, width))


def _pareto(report: BenchmarkReport) -> Plot:
    metric, name = report.data["metric"], words.metric_name(report)
    points = [
        plots.Point(_label(report, one), one.latency[0].p50 * 1e3, one.scores[metric], one.intervals.get(metric))
        for one in _everyone(report)
    ]
    return Plot.of(f"{name} against latency", lambda width: plots.pareto(points, name, width))
