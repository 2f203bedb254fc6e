"""torch -> ONNX: one file with named axes, and nothing in it but what it takes to answer."""

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from theseus_deploy.errors import ExportError
from theseus_deploy.execution import eager_attention, evaluating
from theseus_deploy.export.stream import write_graph
from theseus_deploy.manifest import OUTPUT

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from onnx_ir import TensorProtocol
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_BYTES = 2**31 - 2**24  # protobuf ends at 2 GiB; the graph around the weights needs some of it
EXAMPLE = ["short", "a longer text beside it, so that the first one is padded"]
TALKATIVE = ("torch.onnx", "onnxscript")  # loggers
KNOWN_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),  # torch about its own code
    (r"# The axis name: \w+ will not be used", UserWarning),  # two inputs share an axis, as they should
)


def to_onnx(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", path: Path, opset: int) -> None:
    """Write a model with its head as one ONNX file.

    Inputs are int64 of shape (batch, sequence), named as the tokenizer names them; the output `logits` is float32 of
    shape (batch, labels), or where words are tagged (batch, sequence, labels). The model must be float32, on the CPU;
    it comes back in the mode it came in.

    Raises:
        ExportError: the weights exceed what one file holds, or torch cannot express the model at this opset.
    """
    import torch

    size = sum(parameter.nbytes for parameter in model.parameters())
    if size > MAX_BYTES:
        raise ExportError(
            f"the model's weights take {size / 1e9:.2f} GB, and one ONNX file holds {MAX_BYTES / 1e9:.2f} GB; "
            "compress it to fewer layers first"
        )
    names = input_names(model, tokenizer)
    encoded = tokenizer(EXAMPLE, padding=True, return_tensors="pt")
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("sequence", min=1)}
    with evaluating(model), eager_attention(model), _silence():
        try:
            program = torch.onnx.export(
                model,
                kwargs={name: encoded[name] for name in names},
                dynamo=True,
                opset_version=opset,
                input_names=names,
                output_names=[OUTPUT],
                dynamic_shapes=dict.fromkeys(names, axes),
                verbose=False,
                optimize=False,
            )
            assert program is not None
            parameters = list(program.model.graph.initializers.values())
            program.optimize()
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise ExportError(
                f"{type(model).__name__} cannot be exported at opset {opset} ({reason}); if it names an operator, "
                "try another --opset"
            ) from error
    initializers = program.model.graph.initializers
    _name_transposed(initializers, model)
    weights = dict(initializers.tensor_items())
    for value in (*parameters, *initializers.values()):
        value.const_value = None  # onnxscript's rewriter never lets go of a graph, and this lets go of its weights
    initializers.clear()
    outline = program.model_proto
    strip_notes(outline)
    _check(outline, weights)
    write_graph(outline, weights, path)


def input_names(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Return what the tokenizer gives and the model takes, in the tokenizer's order."""
    taken = inspect.signature(model.forward).parameters
    return [name for name in tokenizer.model_input_names if name in taken]


def strip_notes(proto: "ModelProto") -> None:
    """Remove what no runtime reads: notes that hold paths of this machine, and shapes that go stale.

    onnxruntime's quantiser trusts the exporter's shapes over its own and fails where they differ.
    """
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    _strip_graph(proto.graph)


def _strip_graph(graph: "GraphProto") -> None:
    graph.ClearField("value_info")
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _strip_graph(inner)


def _name_transposed(initializers: Any, model: "PreTrainedModel") -> None:
    """Name each weight that the exporter stored transposed (`val_87`) after its parameter, with `.T`."""
    parameters = {name: tensor.numpy(force=True) for name, tensor in model.state_dict().items() if tensor.ndim == 2}
    for value in list(initializers.values()):
        if len(value.shape) == 2 and value.name.startswith("val_"):
            stored = value.const_value.numpy().T
            if name := next((name for name, weight in parameters.items() if np.array_equal(weight, stored)), None):
                del parameters[name]  # both are in the order of the layers, so that the first is nearly always it
                value.name = f"{name}.T"


def _check(outline: "ModelProto", weights: Mapping[str, "TensorProtocol"]) -> None:
    """Check a graph of which the weights are not in it but beside it, by declaring them as inputs.

    Raises:
        onnx.checker.ValidationError: it is no ONNX.
    """
    import onnx

    whole = onnx.ModelProto()
    whole.CopyFrom(outline)
    for name, weight in weights.items():
        whole.graph.input.append(onnx.helper.make_tensor_value_info(name, weight.dtype, weight.shape.numpy()))
    onnx.checker.check_model(whole)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's talk about itself from the user; any warning not listed still comes through."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message, category in KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
