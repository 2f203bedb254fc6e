"""How soon does a new process answer, and how much memory does it take? MiniLM, from process start to the first answer.

    .venv/bin/python benchmarks/cold_start.py [ROUNDS]

Every round starts each contender once, in random order, in a process of its own; a first round that fills the disk
cache is not counted. The bundle is int8; transformers reads the checkpoint it was made from. Writes
`benchmarks/results/cold_start.json`.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from theseus_deploy.disk import write_atomically
from theseus_deploy.machine import this_machine, versions

RESULT = Path(__file__).resolve().parent / "results" / "cold_start.json"
ROUNDS, TEXT = 15, "what a day"

MAKE = """
import sys
from pathlib import Path
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
from theseus_deploy.builtin import minilm
from theseus_deploy.configs import ExportConfig
from theseus_deploy.export.stage import export_checkpoint

checkpoint, bundle = map(Path, sys.argv[1:])
set_seed(0)
AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=3).save_pretrained(checkpoint)
AutoTokenizer.from_pretrained(minilm()).save_pretrained(checkpoint)
export_checkpoint(str(checkpoint), bundle, ExportConfig(quantize="dynamic"))
"""
BARE = """
import sys
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"])
encoded = tokenizer.encode(sys.argv[2])
fields = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
print(session.run(["logits"], {node.name: np.array([fields[node.name]]) for node in session.get_inputs()}), flush=True)
"""
PREDICTOR = """
import sys
from theseus_deploy.predictor import Predictor

print(Predictor(sys.argv[1]).predict([sys.argv[2]]), flush=True)
"""
PIPELINE = """
import sys
from transformers import pipeline

print(pipeline("text-classification", sys.argv[1])(sys.argv[2]), flush=True)
"""


def contenders(bundle: Path, checkpoint: Path) -> dict[str, list[str]]:
    """Return the command line of each."""
    return {
        "bare script": ["-c", BARE, str(bundle), TEXT],
        "Predictor": ["-c", PREDICTOR, str(bundle), TEXT],
        "theseus predict": ["-m", "theseus_deploy_cli.main", "predict", str(bundle), TEXT],
        "transformers pipeline": ["-c", PIPELINE, str(checkpoint), TEXT],
    }


def measure(words: list[str]) -> tuple[float, int]:
    """Start Python with these words, and return seconds to the first line on stdout, and peak memory in bytes."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    answer = process.stdout.readline()
    seconds = time.perf_counter() - start
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    if status or not answer:
        raise SystemExit(f"{words[:2]} ended with status {status} and answered {answer!r}")
    return seconds, usage.ru_maxrss * 1024


def main() -> None:
    """Make the model, measure every contender, and write what was found."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    draw, samples = random.Random(1), list[dict[str, tuple[float, int]]]()
    with tempfile.TemporaryDirectory() as place:
        checkpoint, bundle = Path(place, "checkpoint"), Path(place, "bundle")
        command = [sys.executable, "-c", MAKE, str(checkpoint), str(bundle)]
        subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
        commands = contenders(bundle, checkpoint)
        for _ in range(1 + rounds):
            samples.append({name: measure(commands[name]) for name in draw.sample(sorted(commands), len(commands))})
    del samples[0]
    found = []
    for name in commands:
        seconds, peaks = zip(*(one[name] for one in samples), strict=True)
        found.append(
            {
                "name": name,
                "seconds": {"median": median(seconds), "spread": [min(seconds), max(seconds)]},
                "peak_rss_bytes": {"median": median(peaks), "spread": [min(peaks), max(peaks)]},
                "samples": seconds,
            }
        )
        print(
            f"{name:22} {median(seconds):6.3f} s [{min(seconds):.3f}, {max(seconds):.3f}] {median(peaks) / 1e6:6.0f} MB"
        )
    report = {"model": "all-MiniLM-L6-v2, 3 labels, int8-dynamic", "machine": this_machine().to_json(),
              "versions": versions(), "rounds": rounds, "contenders": found}  # fmt: skip
    write_atomically(RESULT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
