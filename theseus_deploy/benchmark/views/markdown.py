"""The report for a pull request: GitHub's markdown, details folded."""

import re
from collections.abc import Iterable

from theseus_deploy.benchmark.gains import gain
from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.views import main_table, numbers, words

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&@$])")
SIGNS = {"pass": "✅ pass", "fail": "❌ fail", "inconclusive": "⚠️ inconclusive", None: "no gates"}


def render(report: BenchmarkReport) -> str:
    """Return the report as markdown."""
    parts = [
        f"## theseus benchmark: {SIGNS[report.verdict]}",
        f"**{_escape(words.winner_line(report))}** {words.verdict_line(report)}",
        summary(report),
    ]
    if report.gates:
        parts.append(
            _table(
                ["gate", "candidate", "limit", "measured [95 %]", "margin", "verdict"],
                (
                    [
                        gate.name,
                        _escape(gate.candidate),
                        words.limit(gate),
                        f"{words.gate_value(gate, gate.value)} {words.gate_interval(gate)}",
                        f"{gate.margin:+.3g}",
                        SIGNS[gate.verdict],
                    ]
                    for gate in report.gates
                ),
                text_columns=2,
            )
        )
    parts += [_escape(line) for line in words.undecided_lines(report)]
    shapes = _table(
        ["shape", "candidate", "p50 ms", "p95 ms", "p99 ms", "per second", "ratio [95 %]", "samples"],
        (
            [
                str(latency.shape),
                _escape(one.name),
                *(
                    "–" if value is None else numbers.milliseconds(value)
                    for value in (words.percentile(latency, name) for name in ("p50", "p95", "p99"))
                ),
                numbers.digits(latency.per_second),
                words.ratio_cell(latency),
                f"{len(latency.samples):,}",
            ]
            for position in range(len(report.baseline.latency))
            for one in (report.baseline, *report.candidates)
            for latency in [one.latency[position]]
        ),
        text_columns=2,
    )
    steps = _table(
        ["candidate", "step", "from → to", "faster [95 %]", "share"],
        (
            [
                _escape(one.name),
                words.changes(step),
                words.change_detail(step),
                words.factor(step),
                "–" if (share := found.share(step)) is None else f"{share:.0%}",
            ]
            for one in report.candidates
            for found in [gain(report, one)]
            for step in found.steps
        ),
        text_columns=3,
    )
    versions = ", ".join(f"{name} {version}" for name, version in report.environment["versions"].items())
    parts += [
        *(f"- {_escape(line)}" for line in words.since_lines(report)),
        _escape(words.gain_line(report)),
        *(_escape(line) for line in (words.price_line(report), words.reference_line(report)) if line),
        _escape(words.method_line(report)),
        _escape(words.noise_line(report)),
        _folded("Where each gain came from", steps),
        _folded("Every shape", shapes),
        *([_folded("Other numbers of threads", _sweep(report))] if report.baseline.sweep else []),
        _folded(
            "Versions and data",
            f"{_escape(versions)}\n\n"
            f"{_escape(words.plain(str(report.data['ref'])))}, {report.data['split']}: {report.data['rows']:,} rows, "
            f"sha256 `{report.data['sha256'][:16]}`",
        ),
    ]
    return "\n\n".join(parts) + "\n"


def summary(report: BenchmarkReport) -> str:
    """Return the table of all candidates, at the shape that production pays for."""
    columns = main_table.columns(report)
    everyone = (report.baseline, *report.candidates)
    texts = {key: main_table.cells(report, key) for key in columns}
    others = [key for key in columns if key != "p50"]
    header = ["candidate", "p50 ms", "ratio [95 %]", *(columns[key].name for key in others)]
    rows = []
    for position, one in enumerate(everyone):
        ratio = "1 (baseline)" if position == 0 else words.ratio_cell(one.latency[0])
        found = [f"{texts[key][position].strip()} {main_table.reach(report, key, one)}".strip() for key in others]
        rows.append([_escape(one.name), texts["p50"][position].strip(), ratio, *found])
    return _table(header, rows)


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def _sweep(report: BenchmarkReport) -> str:
    return _table(
        ["candidate", "threads", "p50 ms", "per second", "ratio [95 %]"],
        (
            [
                _escape(one.name),
                str(sweep.threads),
                numbers.milliseconds(sweep.latency.p50),
                numbers.digits(sweep.latency.per_second),
                words.ratio_cell(sweep.latency),
            ]
            for one in (report.baseline, *report.candidates)
            for sweep in one.sweep
        ),
    )


def _table(header: list[str], rows: Iterable[list[str]], text_columns: int = 1) -> str:
    rule = ["---"] * text_columns + ["---:"] * (len(header) - text_columns)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def _escape(text: str) -> str:
    return SPECIAL.sub(r"\\\1", words.plain(text))
