"""Rewrites of an exported BERT's fp32 graph that might make its int8 version faster; `int8_speed.py` measures them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, save

CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class Attention:
    """The operators of one layer's attention; `projected` are query, key and value with their biases added."""

    softmax: NodeProto
    scores: tuple[NodeProto, ...]
    transposed: tuple[NodeProto, NodeProto, NodeProto]
    reshaped: tuple[NodeProto, NodeProto, NodeProto]
    projected: tuple[NodeProto, NodeProto, NodeProto]
    products: tuple[NodeProto, NodeProto, NodeProto]
    mask: str
    scale: float
    ends: tuple[NodeProto, ...]

    @property
    def inner(self) -> list[NodeProto]:
        """Return all that lies between the three projections and the output."""
        return [self.softmax, *self.scores, *self.transposed, *self.reshaped, *self.ends]


def attentions(model: ModelProto) -> Iterator[Attention]:
    """Find every layer's attention as torch's exporter writes it for BERT."""
    nodes, constants = model.graph.node, {tensor.name: tensor for tensor in model.graph.initializer}
    maker = {output: node for node in nodes for output in node.output}

    def user(node: NodeProto) -> NodeProto:
        found: NodeProto = next(other for other in nodes if node.output[0] in other.input)
        return found

    for softmax in [node for node in nodes if node.op_type == "Softmax"]:
        masked = maker[softmax.input[0]]
        scaled = maker[masked.input[0]]
        product = maker[scaled.input[0]]
        weighted = user(softmax)
        transposed = tuple(maker[name] for name in (*product.input, weighted.input[1]))
        reshaped = tuple(maker[node.input[0]] for node in transposed)
        projected = tuple(maker[node.input[0]] for node in reshaped)
        scale = float(numpy_helper.to_array(constants[scaled.input[1]]))
        back = user(weighted)
        yield Attention(
            softmax, (masked, scaled, product), transposed, reshaped, projected,
            tuple(maker[node.input[0]] for node in projected), masked.input[1], scale, (weighted, back, user(back)),
        )  # fmt: skip


def fused_attention(model: ModelProto, heads: int, contrib: bool) -> ModelProto:
    """Make one operator of each attention: ONNX's own of opset 23, or onnxruntime's MultiHeadAttention."""
    for found in list(attentions(model)):
        inputs = [node.input[0] for node in found.reshaped]
        output, name = [found.ends[-1].output[0]], f"{found.softmax.name}_attention"
        if contrib:
            node = helper.make_node(
                "MultiHeadAttention", [*inputs, "", "", found.mask], output, name,
                domain=CONTRIB, num_heads=heads, scale=found.scale,
            )  # fmt: skip
        else:
            node = helper.make_node(
                "Attention", [*inputs, found.mask], output, name,
                q_num_heads=heads, kv_num_heads=heads, scale=found.scale,
            )  # fmt: skip
        _replace(model, found.ends[-1], [node], found.inner)
    if contrib:
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    else:
        model.opset_import[0].version = 23
    return model


def one_product_for_qkv(model: ModelProto, heads: int) -> ModelProto:
    """Multiply by query, key and value weights at once, and split what comes of it."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for found in list(attentions(model)):
        name = f"{found.softmax.name}_qkv"
        weights = [numpy_helper.to_array(constants[node.input[1]]) for node in found.products]
        biases = [numpy_helper.to_array(constants[node.input[1]]) for node in found.projected]
        width = len(weights[0])
        _add(model, f"{name}_weight", np.concatenate(weights, axis=1))
        _add(model, f"{name}_bias", np.concatenate(biases))
        _add(model, f"{name}_shape", np.array([0, 0, 3 * heads, width // heads]))
        query, key, value = (node.output[0] for node in found.transposed)
        nodes = [
            helper.make_node("MatMul", [found.products[0].input[0], f"{name}_weight"], [f"{name}_0"], f"{name}_matmul"),
            helper.make_node("Add", [f"{name}_0", f"{name}_bias"], [f"{name}_1"], f"{name}_add"),
            helper.make_node("Reshape", [f"{name}_1", f"{name}_shape"], [f"{name}_2"], f"{name}_reshape"),
            helper.make_node("Transpose", [f"{name}_2"], [f"{name}_3"], f"{name}_transpose", perm=[0, 2, 1, 3]),
            helper.make_node(
                "Split", [f"{name}_3"], [query, f"{name}_4", value], f"{name}_split", axis=1, num_outputs=3
            ),
            helper.make_node("Transpose", [f"{name}_4"], [key], f"{name}_key", perm=[0, 1, 3, 2]),
        ]
        _replace(
            model, found.products[0], nodes,
            [*found.products, *found.projected, *found.reshaped, *found.transposed],
        )  # fmt: skip
    return model


def skip_norm(model: ModelProto, heads: int, width: int) -> ModelProto:
    """Let onnxruntime's own optimizer for BERT fuse what it can: SkipLayerNormalization and BiasGelu."""
    from onnxruntime.transformers.optimizer import optimize_model

    with TemporaryDirectory() as place:
        path = Path(place) / "model.onnx"
        save(model, path)
        fused: ModelProto = optimize_model(str(path), "bert", num_heads=heads, hidden_size=width, opt_level=0).model
    if CONTRIB not in {one.domain for one in fused.opset_import}:
        fused.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return fused


def products_with_biases(model: ModelProto) -> ModelProto:
    """Flatten inputs and make a Gemm of each product and its bias, which static int8 adds as integers then."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    users: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for product in [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants]:
        (add,) = users[product.output[0]]
        bias = next(name for name in add.input if name != product.output[0])
        taken, given, output = product.input[0], product.input[1], add.output[0]
        width, columns = constants[given].dims
        _add(model, f"{output}_rows", np.array([-1, width]))
        _add(model, f"{output}_columns", np.array([columns]))
        nodes = [
            helper.make_node("Reshape", [taken, f"{output}_rows"], [f"{output}_flat"], f"{output}_flatten"),
            helper.make_node("Gemm", [f"{output}_flat", given, bias], [f"{output}_gemm"], product.name),
            helper.make_node("Shape", [taken], [f"{output}_lead"], f"{output}_shape", start=0, end=2),
            helper.make_node("Concat", [f"{output}_lead", f"{output}_columns"], [f"{output}_full"], axis=0),
            helper.make_node("Reshape", [f"{output}_gemm", f"{output}_full"], [output], f"{output}_unflatten"),
        ]
        _replace(model, product, nodes, [product, add])
    return model


def without_zero_points(model: ModelProto) -> ModelProto:
    """Leave out the zero points of int8 weights, all of which are 0."""
    zeros = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT8 and not numpy_helper.to_array(tensor).any()
    }
    for node in model.graph.node:
        if node.op_type == "MatMulInteger" and len(node.input) == 4 and node.input[3] in zeros:
            del node.input[3]
    return model


def _add(model: ModelProto, name: str, values: np.ndarray[Any, Any]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(values, name))


def _replace(model: ModelProto, at: NodeProto, new: list[NodeProto], old: list[NodeProto]) -> None:
    """Put new operators in the place of one, and take away the old ones."""
    gone, place = {node.name for node in old}, at.name
    nodes = []
    for node in model.graph.node:
        if node.name == place:
            nodes += new
        if node.name not in gone:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
