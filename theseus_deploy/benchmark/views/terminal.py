"""The report for a terminal of 80 columns: verdict and winner first, then one table. The caller prints it."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from theseus_deploy.benchmark.report import BenchmarkReport, Candidate
from theseus_deploy.benchmark.views import main_table, numbers, words
from theseus_deploy.benchmark.winner import winner

STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
SHOWN = ("rate", "size", "load", "memory", "metric", "loyalty")
LEAST_NAME, AMPLE = 14, 1_000  # characters
SPARED = ("load", "memory", "rate", "size")  # in this order, where a terminal is too narrow for all


def render(report: BenchmarkReport) -> RenderableType:
    """Return the report as something rich prints."""
    parts: list[RenderableType] = [_verdict(report), Text(words.winner_line(report)), Text(), _Candidates(report)]
    if report.gates:
        parts += [Text(), _gates(report), *map(Text, words.undecided_lines(report))]
    if since := words.since_lines(report):
        parts += [Text(), *map(Text, since)]
    parts += [Text(), Text(words.gain_line(report))]
    parts += [Text(line) for line in (words.cost_line(report), words.reference_line(report)) if line]
    parts += [Text(), Text(words.method_line(report), style="dim"), Text(words.noise_line(report), style="dim")]
    return Group(*parts)


def _verdict(report: BenchmarkReport) -> Text:
    if report.verdict is None:
        return Text(words.verdict_line(report), style="dim")
    return Text.assemble((report.verdict.upper(), STYLES[report.verdict]), "  ", words.verdict_line(report))


@dataclass(frozen=True)
class _Candidates:
    """The table of candidates, with as many columns as the terminal holds: a number is shown whole or not at all."""

    report: BenchmarkReport

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = [key for key in SHOWN if key in main_table.columns(self.report)]
        spared: list[str] = []
        for spare in (key for key in SPARED if key in shown):
            if _width(_candidates(self.report, shown, LEAST_NAME), console) <= options.max_width:
                break
            shown = [key for key in shown if key != spare]
            spared.append(spare)
        yield _candidates(self.report, shown)
        if spared:
            yield Text(f"no room for {', '.join(spared)} here: --report has them", style="dim")


def _width(table: Table, console: Console) -> int:
    lines = console.render_lines(table, console.options.update(width=AMPLE), pad=False)
    return max(map(Segment.get_line_length, lines))


def _candidates(report: BenchmarkReport, shown: Sequence[str], most_of_name: int | None = None) -> Table:
    columns = main_table.columns(report)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=False)
    table.add_column("candidate", overflow="fold", min_width=LEAST_NAME, max_width=most_of_name)
    table.add_column("p50\nms", justify="right", no_wrap=True)
    table.add_column("ratio\n95 %", justify="right", no_wrap=True)
    for key in shown:
        table.add_column(f"{columns[key].header}\n{columns[key].unit}", justify="right", no_wrap=True)
    texts = {key: main_table.cells(report, key) for key in ("p50", *shown)}
    best = winner(report)
    for position, one in enumerate((report.baseline, *report.candidates)):
        low, high = one.latency[0].ratio.interval
        ratio = Text("baseline", style="dim")
        if position > 0:
            ratio = Text.assemble(
                f"{numbers.times(one.latency[0].ratio.p50)}x", (f"\n{numbers.times(low)}–{numbers.times(high)}", "dim")
            )
        others = [Text.assemble(texts[key][position], (_below(report, key, one), "dim")) for key in shown]
        table.add_row(_name(one, bold=one is best), texts["p50"][position], ratio, *others)
    return table


def _name(one: Candidate, bold: bool) -> Text:
    name, runtime = words.name_parts(one)
    return Text.assemble((name, "bold" if bold else ""), (f"\n{runtime}" if runtime else "", "dim"))


def _below(report: BenchmarkReport, key: str, one: Candidate) -> str:
    """Write an interval under its value, as narrow as it goes: .871–.889."""
    bounds = main_table.reach(report, key, one).strip("[]").replace(", ", "–").replace("0.", ".")
    return f"\n{bounds}" if bounds else ""


def _gates(report: BenchmarkReport) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=False)
    table.add_column("gate", no_wrap=True)
    table.add_column("candidate", overflow="fold")
    table.add_column("limit", justify="right", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for gate in report.gates:
        measured = f"{words.gate_value(gate, gate.value)} {words.gate_interval(gate)}"
        verdict = Text(gate.verdict, style=STYLES[gate.verdict])
        table.add_row(gate.name, Text(words.plain(gate.candidate)), words.limit(gate), measured, verdict)
    return table
