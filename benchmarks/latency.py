"""How fast is what `theseus` makes, beside the original and beside another's route? BERT-base and MiniLM on CPU.

    python benchmarks/latency.py [--model bert-base] [--peer .venv-interop/bin/python] [--max-seconds 240]

BERT-base has 12 layers of random weights, which serve for latency as any others do, and its successor the bottom 6 of
them; MiniLM has 6 and 3. Both answer with three labels to the tweets of `demo:tweets`. Each is measured by `theseus
benchmark`: one process a candidate, interleaved rounds; once with bundles in onnxruntime, once in OpenVINO. With
`--peer`, an environment of optimum-onnx (`make interop` makes one), the peer's export and dynamic quantisation of the
original take part too, behind our predictor. `pipeline` times batches of tweets as users would: the transformers
pipeline padded to 128 tokens, and our predictor on the int8 successor, in processes that take turns.

Ratios are medians of ratios batch by batch, with 95 % intervals. Writes `benchmarks/results/latency.json`, a model at a
time, so that it can be run for one and then for the other.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from theseus_deploy.artifact import Artifact
from theseus_deploy.benchmark.report import BenchmarkReport, Candidate
from theseus_deploy.benchmark.stage import BenchmarkRequest
from theseus_deploy.benchmark.stats import Estimate, median_ratio
from theseus_deploy.compress.modules import truncate
from theseus_deploy.configs import BenchmarkConfig, ExportConfig
from theseus_deploy.data import open_data
from theseus_deploy.disk import write_atomically
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.models.checkpoint import open_checkpoint, save_checkpoint
from theseus_deploy.tasks import Task
from theseus_deploy_cli.console import progress as choose_progress

RESULT = Path(__file__).resolve().parent / "results" / "latency.json"
DATA = "demo:tweets"
BATCHES, SEQUENCES = (1, 8), (32, 128)
SHAPES = [(batch, sequence) for batch in BATCHES for sequence in ("data", *SEQUENCES)]
TASK = Task("single-label", ("negative", "neutral", "positive"), ("text",), "sentiment", 128)
ROUNDS, BATCH = 12, 32  # of `pipeline`; a round is one batch for each
# The goals of the project for BERT-base at batch 1 and 128 tokens: how many times as fast the int8 successor is.
GOALS = {
    ("predecessor", "torch"): 13.0,
    ("predecessor-fp32", "onnxruntime"): 5.0,
    ("predecessor-int8", "onnxruntime"): 1.9,
}
SIZE_GOAL, PIPELINE_GOAL = 6.4, 15.0

PEER = """
import sys
from pathlib import Path
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig

checkpoint, fp32, int8 = sys.argv[1:]
ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True).save_pretrained(fp32)
scheme = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
ORTQuantizer.from_pretrained(fp32).quantize(save_dir=int8, quantization_config=scheme)
Path(int8, "model_quantized.onnx").rename(Path(int8, "model.onnx"))
"""
PIPELINE = """
import json, sys, time
import torch
from transformers import pipeline

torch.set_num_threads(int(sys.argv[3]))
ask = pipeline("text-classification", sys.argv[1], device="cpu")
for line in sys.stdin:
    texts = json.loads(line)
    start = time.perf_counter()
    ask(texts, batch_size=len(texts), padding="max_length", truncation=True, max_length=int(sys.argv[2]))
    print(time.perf_counter() - start, flush=True)
"""
PREDICTOR = """
import json, sys, time
from theseus_deploy.predictor import Predictor

ask = Predictor(sys.argv[1], int(sys.argv[3])).predict
for line in sys.stdin:
    texts = json.loads(line)
    start = time.perf_counter()
    ask(texts)
    print(time.perf_counter() - start, flush=True)
"""


def main() -> None:
    """Make the models, measure them, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("bert-base", "minilm"), action="append", help="both by default")
    parser.add_argument("--peer", type=Path, help="a Python that has optimum-onnx")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-seconds", type=float, default=240.0, help="of timing, for each of two reports a model")
    arguments = parser.parse_args()
    for name in arguments.model or ("bert-base", "minilm"):
        with TemporaryDirectory() as place:
            found = measure(name, Path(place), arguments)
        known = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
        write_atomically(RESULT, json.dumps({**known, name: found}, indent=1) + "\n")


def measure(name: str, place: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what was found of one model."""
    progress = choose_progress(quiet=False)
    original, successor = checkpoints(name, place)
    bundles = []
    for checkpoint in (original, successor):
        for quantize, precision in (("none", "fp32"), ("dynamic", "int8")):
            bundles.append(place / f"{checkpoint.name}-{precision}")
            quantised = ExportConfig.from_mapping({"quantize": quantize, "threads": arguments.threads}, "latency")
            export_checkpoint(str(checkpoint), bundles[-1], quantised, progress=progress)
    peers = peer_bundles(arguments.peer, original, bundles[0], place) if arguments.peer else []
    reports = []
    for runtime, folders in (("auto", [successor, *bundles, *peers]), ("openvino", bundles)):
        config = BenchmarkConfig.from_mapping(
            {
                "batch": BATCHES, "sequence": SEQUENCES, "runtime": runtime, "threads": arguments.threads,
                "bf16": runtime == "auto", "max_seconds": arguments.max_seconds, "max_rows": 64, "reference": False,
            },
            "latency",
        )  # fmt: skip
        asked = BenchmarkRequest(candidates=list(map(str, folders)), baseline=str(original), data=DATA, config=config)
        reports.append(asked.run(progress))
    timed, ours = reports[0], find(reports[0], "successor-int8", "onnxruntime")
    return {
        "environments": [report.environment for report in reports],
        "candidates": [row(one, report) for report in reports for one in (report.baseline, *report.candidates)],
        "speedups": [
            {"of": f"{other} ({runtime})", **speedup(ours, find(timed, other, runtime), (1, 128)), "goal": goal}
            for (other, runtime), goal in GOALS.items()
        ],
        "size": {"value": timed.baseline.bytes / ours.bytes, "goal": SIZE_GOAL},
        "pipeline": {**pipeline(original, bundles[-1], arguments.threads), "goal": PIPELINE_GOAL},
    }


def checkpoints(name: str, place: Path) -> tuple[Path, Path]:
    """Write the original and its successor, which has half of its layers."""
    from transformers import BertConfig, BertForSequenceClassification, set_seed

    set_seed(0)
    start = open_checkpoint("demo:minilm")
    labels = dict(enumerate(TASK.labels))
    model = BertForSequenceClassification(BertConfig(id2label=labels)) if name == "bert-base" else start.fresh(TASK, 0)
    save_checkpoint(model, start.tokenizer(), place / "predecessor")
    save_checkpoint(truncate(model, range(model.config.num_hidden_layers // 2)), start.tokenizer(), place / "successor")
    return place / "predecessor", place / "successor"


def peer_bundles(python: Path, checkpoint: Path, ours: Path, place: Path) -> list[Path]:
    """Export and quantise with optimum-onnx; its graphs stand in bundles of ours, so that one predictor asks all."""
    made = [place / "optimum-fp32", place / "optimum-int8"]
    subprocess.run([str(python), "-c", PEER, str(checkpoint), *map(str, made)], check=True)
    bundles = []
    for graph, precision in zip(made, ("fp32", "int8-dynamic"), strict=True):
        bundle = place / f"peer-{graph.name}"
        manifest = Artifact.open(ours).manifest
        with Artifact.writing(bundle, overwrite=False) as draft:
            for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
                shutil.copy(ours / name, draft.path)
            shutil.copy(graph / "model.onnx", draft.path)
            draft.finish(replace(manifest, precision=precision))
        bundles.append(bundle)
    return bundles


def find(report: BenchmarkReport, name: str, runtime: str) -> Candidate:
    """Find a candidate by its folder's name."""
    everyone = (report.baseline, *report.candidates)
    return next(one for one in everyone if Path(one.path).name == name and one.runtime == runtime)


def row(one: Candidate, report: BenchmarkReport) -> dict[str, Any]:
    """Return what the table shows of a candidate."""
    return {
        "name": Path(one.path).name,
        "runtime": one.runtime,
        "precision": one.precision,
        "bytes": one.bytes,
        "p50_seconds": {shown(shape): one.at(*shape).p50 for shape in SHAPES},
        "ratio": {shown(shape): estimate(ratio(one, report.baseline, shape)) for shape in SHAPES},
        "samples": {shown(shape): int(np.size(one.at(*shape).samples)) for shape in SHAPES},
    }


def ratio(one: Candidate, other: Candidate, shape: tuple[int, int | str]) -> Estimate:
    """Compare two candidates batch by batch, which answered the same batches in the same rounds."""
    ours, theirs = (np.reshape(found.samples, (found.rounds, -1)) for found in (one.at(*shape), other.at(*shape)))
    return median_ratio(ours, theirs, seed=0)


def speedup(one: Candidate, other: Candidate, shape: tuple[int, int | str]) -> dict[str, Any]:
    """Say how many times as fast one is as the other."""
    return estimate(ratio(other, one, shape))


def pipeline(checkpoint: Path, bundle: Path, threads: int) -> dict[str, Any]:
    """Time batches of tweets in the transformers pipeline and in our predictor, in turn."""
    texts = [text for (text,) in open_data(DATA).for_scoring().texts[: (ROUNDS + 2) * BATCH]]
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    asked = [(PIPELINE, checkpoint), (PREDICTOR, bundle)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder), str(TASK.max_length), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for script, folder in asked
    ]  # fmt: skip
    try:
        seconds = [[ask(worker, batch) for worker in workers] for batch in batches][2:]  # the first two warm up
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    theirs, ours = (np.array(column)[:, None] for column in zip(*seconds, strict=True))
    return {
        "batch": BATCH,
        "max_length": TASK.max_length,
        "rounds": len(seconds),
        "transformers_seconds": float(np.median(theirs)),
        "predictor_seconds": float(np.median(ours)),
        **estimate(median_ratio(theirs, ours, seed=0)),
    }


def ask(worker: "subprocess.Popen[str]", texts: Sequence[str]) -> float:
    """Have a batch answered, and return how long it took."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(json.dumps(texts) + "\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def shown(shape: tuple[int, int | str]) -> str:
    """Name a shape."""
    return f"{shape[0]}x{shape[1]}"


def estimate(found: Estimate) -> dict[str, Any]:
    """Return a ratio and its interval."""
    return {"value": found.value, "interval": list(found.interval)}


if __name__ == "__main__":
    main()
