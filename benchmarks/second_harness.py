"""Do the ratios of `theseus benchmark` hold for a harness that shares no code with it?

    .venv/bin/python benchmarks/second_harness.py

MiniLM with a head that has not learned, its lower half as the successor, and their bundles, one input of the tweets at
a time. `theseus benchmark` measures them; then plain scripts do, of which each tokenises as its users would, has a
process of its own, and is asked for blocks of inputs in random turns. Writes `benchmarks/results/second_harness.json`.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from theseus_deploy.benchmark.stage import BenchmarkRequest
from theseus_deploy.builtin import minilm
from theseus_deploy.configs import BenchmarkConfig, ExportConfig
from theseus_deploy.data import open_data
from theseus_deploy.disk import write_atomically
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.machine import this_machine, versions

RESULT = Path(__file__).resolve().parent / "results" / "second_harness.json"
DATA, THREADS, MAX_LENGTH = "demo:tweets", 2, 128
LABELS = {0: "negative", 1: "neutral", 2: "positive"}
ROWS, BLOCK, WARM = 400, 8, 40
SETTLE = 0.15  # seconds: threads of whoever was asked before may spin for as long, on cores that others need
CONFIG = BenchmarkConfig(batch=(1,), threads=THREADS, max_rows=ROWS, max_seconds=60.0, reference=False)
GOAL = 0.10
CHECKPOINTS = {"predecessor": 6, "successor": 3}  # and their layers

TORCH = """
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.set_num_threads(threads)
tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForSequenceClassification.from_pretrained(path).eval()

def answer(text):
    with torch.inference_mode():
        return model(**tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")).logits.numpy()
"""
ONNX = """
import numpy
import onnxruntime
from tokenizers import Tokenizer

tokenizer, options = Tokenizer.from_file(path + "/tokenizer.json"), onnxruntime.SessionOptions()
tokenizer.no_padding()
tokenizer.enable_truncation(longest)
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(path + "/model.onnx", options, providers=["CPUExecutionProvider"])
names = [node.name for node in session.get_inputs()]

def answer(text):
    found = tokenizer.encode(text)
    fields = {"input_ids": found.ids, "attention_mask": found.attention_mask, "token_type_ids": found.type_ids}
    return session.run(None, {name: numpy.array([fields[name]], dtype=numpy.int64) for name in names})
"""
HEAD = """
import json, sys, time
path, threads, longest, settle = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
"""
LOOP = """
for line in sys.stdin:
    texts, seconds, end = json.loads(line), [], time.perf_counter() + settle
    while time.perf_counter() < end:
        answer(texts[0])
    for text in texts:
        start = time.perf_counter()
        answer(text)
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds), flush=True)
"""


def make(place: Path) -> dict[str, Path]:
    """Write the checkpoints and their bundles; the predecessor is first."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

    found = {}
    for name, layers in CHECKPOINTS.items():
        set_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(
            minilm(),
            num_hidden_layers=layers,
            id2label=LABELS,
            label2id={name: place for place, name in LABELS.items()},
        )
        found[name] = place / name
        model.save_pretrained(found[name])
        AutoTokenizer.from_pretrained(minilm()).save_pretrained(found[name])
    exports = {"fp32": ExportConfig(), "int8": ExportConfig(quantize="dynamic")}
    for name in CHECKPOINTS:
        for title, config in exports.items():
            found[f"{name}-{title}"] = place / f"{name}-{title}"
            export_checkpoint(str(found[name]), found[f"{name}-{title}"], config)
    return found


def by_theseus(candidates: Mapping[str, Path]) -> dict[str, tuple[float, tuple[float, float]]]:
    """Return each candidate's ratio to the first and its interval, as `theseus benchmark` finds them."""
    baseline, *others = map(str, candidates.values())
    report = BenchmarkRequest(candidates=others, baseline=baseline, data=DATA, config=CONFIG).run()
    ratios = (one.latency[0].ratio for one in report.candidates)
    return {name: (ratio.p50, ratio.interval) for name, ratio in zip(list(candidates)[1:], ratios, strict=True)}


def by_scripts(candidates: Mapping[str, Path]) -> dict[str, float]:
    """Return each candidate's median seconds an input, as plain scripts find them."""
    texts = [text for (text,) in open_data(DATA).for_scoring().texts[:ROWS]]
    draw, taken = random.Random(1), {name: list[float]() for name in candidates}
    with ExitStack() as stack:
        processes = {}
        for name, path in candidates.items():
            script = HEAD + (ONNX if (path / "model.onnx").exists() else TORCH) + LOOP
            command = [sys.executable, "-c", script, str(path), str(THREADS), str(MAX_LENGTH), str(SETTLE)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes[name] = stack.enter_context(process)
            stack.callback(process.kill)

        def ask(name: str, block: list[str]) -> list[float]:
            process = processes[name]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(block) + "\n")
            process.stdin.flush()
            seconds: list[float] = json.loads(process.stdout.readline())
            return seconds

        for name in candidates:
            ask(name, texts[:WARM])
        for first in range(0, len(texts), BLOCK):
            for name in draw.sample(list(candidates), len(candidates)):
                taken[name] += ask(name, texts[first : first + BLOCK])
    return {name: median(seconds) for name, seconds in taken.items()}


def main() -> None:
    """Measure in both ways, and write what was found."""
    with tempfile.TemporaryDirectory() as place:
        candidates = make(Path(place))
        ours, seconds = by_theseus(candidates), by_scripts(candidates)
    base, rows = seconds[next(iter(candidates))], []
    for name, (ratio, interval) in ours.items():
        theirs = seconds[name] / base
        difference = ratio / theirs - 1
        rows.append({"name": name, "theseus": ratio, "interval": interval, "scripts": theirs, "difference": difference})
        print(f"{name:18} {ratio:.4f} {theirs:.4f} {100 * difference:+.1f} %")
    report = {"model": f"all-MiniLM-L6-v2, {len(LABELS)} labels", "data": DATA, "machine": this_machine().to_json(),
              "versions": versions(), "config": CONFIG.to_json(), "goal": GOAL, "seconds": seconds,
              "ratios": rows}  # fmt: skip
    write_atomically(RESULT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
