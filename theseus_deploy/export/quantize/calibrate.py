"""What values the activations take on the user's own rows, from which static int8 has its scales."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theseus_deploy.export.quantize.graph import open_graph
from theseus_deploy.export.quantize.scheme import parts

Encoded = Mapping[str, NDArray[np.int64]]
Ranges = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # the lowest and the highest value of a tensor

ROWS = 128  # 256 gave the same agreement


def calibrate(source: Path, rows: Iterable[Encoded], threads: int) -> Ranges:
    """Run an fp32 graph on rows of one text each, unpadded, and note the range of what enters each product.

    The whole range counts. On a MiniLM fine-tuned on MRPC, cutting 0.001 % of the values off gave the same agreement
    with fp32, 0.01 % took 6 of 100 answers with it: the few large activations of a BERT carry its meaning.
    """
    import onnx
    import onnxruntime

    model = open_graph(source)
    inputs = {node.name: node.input[0] for node in model.graph.node}
    wanted = list(dict.fromkeys(inputs[part.node] for part in parts(model.graph) if not part.is_lookup))
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # as the predictor does
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    low, high = np.full(len(wanted), np.inf, np.float32), np.full(len(wanted), -np.inf, np.float32)
    for row in rows:
        values: list[Any] = session.run(wanted, dict(row))
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
    return {name: (np.array(low[at], np.float32), np.array(high[at], np.float32)) for at, name in enumerate(wanted)}
