from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest

from theseus_deploy.export.stream import write_graph


@pytest.mark.parametrize("width", [1, 31, 32, 4095, 4096, 600_000])  # lengths of 1 to 4 groups of 7 bits
def test_the_file_is_what_onnx_itself_would_write(width: int, tmp_path: Path) -> None:
    values = {"b.weight": np.arange(width, dtype=np.float32), "a.shape": np.array([2, 3], np.int64), "c": np.array(1.5)}
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "graph", [], [])
    outline = onnx.helper.make_model(graph, producer_name="test")
    whole = onnx.ModelProto()
    whole.CopyFrom(outline)
    whole.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    write_graph(outline, {name: onnx_ir.tensor(value) for name, value in values.items()}, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_size == whole.ByteSize()
    assert onnx.load(tmp_path / "model.onnx") == whole
    assert outline.graph.node  # it is left as it was
