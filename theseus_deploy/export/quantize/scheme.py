"""What of a graph becomes int8, and how: the parts that hold weights, the blocks they belong to, and a choice."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from onnx import GraphProto

PRODUCTS = ("MatMul", "Gemm")
LOOKUPS = ("Gather",)
WEIGHT: Mapping[str, int] = {**dict.fromkeys(PRODUCTS, 1), **dict.fromkeys(LOOKUPS, 0)}  # which input it is
EMBEDDINGS, HEAD = "embeddings", "head"
LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")

INT8 = "int8"
KEPT = "fp32: left so with its whole block, where int8 changes too many answers"
UNASKED = "fp32: int8 was not asked for embeddings"


@dataclass(frozen=True)
class Part:
    """An operator with a weight that int8 kernels take: its name, its weight's, and the block of the model it is in.

    A block is `embeddings`, `layer 0` and so on, or `head`.
    """

    node: str
    operator: str
    weight: str
    block: str

    @property
    def is_lookup(self) -> bool:
        """Whether rows are looked up in the weight, which is a table of embeddings then."""
        return self.operator in LOOKUPS


@dataclass(frozen=True)
class Scheme:
    """How to quantise to int8.

    `dynamic` finds the scales of activations as they come, `static` has them fixed by a calibration. Weights of
    products get one scale a column, or one each where not `per_channel`; those of embeddings one a table.
    `reduce_range` gives weights 7 bits. `kept` names the blocks that stay fp32.
    """

    method: Literal["dynamic", "static"]
    reduce_range: bool
    per_channel: bool = True
    embeddings: bool = True
    kept: tuple[str, ...] = ()

    def fate(self, part: Part) -> str:
        """Say what is to become of a part: `int8`, or why not."""
        if part.block in self.kept:
            return KEPT
        return UNASKED if part.is_lookup and not self.embeddings else INT8

    def __str__(self) -> str:
        scales = "per channel" if self.per_channel else "per tensor"
        return f"{self.method} {scales}{f', {len(self.kept)} blocks fp32' if self.kept else ''}"

    def to_json(self) -> dict[str, Any]:
        """Return the part of the manifest's receipt that says what was asked."""
        return {
            "method": self.method,
            "reduce_range": self.reduce_range,
            "per_channel": self.per_channel,
            "embeddings": self.embeddings,
            "kept": list(self.kept),
        }


def parts(graph: "GraphProto") -> list[Part]:
    """List what can become int8, in the order of the graph."""
    from onnx import TensorProto

    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    found, block = list[Part](), EMBEDDINGS
    for node in graph.node:
        index = WEIGHT.get(node.op_type)
        if index is None or node.input[index] not in floats:
            continue
        weight = node.input[index]
        if layer := LAYER.search(weight):
            block = f"layer {layer[1]}"
        elif block != EMBEDDINGS and not weight.startswith("val_"):  # a name that the exporter made up tells nothing
            block = HEAD
        found.append(Part(node.name, node.op_type, weight, EMBEDDINGS if node.op_type in LOOKUPS else block))
    return found
