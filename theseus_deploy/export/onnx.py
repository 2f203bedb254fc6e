"""torch -> ONNX: one file with named axes, and nothing in it but what it takes to answer."""

import hashlib
import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.errors import ExportError
from theseus_deploy.models import eager_attention

if TYPE_CHECKING:
    import torch
    from onnx import GraphProto, ModelProto
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OUTPUT = "logits"
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
    import onnx
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
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise ExportError(
                f"{type(model).__name__} cannot be exported at opset {opset} ({reason}); try another --opset"
            ) from error
    assert program is not None
    _name_transposed(program.model.graph.initializers, model)
    proto = program.model_proto
    del program  # it holds weights transposed, and no more than two copies of a large model are wanted at once
    strip_notes(proto)
    serialized = proto.SerializeToString()
    del proto
    onnx.checker.check_model(serialized)
    path.write_bytes(serialized)


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


@contextmanager
def evaluating(model: "PreTrainedModel") -> Iterator[None]:
    """Keep a model in evaluation mode for a while."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)


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
    names = {_hash(tensor.T): f"{name}.T" for name, tensor in model.state_dict().items() if tensor.ndim == 2}
    for value in list(initializers.values()):
        if len(value.shape) == 2 and value.name.startswith("val_"):
            content = value.const_value.numpy()
            value.name = names.pop(hashlib.sha256(content.tobytes()).hexdigest(), value.name)


def _hash(tensor: "torch.Tensor") -> str:
    return hashlib.sha256(tensor.numpy(force=True).tobytes()).hexdigest()


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
