"""How fast is int8? BERT-base, 6 layers, random weights: graphs, onnxruntime's settings and OpenVINO, at three shapes.

    .venv/bin/python benchmarks/int8_speed.py FOLDER          # bundles are made in FOLDER, unless they are there
    .venv/bin/python benchmarks/int8_speed.py FOLDER --make   # and nothing is measured

Everything is a bundle, so that the benchmark's own rounds time it: one process each, one at work at a time, in random
order. Ratios are to a graph made by hand, `quantize_dynamic(export)`. Writes `benchmarks/results/int8_speed.json`.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import quantize_dynamic
from transformers import BertConfig, BertForSequenceClassification, set_seed

from benchmarks.int8_graphs import (
    fused_attention,
    one_product_for_qkv,
    products_with_biases,
    skip_norm,
    without_zero_points,
)
from theseus_deploy.artifact import Artifact, Draft
from theseus_deploy.benchmark.latency import measure, summarise
from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import Shape
from theseus_deploy.configs import BenchmarkConfig, ExportConfig
from theseus_deploy.data import open_data
from theseus_deploy.disk import write_atomically
from theseus_deploy.export.quantize.calibrate import calibrate
from theseus_deploy.export.quantize.int8 import to_int8
from theseus_deploy.export.quantize.scheme import Scheme
from theseus_deploy.export.quantize.tournament import SETTINGS
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.machine import this_machine, usable_cores, versions
from theseus_deploy.manifest import Manifest
from theseus_deploy.models.checkpoint import open_checkpoint, save_checkpoint
from theseus_deploy.predictor import SESSION, Predictor
from theseus_deploy.progress import SILENT
from theseus_deploy.splits import Split

RESULT = Path(__file__).resolve().parent / "results" / "int8_speed.json"
SHAPES = (Shape(1, 32), Shape(1, 128), Shape(8, 128))
SECONDS = 45.0  # a shape
LAYERS, HEADS, WIDTH = 6, 12, 768
DATA, ROWS = "demo:tweets", 32
DYNAMIC, STATIC = Scheme("dynamic", reduce_range=False), Scheme("static", reduce_range=False)
BASELINE = "made by hand"
APART = "activations quantised apart"
Rewrite = Callable[[onnx.ModelProto], onnx.ModelProto]


@dataclass(frozen=True)
class Candidate:
    """A graph (rewritten, then quantised by a scheme; None leaves it fp32), settings, and a runtime."""

    scheme: Scheme | None
    rewrite: Rewrite | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    runtime: str = "onnxruntime"
    after: Rewrite | None = None


ATTENTION = partial(fused_attention, heads=HEADS, contrib=False)
MULTI_HEAD = partial(fused_attention, heads=HEADS, contrib=True)
QKV = partial(one_product_for_qkv, heads=HEADS)
SKIP = partial(skip_norm, heads=HEADS, width=WIDTH)
CANDIDATES: Mapping[str, Candidate] = {
    BASELINE: Candidate(None),  # see `make`
    "fp32": Candidate(None),
    "dynamic": Candidate(DYNAMIC),
    "dynamic, per tensor": Candidate(Scheme("dynamic", False, per_channel=False)),
    "static": Candidate(STATIC),
    **{f"dynamic, {name}": Candidate(DYNAMIC, settings=entries) for name, entries in SETTINGS.items()},
    "dynamic, one product for QKV": Candidate(DYNAMIC, QKV, SETTINGS[APART]),
    "dynamic, Attention of opset 23": Candidate(DYNAMIC, ATTENTION, SETTINGS[APART]),
    "dynamic, MultiHeadAttention": Candidate(DYNAMIC, MULTI_HEAD, SETTINGS[APART]),
    "dynamic, SkipLayerNormalization": Candidate(DYNAMIC, SKIP, SETTINGS[APART]),
    "dynamic, no zero points": Candidate(DYNAMIC, None, SETTINGS[APART], after=without_zero_points),
    "static, biases in the products": Candidate(STATIC, products_with_biases),
    "static, OpenVINO": Candidate(STATIC, runtime="openvino"),
    "dynamic, OpenVINO": Candidate(DYNAMIC, runtime="openvino"),
}


def make(place: Path) -> None:
    """Write the model, its fp32 bundle, and a bundle for each candidate, those that are there already excepted."""
    fp32 = place / "export"
    if not Artifact.exists(fp32):
        set_seed(0)
        model = BertForSequenceClassification(BertConfig(num_hidden_layers=LAYERS))
        save_checkpoint(model, open_checkpoint("demo:minilm").tokenizer(), place / "checkpoint")
        export_checkpoint(str(place / "checkpoint"), fp32, ExportConfig())
    source, predictor = fp32 / "model.onnx", Predictor(fp32)
    rows = [predictor.encode([row]) for row in open_data(DATA).for_calibration().sample(ROWS).texts]
    for name, candidate in CANDIDATES.items():
        if Artifact.exists(folder := place / name):
            continue
        with Artifact.writing(folder) as draft:
            shutil.copy(fp32 / "tokenizer.json", draft.path)
            graph = draft.path / "model.onnx"
            rewritten = onnx.load(source)
            onnx.save(candidate.rewrite(rewritten) if candidate.rewrite else rewritten, graph)
            if name == BASELINE:
                quantize_dynamic(source, graph)
            elif candidate.scheme:
                ranges = calibrate(graph, rows, usable_cores()) if candidate.scheme.method == "static" else None
                to_int8(graph, graph, candidate.scheme, ranges)
            if candidate.after:
                onnx.save(candidate.after(onnx.load(graph)), graph)
            _finish(draft, predictor, candidate)
        print(name, flush=True)


def _finish(draft: Draft, predictor: Predictor, candidate: Candidate) -> None:
    receipt = {SESSION: dict(candidate.settings)}
    draft.finish(
        Manifest("bundle", "export", {}, None, None, predictor.task, parameters=0, layers=LAYERS, receipt=receipt)
    )


def measure_all(place: Path) -> None:
    """Time all candidates at each shape, and write what was found."""
    texts = [row for row in open_data(DATA).for_scoring().texts if row[0]][:256]
    split = Split(DATA, texts, [""] * len(texts))
    config = BenchmarkConfig(min_samples=15, max_seconds=SECONDS)
    truth = Predictor(place / "export").logits(texts[:ROWS])
    found = []
    with ExitStack() as stack:
        workers = []
        for name, candidate in CANDIDATES.items():
            worker = stack.enter_context(Worker(name, usable_cores()))
            worker.ask(
                "load", runtime=candidate.runtime, path=str(place / name), ref=name, max_length=512,
                threads=usable_cores(), device="cpu",
            )  # fmt: skip
            workers.append(worker)
        timings = [measure(workers, BASELINE, shape, split, config, SECONDS, {}, SILENT) for shape in SHAPES]
    for name, candidate in CANDIDATES.items():
        shapes = [summarise(one, name, BASELINE, config.seed) for one in timings]
        logits = Predictor(place / name).logits(texts[:ROWS])
        found.append({
            "name": name, "runtime": candidate.runtime, "session": dict(candidate.settings),
            "mean_abs_diff_to_fp32": float(np.abs(logits - truth).mean()),
            "shapes": [{
                "batch": one.batch, "sequence": one.sequence, "p50_seconds": one.p50, "p95_seconds": one.p95,
                "rounds": one.rounds, "samples": len(one.samples),
                "ratio": {"p50": one.ratio.p50, "interval": list(one.ratio.interval)},
            } for one in shapes],
        })  # fmt: skip
        times = "  ".join(f"{1000 * one.p50:7.2f} ms {one.ratio.p50:.2f}" for one in shapes)
        print(f"{name:40} {times}", flush=True)
    report = {
        "model": f"BERT-base, {LAYERS} layers, random weights", "machine": this_machine().to_json(),
        "versions": versions(), "threads": usable_cores(), "baseline": BASELINE, "candidates": found,
    }  # fmt: skip
    write_atomically(RESULT, json.dumps(report, indent=1) + "\n")


def main() -> None:
    """Make the bundles, then measure them."""
    place = Path(sys.argv[1])
    make(place)
    if "--make" not in sys.argv:
        measure_all(place)


if __name__ == "__main__":
    main()
