"""How often does a gate err? The p50 gate at a limit of 1.10, on equals and on a model that is truly a fifth slower.

    .venv/bin/python benchmarks/gate_power.py [--runs 200] [--minutes 3 --bundles DIR]

Every run is a whole benchmark, all processes new: a bundle of 5 layers as the baseline, the same bundle as a candidate
(A/A), and one of 6 layers, whose fifth more work is real work. Runs alternate between a quiet machine and one where a
second process works in bursts. A fault is an A/A comparison that fails; a slowdown is caught where the gate fails. The
file is written after each run, and the next call goes on from there, with the same bundles if it is given DIR. Writes
`benchmarks/results/gate_power.json`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.stage import BenchmarkRequest
from theseus_deploy.benchmark.stats import share
from theseus_deploy.builtin import minilm
from theseus_deploy.configs import BenchmarkConfig, ExportConfig
from theseus_deploy.disk import write_atomically
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.machine import this_machine, versions

RESULT = Path(__file__).resolve().parent / "results" / "gate_power.json"
DATA, LIMIT = "demo:tweets", 1.10
LAYERS = {"baseline": 5, "slower": 6}
WIDTH, HEADS, LABELS = 128, 4, {0: "negative", 1: "neutral", 2: "positive"}
CONFIG: dict[str, Any] = {"batch": (4,), "threads": 1, "max_seconds": 30.0, "max_rows": 32, "max_p50_ratio": LIMIT}
MACHINES = ("quiet", "noisy")
GOALS = {"A/A": ("fail", "at most", 0.02), "slower": ("fail", "at least", 0.98)}
NOISE = """
import os, random, time
import numpy as np

draw, matrix, parent = random.Random(), np.ones((1000, 1000), np.float32), os.getppid()
while os.getppid() == parent:  # whoever is killed leaves no noise behind
    end = time.perf_counter() + draw.expovariate(1 / 0.2)
    while time.perf_counter() < end:
        matrix @ matrix
    time.sleep(draw.expovariate(1 / 0.2))
"""


def make_bundles(place: Path) -> dict[str, Path]:
    """Export a small BERT of random weights for each number of layers, but for what is there already."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, set_seed

    bundles = {}
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    for name, layers in LAYERS.items():
        bundles[name] = place / name
        if bundles[name].exists():
            continue
        set_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH, id2label=LABELS, label2id={label: place for place, label in LABELS.items()},
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(place / "checkpoints" / name)
        tokenizer.save_pretrained(place / "checkpoints" / name)
        export_checkpoint(str(place / "checkpoints" / name), bundles[name], ExportConfig())
    return bundles


@contextmanager
def neighbour(machine: str) -> Iterator[None]:
    """Have a second process work in bursts where the machine is to be noisy."""
    if machine == "quiet":
        yield
        return
    with subprocess.Popen([sys.executable, "-c", NOISE]) as process:
        try:
            yield
        finally:
            process.kill()


def compare(bundles: Mapping[str, Path], machine: str, seed: int) -> list[dict[str, Any]]:
    """Run one benchmark, and return what its two gates found."""
    config = BenchmarkConfig(seed=seed, **CONFIG)
    start = time.perf_counter()
    with neighbour(machine):
        baseline, slower = str(bundles["baseline"]), str(bundles["slower"])
        report = BenchmarkRequest(candidates=[baseline, slower], baseline=baseline, data=DATA, config=config).run()
    seconds = time.perf_counter() - start
    return [
        {"seed": seed, "machine": machine, "kind": kind, "seconds": round(seconds, 2), **_found(report, place)}
        for place, kind in enumerate(GOALS)
    ]


def _found(report: BenchmarkReport, place: int) -> dict[str, Any]:
    gate, one = report.gates[place], report.candidates[place]
    return {
        "verdict": gate.verdict,
        "ratio": round(gate.value, 4),
        "interval": [round(bound, 4) for bound in gate.interval],
        "noise": [round(bound, 4) for bound in report.environment["noise"]["interval"]],
        "samples": len(one.latency[0].samples),
    }


def summarise(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Count verdicts for each machine and kind, with Wilson's interval of what the goal is about."""
    found = []
    for machine in MACHINES:
        for kind, (verdict, direction, goal) in GOALS.items():
            here = [one for one in comparisons if (one["machine"], one["kind"]) == (machine, kind)]
            if not here:
                continue
            rate = share(np.array([one["verdict"] == verdict for one in here]))
            found.append(
                {
                    "machine": machine,
                    "kind": kind,
                    "comparisons": len(here),
                    "verdicts": dict(Counter(one["verdict"] for one in here)),
                    "rate": rate.value,
                    "interval": rate.interval,
                    "goal": f"{verdict}: {direction} {goal}",
                    "reached": rate.value <= goal if direction == "at most" else rate.value >= goal,
                    "median_ratio": float(np.median([one["ratio"] for one in here])),
                }
            )
    return found


def save(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write what was found so far, and return its summary."""
    summary = summarise(comparisons)
    rows = "[\n  " + ",\n  ".join(map(json.dumps, comparisons)) + "\n ]"
    report = {"machine": this_machine().to_json(), "versions": versions(), "layers": LAYERS, "config": CONFIG,
              "summary": summary, "comparisons": "ROWS"}  # fmt: skip
    write_atomically(RESULT, json.dumps(report, indent=1).replace('"ROWS"', rows) + "\n")
    return summary


def earlier() -> list[dict[str, Any]]:
    """Return the comparisons of earlier calls; those of another configuration or machine belong to another file."""
    if not RESULT.exists():
        return []
    report = json.loads(RESULT.read_text())
    now = json.loads(json.dumps({"machine": this_machine().to_json(), "layers": LAYERS, "config": CONFIG}))
    if other := [name for name in now if report[name] != now[name]]:
        raise SystemExit(f"{RESULT} was made with another {', '.join(other)}; move it away to begin anew")
    found: list[dict[str, Any]] = report["comparisons"]
    return found


def main() -> None:
    """Go on until every machine has its runs, or the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="benchmarks on each of the two machines (default: 200)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many; go on next time")
    parser.add_argument("--bundles", type=Path, help="keep the bundles here, for the next call")
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    comparisons = earlier()
    done = Counter(one["machine"] for one in comparisons if one["kind"] == "A/A")
    with tempfile.TemporaryDirectory() as place:
        bundles = make_bundles(asked.bundles or Path(place))
        for seed in range(1, asked.runs + 1):
            for machine in MACHINES:
                if seed > done[machine] and time.monotonic() < end:
                    comparisons += compare(bundles, machine, seed)
                    save(comparisons)
    for one in summarise(comparisons):
        print(json.dumps(one))


if __name__ == "__main__":
    main()
