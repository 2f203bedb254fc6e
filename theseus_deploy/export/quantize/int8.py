"""fp32 -> int8 by onnxruntime's quantisers, with activations quantised as they come or by a calibration."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.export.onnx import strip_notes
from theseus_deploy.export.quantize.calibrate import Ranges
from theseus_deploy.export.quantize.graph import open_graph, outline
from theseus_deploy.export.quantize.receipt import Receipt, account, names_of
from theseus_deploy.export.quantize.scheme import INT8, LOOKUPS, PRODUCTS, Scheme, parts

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def to_int8(source: Path, target: Path, scheme: Scheme, ranges: Ranges | None = None) -> Receipt:
    """Write the int8 version of an fp32 graph, optimised by onnxruntime or not; `static` needs `ranges`.

    Raises:
        ExportError: something with a weight stayed fp32 that the scheme makes int8.
    """
    import onnx
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    model = open_graph(source)
    before = outline(model.graph)
    add_infer_metadata(model)  # else the quantisers write the model to a file and read it again, to infer its shapes
    with _root_logger_untouched():
        quantizer = QUANTIZERS[scheme.method](model, scheme, ranges or {})
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    strip_notes(model)
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return account(before, model.graph, scheme)


def _dynamic(model: "ModelProto", scheme: Scheme, ranges: Ranges) -> Any:
    """Make the quantiser that `quantize_dynamic` makes, which would hold the weights four times."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantizationMode, QuantType
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

    del ranges
    wanted = [name for node in _wanted(model, scheme) for name in names_of(node)]
    ONNXModel(model).replace_gemm_with_matmul()
    quantizer = ONNXQuantizer(
        model,
        scheme.per_channel,
        scheme.reduce_range,
        QuantizationMode.IntegerOps,
        True,
        QuantType.QInt8,
        QuantType.QUInt8,
        None,
        wanted,
        [],
        [*PRODUCTS, *LOOKUPS],
        {"DefaultTensorType": TensorProto.FLOAT},  # nobody inferred types, and all that it asks about are floats
    )
    quantizer.static = False  # said only now, since it would have copied the model and read it from a file again
    return quantizer


def _static(model: "ModelProto", scheme: Scheme, ranges: Ranges) -> Any:
    """Put pairs that quantise and dequantise around the parts, as `quantize_static` does, with ranges found before.

    Sums stay fp32, and so does what goes past a product: each has a pair of its own (`DedicatedQDQPair`), for a shared
    one would take the residual stream of the model through int8 too. Activations are unsigned and weights signed: x86
    multiplies these at once, and two signed ones three times more slowly (measured).
    """
    from onnx import TensorProto, helper
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    wanted = _wanted(model, scheme)
    nodes = [node for node in model.graph.node if node.name in wanted]
    activations = list(dict.fromkeys(_activation(node) for node in nodes))
    # Their types are said here: nobody could infer them behind an operator of onnxruntime's own.
    model.graph.value_info.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in activations)
    found = {name: ranges[name] for name in activations if name in ranges}
    return QDQQuantizer(
        model,
        scheme.per_channel,
        scheme.reduce_range,
        QuantType.QInt8,
        QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, found),
        [node.name for node in nodes],
        [],
        [*PRODUCTS, *LOOKUPS],
        {"OpTypesToExcludeOutputQuantization": list(PRODUCTS), "DedicatedQDQPair": True},
    )


QUANTIZERS: Mapping[str, Callable[["ModelProto", Scheme, Ranges], Any]] = {"dynamic": _dynamic, "static": _static}


def _wanted(model: "ModelProto", scheme: Scheme) -> set[str]:
    """Name the operators that are to be int8."""
    return {part.node for part in parts(model.graph) if scheme.fate(part) == INT8}


def _activation(node: "NodeProto") -> str:
    """Name what a part takes or, where it looks something up, gives."""
    name: str = node.output[0] if node.op_type in LOOKUPS else node.input[0]
    return name


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """Give the root logger a handler for a while: the quantiser calls `logging.info`, which would install one."""
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)
