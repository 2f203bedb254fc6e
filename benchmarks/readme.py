"""Write the tables of both READMEs from `benchmarks/results/*.json`, after taking a new demo report if one is given.

make demo && .venv/bin/python benchmarks/readme.py theseus-demo/report.json
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import readme_accuracy, readme_speed
from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.views import words
from theseus_deploy.benchmark.views.markdown import summary

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README, RESULT = ROOT / "README.md", RESULTS / "demo.json"


def demo() -> str:
    """Return what the demo measured."""
    report = BenchmarkReport.open(RESULT)
    source = "From [`benchmarks/results/demo.json`](benchmarks/results/demo.json), made by `make demo`."
    conditions = f"{words.method_line(report)} {words.noise_line(report)} {source}"
    return f"{summary(report)}\n\n{words.gain_line(report)}\n\n{conditions}"


DOCUMENTS: dict[Path, dict[str, Callable[[], str]]] = {
    README: {
        "demo": demo,
        "kept": readme_accuracy.kept,
        "replacing": readme_accuracy.replacing,
        "speedups": readme_speed.speedups,
        "compress-speed": readme_speed.compress_speed,
        "cold-start": readme_speed.cold_start,
        "gate-power": readme_speed.gate_power,
    },
    README.parent / "benchmarks" / "README.md": {
        "means": readme_accuracy.means,
        "curriculum": readme_accuracy.curriculum,
        "accuracy": readme_accuracy.accuracy,
        "accuracy-fp32": partial(readme_accuracy.accuracy, readme_accuracy.FP32),
        "repeats": readme_accuracy.repeats,
        "latency": readme_speed.latency,
        "second-harness": readme_speed.second_harness,
        "int8-speed": readme_speed.int8_speed,
        "export-cost": readme_speed.export_cost,
        "plan": readme_speed.plan_validation,
    },
}


def with_tables(document: Path) -> str:
    """Return a document's text with every block between its marks made anew."""
    text = document.read_text("utf-8")
    for name, make in DOCUMENTS[document].items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{make()}\n\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    if len(sys.argv) > 1:
        BenchmarkReport.open(Path(sys.argv[1])).save(RESULT)
    for document in DOCUMENTS:
        document.write_text(with_tables(document), "utf-8")
