"""What became of each weight, and of the operators that use them."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from theseus_deploy.errors import ExportError
from theseus_deploy.export.quantize.scheme import INT8, LOOKUPS, PRODUCTS, WEIGHT, Scheme, parts

if TYPE_CHECKING:
    from onnx import GraphProto

COMPUTED = "fp32: both factors are computed, there is no weight to store"
LEFT = "fp32: the weight is the left factor, for which there is no int8 kernel"
ELEMENTWISE = "fp32: added or scaled element by element, where int8 saves nothing and costs accuracy"
BIAS = "int32: a bias, added to the product's sums before they are scaled"
# Where an operator keeps the weight that it multiplies; onnxruntime's own fused ones have no int8 kernel that we use.
MULTIPLIED: Mapping[str, int] = {**WEIGHT, "FusedMatMul": 1, "FusedGemm": 1, "Attention": 1}


@dataclass(frozen=True)
class Receipt:
    """What became of the weights: their names by fate, and the operators that use them counted by type and fate.

    A fate is `int8`, `int32: ` or `fp32: ` and the reason.
    """

    scheme: Scheme
    operators: Mapping[str, Mapping[str, int]]
    weights: Mapping[str, tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return the `quantization` object of the manifest's receipt."""
        return {
            **self.scheme.to_json(),
            "operators": {name: dict(fates) for name, fates in self.operators.items()},
            "weights": {fate: list(names) for fate, names in self.weights.items()},
        }


def account(before: "GraphProto", after: "GraphProto", scheme: Scheme) -> Receipt:
    """Compare a graph with its quantised self, weight by weight.

    Raises:
        ExportError: a product or an embedding stayed fp32 that was to be int8.
    """
    from onnx import TensorProto

    planned = {part.node: scheme.fate(part) for part in parts(before)}
    allowed = {name for node, fate in planned.items() if fate != INT8 for name in names_of(node)}
    if silent := [name for name in _fp32_parts(after) if name not in allowed]:
        raise ExportError(
            f"{len(silent)} operators with a constant weight stayed fp32 ({', '.join(silent[:3])}), and none may; "
            "export with --quantize none"
        )
    stored = {tensor.name: tensor.data_type for tensor in after.initializer}
    floats = {tensor.name for tensor in before.initializer if tensor.data_type == TensorProto.FLOAT}
    as_stored = {name: stored.get(f"{name}_quantized") for name in floats - stored.keys()}
    int8 = {name for name, kind in as_stored.items() if kind in (TensorProto.INT8, TensorProto.UINT8)}
    fates = dict.fromkeys(floats, ELEMENTWISE)
    fates |= {node.input[0]: LEFT for node in before.node if node.op_type in PRODUCTS and node.input[0] in floats}
    fates |= {name: BIAS for name, kind in as_stored.items() if kind == TensorProto.INT32}
    fates |= {part.weight: planned[part.node] for part in parts(before) if planned[part.node] != INT8}
    fates |= dict.fromkeys(int8, INT8)
    operators: dict[str, Counter[str]] = defaultdict(Counter)
    for node in before.node:
        used = floats.intersection(node.input)
        if used & int8:
            operators[node.op_type][INT8] += 1
        elif node.name in planned:
            operators[node.op_type][planned[node.name]] += 1
        elif node.op_type in PRODUCTS:
            operators[node.op_type][LEFT if used else COMPUTED] += 1
        elif used:
            operators[node.op_type][ELEMENTWISE] += 1
    weights: dict[str, list[str]] = defaultdict(list)
    for name in sorted(floats):
        weights[fates[name]].append(name)
    return Receipt(
        scheme=scheme,
        operators={name: dict(operators[name]) for name in sorted(operators)},
        weights={fate: tuple(names) for fate, names in weights.items()},
    )


def names_of(node: str) -> tuple[str, str]:
    """Return the names that an operator may bear: onnxruntime's quantiser makes a product and a sum out of a Gemm."""
    return node, f"{node}_MatMul"


def _fp32_parts(graph: "GraphProto") -> list[str]:
    """Name what computes in fp32 with a weight: one that is stored, or for a product follows from constants alone.

    Among pairs that quantise and dequantise, a product runs in int8 only where both of its factors were dequantised.
    """
    from onnx import TensorProto

    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    constants = {tensor.name for tensor in graph.initializer}
    weights, dequantised = set[str](), set[str]()
    found = []
    for node in graph.node:  # in topological order, as ONNX demands
        constant = constants.issuperset(node.input)
        if node.op_type == "DequantizeLinear":
            dequantised.update(node.output)
            weights.update(node.output if constant else ())
        elif node.op_type == "Constant" or (node.input and constant):
            constants.update(node.output)
        elif node.op_type in MULTIPLIED:
            weight = node.input[MULTIPLIED[node.op_type]]
            if weight in (floats if node.op_type in LOOKUPS else constants) or (
                node.op_type in PRODUCTS and weight in weights and node.input[0] not in dequantised
            ):
                found.append(node.name)
    return found
