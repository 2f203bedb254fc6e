"""fp32 -> int8 by onnxruntime's quantisers, with activations quantised as they come or by a calibration."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from theseus_deploy.export.onnx import strip_notes
from theseus_deploy.export.quantize.calibrate import Ranges
from theseus_deploy.export.quantize.graph import open_graph, outline
from theseus_deploy.export.quantize.receipt import Receipt, account, names_of
from theseus_deploy.export.quantize.scheme import INT8, LOOKUPS, PRODUCTS, Scheme, parts

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Write = Callable[["ModelProto", Path, Scheme, Ranges], None]


def to_int8(source: Path, target: Path, scheme: Scheme, ranges: Ranges | None = None) -> Receipt:
    """Write the int8 version of an fp32 graph, optimised by onnxruntime or not; `static` needs `ranges`.

    Raises:
        ExportError: something with a weight stayed fp32 that the scheme makes int8.
    """
    import onnx
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = open_graph(source)
    before = outline(model.graph)
    add_pre_process_metadata(model)  # else the quantiser advises to do what is done already
    with _root_logger_untouched():
        WRITERS[scheme.method](model, target, scheme, ranges or {})
    quantised = onnx.load(target)
    strip_notes(quantised)
    onnx.checker.check_model(quantised)
    onnx.save(quantised, target)
    return account(before, quantised.graph, scheme)


def _write_dynamic(model: "ModelProto", target: Path, scheme: Scheme, ranges: Ranges) -> None:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    del ranges
    excluded = [name for part in parts(model.graph) if scheme.fate(part) != INT8 for name in names_of(part.node)]
    quantize_dynamic(
        model,
        target,
        op_types_to_quantize=[*PRODUCTS, *LOOKUPS],
        nodes_to_exclude=excluded,
        per_channel=scheme.per_channel,
        reduce_range=scheme.reduce_range,
        weight_type=QuantType.QInt8,
        # An optimised graph has operators whose results onnx knows no type of; all that are asked about are floats.
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
    )


def _write_static(model: "ModelProto", target: Path, scheme: Scheme, ranges: Ranges) -> None:
    """Put pairs that quantise and dequantise around the parts, as `quantize_static` does, with ranges found before.

    Sums stay fp32, and so does what goes past a product: each has a pair of its own (`DedicatedQDQPair`), for a shared
    one would take the residual stream of the model through int8 too. Activations are unsigned and weights signed: x86
    multiplies these at once, and two signed ones three times more slowly (measured).
    """
    from onnx import TensorProto, helper
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    wanted = {part.node for part in parts(model.graph) if scheme.fate(part) == INT8}
    nodes = [node for node in model.graph.node if node.name in wanted]
    activations = list(dict.fromkeys(_activation(node) for node in nodes))
    # Their types are said here: nobody could infer them behind an operator of onnxruntime's own.
    model.graph.value_info.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in activations)
    found = {name: ranges[name] for name in activations if name in ranges}
    quantizer = QDQQuantizer(
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
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(target))


WRITERS: Mapping[str, Write] = {"dynamic": _write_dynamic, "static": _write_static}


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
