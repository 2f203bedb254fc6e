"""fp32 -> fp16, for GPUs: half the memory, and products on their tensor cores."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from theseus_deploy.errors import ExportError
from theseus_deploy.export.onnx import strip_notes
from theseus_deploy.export.quantize.scheme import PRODUCTS

FP16 = "fp16"
BLOCKED = "fp32: the operator has no kernel for fp16, so that casts stand around it"


def to_fp16(source: Path, target: Path) -> dict[str, Any]:
    """Write the fp16 version of an fp32 graph, and return the `quantization` object of the manifest's receipt.

    Inputs and outputs keep their types. Numbers beyond fp16 become the nearest that it holds: the lowest float32,
    with which a mask hides padding, is -65504 then.

    Raises:
        ExportError: a product with a weight stayed fp32.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    strip_notes(model)
    onnx.checker.check_model(model)
    onnx.save(model, target)
    kinds = {onnx.TensorProto.FLOAT16: FP16, onnx.TensorProto.FLOAT: BLOCKED}
    fates = {tensor.name: kinds[tensor.data_type] for tensor in model.graph.initializer if tensor.data_type in kinds}
    operators: dict[str, Counter[str]] = defaultdict(Counter)
    for node in model.graph.node:
        if used := {fates[name] for name in node.input if name in fates}:
            operators[node.op_type][max(used)] += 1  # fp32 where there is any
    if silent := sum(operators[name][BLOCKED] for name in PRODUCTS):
        raise ExportError(f"{silent} products with a weight stayed fp32, and none may; export with --quantize none")
    weights: dict[str, list[str]] = defaultdict(list)
    for name in sorted(fates):
        weights[fates[name]].append(name)
    counted = {name: dict(operators[name]) for name in sorted(operators) if operators[name]}
    return {"method": FP16, "operators": counted, "weights": dict(weights)}
