"""What does `theseus export` cost? Seconds and peak memory for a BERT-base, 12 layers, random weights.

    .venv/bin/python benchmarks/export_cost.py

Every run is a process of its own. Goals: below 40 seconds, and 3 times the model's size in memory beyond what the
imports take. Writes `benchmarks/results/export_cost.json`.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from theseus_deploy.disk import write_atomically
from theseus_deploy.machine import this_machine, usable_cores, versions

RESULT = Path(__file__).resolve().parent / "results" / "export_cost.json"
QUANTIZE = ("none", "dynamic")
ROUNDS = 1
SECONDS, MEMORY = 40.0, 3.0  # the goals
CHECKPOINT = """
import sys
from pathlib import Path
from transformers import BertConfig, BertForSequenceClassification, set_seed
from theseus_deploy.models.checkpoint import open_checkpoint, save_checkpoint

set_seed(0)
save_checkpoint(
    BertForSequenceClassification(BertConfig()), open_checkpoint("demo:minilm").tokenizer(), Path(sys.argv[1])
)
"""


def measure_here(checkpoint: str, out: str, quantize: str) -> None:
    """Export, and print seconds and peak memory, of which `imports` is what loading the libraries took."""
    import onnxruntime
    import torch
    import transformers

    from theseus_deploy.benchmark.worker import peak_rss
    from theseus_deploy.configs import ExportConfig
    from theseus_deploy.export.stage import export_checkpoint

    del onnxruntime, torch, transformers
    imports, start = peak_rss(), time.perf_counter()
    config = ExportConfig.from_mapping({"quantize": quantize}, "export_cost")
    export_checkpoint(checkpoint, Path(out), config, overwrite=True, progress=_Clock(start))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "imports_rss_bytes": imports, "peak_rss_bytes": peak_rss()}))


class _Clock:
    """Say on stderr when each step began and how much memory there had been."""

    def __init__(self, start: float) -> None:
        self.start = start

    def say(self, message: str) -> None:
        """Print a message with the time and the memory."""
        from theseus_deploy.benchmark.worker import peak_rss

        print(f"  {time.perf_counter() - self.start:6.1f} s {peak_rss() / 1e6:6.0f} MB  {message}", file=sys.stderr)

    def track(self, title: str, total: int) -> Any:
        """Begin a piece of work."""
        from theseus_deploy.progress import SILENT

        self.say(title)
        return SILENT.track(title, total)


def main() -> None:
    """Measure every kind of export, in turn, and write what was found."""
    with TemporaryDirectory() as place:
        checkpoint = Path(place) / "checkpoint"
        subprocess.run([sys.executable, "-c", CHECKPOINT, str(checkpoint)], stderr=subprocess.DEVNULL, check=True)
        size = (checkpoint / "model.safetensors").stat().st_size
        runs: dict[str, list[dict[str, float]]] = {quantize: [] for quantize in QUANTIZE}
        for _ in range(ROUNDS):
            for quantize, done in runs.items():
                command = [sys.executable, __file__, "--here", str(checkpoint), str(Path(place) / quantize), quantize]
                done.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    found = []
    for quantize, done in runs.items():
        seconds = median(run["seconds"] for run in done)
        beyond = median(run["peak_rss_bytes"] - run["imports_rss_bytes"] for run in done) / size
        found.append({"quantize": quantize, "seconds": seconds, "memory_in_models": beyond, "runs": done})
        print(f"{quantize:8} {seconds:5.1f} s, {beyond:.2f} models of memory beyond the imports")
    report = {
        "model": "BERT-base, 12 layers, random weights", "model_bytes": size, "machine": this_machine().to_json(),
        "versions": versions(), "threads": usable_cores(), "rounds": ROUNDS,
        "goals": {"seconds": SECONDS, "memory_in_models": MEMORY}, "exports": found,
    }  # fmt: skip
    write_atomically(RESULT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    measure_here(*sys.argv[2:]) if "--here" in sys.argv else main()
