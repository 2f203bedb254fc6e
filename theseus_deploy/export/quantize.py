"""fp32 -> int8, and the receipt of what became of each weight."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.errors import ExportError
from theseus_deploy.export.onnx import strip_notes
from theseus_deploy.machine import Machine

if TYPE_CHECKING:
    from onnx import GraphProto

INT8_DYNAMIC = "int8-dynamic"
PRODUCTS = ("MatMul", "Gemm")
# The operators that onnxruntime runs on int8 weights; without a calibration it has no others.
QUANTISED = (*PRODUCTS, "Gather")
INT8 = "int8"
COMPUTED = "fp32: both factors are computed, there is no weight to store"
LEFT = "fp32: the weight is the left factor, for which there is no int8 kernel"
ELEMENTWISE = "fp32: added or scaled element by element, where int8 saves nothing and costs accuracy"


@dataclass(frozen=True)
class Receipt:
    """What became of the weights: their names by fate, and the operators that use them counted by type and fate.

    A fate is `int8`, or `fp32: ` and the reason. The weights of products are symmetric, with one scale a column; those
    of embeddings are not, with one scale a table; the scale of activations is found at run time.
    """

    reduce_range: bool
    operators: Mapping[str, Mapping[str, int]]
    weights: Mapping[str, tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return the `quantization` object of the manifest's receipt."""
        return {
            "reduce_range": self.reduce_range,
            "operators": {name: dict(fates) for name, fates in self.operators.items()},
            "weights": {fate: list(names) for fate, names in self.weights.items()},
        }


def to_int8_dynamic(source: Path, target: Path, machine: Machine) -> Receipt:
    """Write the int8 version of an fp32 graph: matrix products and embeddings, activations quantised at run time.

    A CPU without native int8 sums pairs of products in 16 bits, which full-range weights overflow; for it they are
    given 7 bits.

    Raises:
        ExportError: a product with a constant weight stayed fp32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(source)
    reduce_range = not machine.native_int8
    add_pre_process_metadata(model)  # else the quantiser advises to do what is done already
    with _root_logger_untouched():
        quantize_dynamic(
            model,
            target,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    quantised = onnx.load(target)
    strip_notes(quantised)
    onnx.checker.check_model(quantised)
    onnx.save(quantised, target)
    return account(model.graph, quantised.graph, reduce_range)


def account(before: "GraphProto", after: "GraphProto", reduce_range: bool) -> Receipt:
    """Compare a graph with its quantised self, weight by weight.

    Raises:
        ExportError: a product with a constant weight stayed fp32.
    """
    from onnx import TensorProto

    if silent := _fp32_products(after):
        raise ExportError(
            f"{len(silent)} products with a constant weight stayed fp32 ({', '.join(silent[:3])}), and none may; "
            "export with --quantize none"
        )
    stored = {tensor.name: tensor.data_type for tensor in after.initializer}
    floats = {tensor.name for tensor in before.initializer if tensor.data_type == TensorProto.FLOAT}
    bytewise = (TensorProto.INT8, TensorProto.UINT8)
    int8 = {name for name in floats - stored.keys() if stored.get(f"{name}_quantized") in bytewise}
    left = {node.input[0] for node in before.node if node.op_type in PRODUCTS}
    operators: dict[str, Counter[str]] = defaultdict(Counter)
    for node in before.node:
        used = floats.intersection(node.input)
        if used & int8:
            operators[node.op_type][INT8] += 1
        elif node.op_type in PRODUCTS:
            operators[node.op_type][LEFT if used else COMPUTED] += 1
        elif used:
            operators[node.op_type][ELEMENTWISE] += 1
    weights: dict[str, list[str]] = defaultdict(list)
    for name in sorted(floats):
        weights[INT8 if name in int8 else LEFT if name in left else ELEMENTWISE].append(name)
    return Receipt(
        reduce_range=reduce_range,
        operators={name: dict(operators[name]) for name in sorted(operators)},
        weights={fate: tuple(names) for fate, names in weights.items()},
    )


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """Give the root logger a handler for a while: the quantiser calls `logging.info`, which would install one."""
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


def _fp32_products(graph: "GraphProto") -> list[str]:
    """Name the fp32 products whose right factor follows from constants alone."""
    constants = {tensor.name for tensor in graph.initializer}
    products = []
    for node in graph.node:  # in topological order, as ONNX demands
        if node.op_type == "Constant" or (node.input and constants.issuperset(node.input)):
            constants.update(node.output)
        elif node.op_type in PRODUCTS and node.input[1] in constants:
            products.append(node.name)
    return products
