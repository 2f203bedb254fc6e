"""An fp32 graph made ready for onnxruntime's quantisers, be it the exporter's or one that onnxruntime optimised."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

SLOPES = ("alpha", "beta", "gamma")  # of an activation, in the attributes of a product fused with it


def open_graph(path: Path) -> "ModelProto":
    """Read a graph; every operator has a name then, and products fused with an activation are two operators again.

    onnxruntime makes one of them when it optimises a graph, and has no int8 kernel for it.
    """
    import onnx

    model = onnx.load(path)
    nodes: list[NodeProto] = []
    for position, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{position}"
        if node.op_type != "FusedGemm":
            nodes.append(node)
            continue
        facts: dict[str, Any] = {fact.name: onnx.helper.get_attribute_value(fact) for fact in node.attribute}
        applied, between = facts.pop("activation").decode(), f"{node.output[0]}_product"
        slopes = {name: facts.pop(f"activation_{name}") for name in SLOPES if f"activation_{name}" in facts}
        nodes.append(onnx.helper.make_node("Gemm", node.input, [between], node.name, **facts))
        nodes.append(onnx.helper.make_node(applied, [between], node.output, f"{node.name}_{applied}", **slopes))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def outline(graph: "GraphProto") -> "GraphProto":
    """Copy the operators of a graph, and its weights' names, types and shapes without their values."""
    import onnx

    found = onnx.GraphProto()
    found.node.extend(graph.node)
    for tensor in graph.initializer:
        found.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return found
