"""Write the README's table from `benchmarks/results/demo.json`, after taking a new report if one is given.

make demo && .venv/bin/python benchmarks/readme.py theseus-demo/report.json
"""

import sys
from pathlib import Path

from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.views import words
from theseus_deploy.benchmark.views.markdown import summary

ROOT = Path(__file__).resolve().parent.parent
README, RESULT = ROOT / "README.md", ROOT / "benchmarks" / "results" / "demo.json"
BEGIN, END = "<!-- demo -->\n", "<!-- /demo -->"


def with_table(text: str, report: BenchmarkReport) -> str:
    """Return the README's text with the report's table between its marks."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    source = "From [`benchmarks/results/demo.json`](benchmarks/results/demo.json), made by `make demo`."
    facts = f"{words.method_line(report)} {words.noise_line(report)}"
    return f"{before}{BEGIN}\n{summary(report)}\n\n{facts} {source}\n\n{END}{after}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        BenchmarkReport.open(Path(sys.argv[1])).save(RESULT)
    README.write_text(with_table(README.read_text("utf-8"), BenchmarkReport.open(RESULT)), "utf-8")
