"""The report for a terminal of 80 columns: verdict and winner first, then one table. The caller prints it."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from theseus_deploy.benchmark.report import BenchmarkReport, Candidate
from theseus_deploy.benchmark.views import words

STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
SHOWN = ("rate", "size", "load", "memory", "metric", "loyalty")


def render(report: BenchmarkReport) -> RenderableType:
    """Return the report as something rich prints."""
    parts: list[RenderableType] = [_verdict(report), Text(words.winner_line(report)), Text(), _candidates(report)]
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


def _candidates(report: BenchmarkReport) -> Table:
    columns = words.columns(report)
    shown = [key for key in SHOWN if key in columns]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=False)
    table.add_column("candidate", overflow="fold", min_width=14)
    table.add_column("p50\nms", justify="right", no_wrap=True)
    table.add_column("ratio\n95 %", justify="right", no_wrap=True)
    for key in shown:
        table.add_column(f"{columns[key].header}\n{columns[key].unit}", justify="right", no_wrap=True)
    texts = {key: words.cells(report, key) for key in ("p50", *shown)}
    best = words.winner(report)
    for position, one in enumerate((report.baseline, *report.candidates)):
        low, high = one.latency[0].ratio.interval
        ratio = Text("baseline", style="dim")
        if position > 0:
            ratio = Text.assemble(
                f"{words.times(one.latency[0].ratio.p50)}x", (f"\n{words.times(low)}–{words.times(high)}", "dim")
            )
        others = [Text.assemble(texts[key][position], (_below(report, key, one), "dim")) for key in shown]
        table.add_row(_name(one, bold=one is best), texts["p50"][position], ratio, *others)
    return table


def _name(one: Candidate, bold: bool) -> Text:
    name, runtime = words.name_parts(one)
    return Text.assemble((name, "bold" if bold else ""), (f"\n{runtime}" if runtime else "", "dim"))


def _below(report: BenchmarkReport, key: str, one: Candidate) -> str:
    """Write an interval under its value, as narrow as it goes: .871–.889."""
    bounds = words.reach(report, key, one).strip("[]").replace(", ", "–").replace("0.", ".")
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
