"""A graph written as one file, weight by weight: as one message, serialised at once, it is in memory three times."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnx_ir import TensorProtocol

BYTES = 2  # protobuf's wire type of what tells its length


def write_graph(outline: "ModelProto", weights: Mapping[str, "TensorProtocol"], path: Path) -> None:
    """Write a graph that has no initializers, and these weights as its initializers.

    In protobuf, fields come in any order, and a message is a field: its tag, its length, its own fields. See
    https://protobuf.dev/programming-guides/encoding.
    """
    from onnx import GraphProto, ModelProto, TensorProto

    graph, rest = outline.graph.SerializeToString(), ModelProto()
    rest.CopyFrom(outline)
    rest.ClearField("graph")
    heads = []
    for name, weight in weights.items():
        facts = TensorProto(name=name, data_type=weight.dtype, dims=weight.shape.numpy()).SerializeToString()
        head = facts + _begin(TensorProto.RAW_DATA_FIELD_NUMBER, weight.nbytes)
        heads.append(_begin(GraphProto.INITIALIZER_FIELD_NUMBER, len(head) + weight.nbytes) + head)
    size = len(graph) + sum(map(len, heads)) + sum(weight.nbytes for weight in weights.values())
    with path.open("wb") as file:
        file.write(rest.SerializeToString() + _begin(ModelProto.GRAPH_FIELD_NUMBER, size) + graph)
        for head, weight in zip(heads, weights.values(), strict=True):
            file.write(head)
            file.write(weight.tobytes())


def _begin(field: int, size: int) -> bytes:
    """Encode the tag and the length of a field."""
    return _varint(field << 3 | BYTES) + _varint(size)


def _varint(number: int) -> bytes:
    """Encode a number in as many groups of 7 bits as it takes, the lowest first."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])
