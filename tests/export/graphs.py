"""What tests of quantised graphs share: ranges, answers, and graphs that onnxruntime has optimised."""

from pathlib import Path

import numpy as np
import onnxruntime

from theseus_deploy.export.parity import builtin_texts
from theseus_deploy.export.quantize.calibrate import Ranges, calibrate
from theseus_deploy.export.quantize.scheme import Scheme
from theseus_deploy.machine import this_machine
from theseus_deploy.predictor import Predictor

REDUCED = not this_machine().native_int8  # 8 bits would saturate, and the answers be another CPU's
STATIC, DYNAMIC = (Scheme(method, reduce_range=REDUCED) for method in ("static", "dynamic"))
LEVELS = {
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
}


def texts_of(predictor: Predictor, count: int = 48) -> list[tuple[str, ...]]:
    return builtin_texts(predictor.task)[:count]


def ranges_of(bundle: Path, graph: Path | None = None) -> Ranges:
    predictor = Predictor(bundle, threads=1)
    rows = (predictor.encode([text]) for text in texts_of(predictor))
    return calibrate(graph or bundle / "model.onnx", rows, threads=1)


def optimised(graph: Path, out: Path, level: onnxruntime.GraphOptimizationLevel) -> Path:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.optimized_model_filepath = level, str(out)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return out


def answers(bundle: Path, graph: Path) -> np.ndarray:
    """Ask a graph with the tokenizer of a bundle."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    predictor = Predictor(bundle, threads=1, load=lambda *_: session)
    return predictor.logits(texts_of(predictor))
