import gc
import logging
import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from tests.conftest import make_tokenizer
from theseus_deploy.errors import ExportError
from theseus_deploy.export.onnx import to_onnx


@pytest.fixture(scope="module")
def graph(fp32_bundle: Path) -> onnx.GraphProto:
    return onnx.load(fp32_bundle / "model.onnx").graph


def axes(values: list[onnx.ValueInfoProto]) -> dict[str, list[str | int]]:
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values
    }


def test_inputs_and_output_have_the_tokenizers_names_and_share_two_named_axes(graph: onnx.GraphProto) -> None:
    assert axes(graph.input) == {name: ["batch", "sequence"] for name in make_tokenizer().model_input_names}
    assert axes(graph.output) == {"logits": ["batch", 2]}


def test_the_graph_is_one_file_of_the_opset_asked_for(fp32_bundle: Path) -> None:
    model = onnx.load(fp32_bundle / "model.onnx", load_external_data=False)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not list(fp32_bundle.glob("*.data"))


@pytest.mark.parametrize("bundle", ["fp32_bundle", "int8_bundle"])
def test_no_file_of_the_bundle_tells_of_the_machine_it_was_made_on(bundle: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(bundle)
    telling = [str(Path.cwd()), str(folder.parent), 'File "', "site-packages", "modeling_bert", "stack_trace"]
    for path in folder.iterdir():
        content = path.read_bytes()
        found = [word for word in telling if word.encode() in content]
        assert path.name == "theseus.json" or not found, path.name


def test_stale_notes_are_gone(graph: onnx.GraphProto) -> None:
    assert not graph.value_info
    assert not any(node.metadata_props or node.doc_string for node in graph.node)


def test_every_matrix_in_the_graph_is_a_parameter_of_the_checkpoint_or_its_transpose(
    graph: onnx.GraphProto, tiny_bert: Path
) -> None:
    parameters = AutoModelForSequenceClassification.from_pretrained(tiny_bert).state_dict()
    matrices = {
        t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if len(t.dims) == 2 and t.data_type == 1
    }
    products = {name.removesuffix(".T") for name in matrices if "embeddings" not in name}
    assert products == {name for name, value in parameters.items() if value.ndim == 2 and "embeddings" not in name}
    for name, matrix in matrices.items():
        parameter = parameters[name.removesuffix(".T")].numpy()
        np.testing.assert_array_equal(matrix, parameter.T if name.endswith(".T") else parameter)


@pytest.mark.thorough
def test_export_says_nothing_changes_nothing_and_repeats_itself(
    tiny_bert: Path, fp32_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    model.train()
    attention, handlers = model.config._attn_implementation, list(logging.root.handlers)
    capfd.readouterr()
    to_onnx(model, make_tokenizer(), tmp_path / "model.onnx", opset=20)
    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == handlers
    assert all(module.training for module in model.modules())
    assert model.config._attn_implementation == attention == "sdpa"
    assert (tmp_path / "model.onnx").read_bytes() == (fp32_bundle / "model.onnx").read_bytes()


@pytest.mark.thorough
def test_the_weights_are_gone_with_the_model(shallow_bert: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(shallow_bert)
    to_onnx(model, make_tokenizer(), tmp_path / "model.onnx", opset=20)
    weights = [weakref.ref(weight) for weight in model.parameters()]
    del model
    gc.collect()
    assert all(weight() is None for weight in weights)


def test_a_model_that_one_file_cannot_hold_is_refused_before_any_work(tmp_path: Path) -> None:
    with torch.device("meta"):  # shapes without memory
        model = BertForSequenceClassification(BertConfig(vocab_size=800_000, hidden_size=768, num_hidden_layers=1))
    with pytest.raises(ExportError, match=r"take 2\.\d\d GB, and one ONNX file holds 2\.13 GB; compress"):
        to_onnx(model, make_tokenizer(), tmp_path / "model.onnx", opset=20)
    assert not list(tmp_path.iterdir())
