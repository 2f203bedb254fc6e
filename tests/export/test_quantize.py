import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.conftest import export_bundle
from theseus_deploy.artifact import Artifact
from theseus_deploy.errors import ExportError
from theseus_deploy.export.quantize import choose
from theseus_deploy.export.quantize.int8 import to_int8
from theseus_deploy.export.quantize.receipt import account
from theseus_deploy.export.quantize.scheme import INT8, KEPT, UNASKED, Scheme, parts
from theseus_deploy.machine import Machine

DYNAMIC = Scheme("dynamic", reduce_range=False)


def products_with_weights(graph: onnx.GraphProto) -> list[str]:
    constants = {tensor.name for tensor in graph.initializer}
    return [node.input[1] for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants]


@pytest.fixture(scope="module")
def fp32(fp32_bundle: Path) -> onnx.GraphProto:
    return onnx.load(fp32_bundle / "model.onnx").graph


@pytest.fixture(scope="module")
def int8(int8_bundle: Path) -> onnx.GraphProto:
    return onnx.load(int8_bundle / "model.onnx").graph


def test_int8_is_smaller(fp32_bundle: Path, int8_bundle: Path) -> None:
    assert (int8_bundle / "model.onnx").stat().st_size < 0.6 * (fp32_bundle / "model.onnx").stat().st_size


def test_every_product_with_a_weight_is_int8_and_the_receipt_says_so(
    fp32: onnx.GraphProto, int8: onnx.GraphProto, int8_bundle: Path
) -> None:
    expected = products_with_weights(fp32)
    assert len(expected) == 4 * 6 + 2
    receipt = Artifact.open(int8_bundle).manifest.receipt["quantization"]
    assert set(expected) <= set(receipt["weights"][INT8])
    assert receipt["operators"]["MatMul"][INT8] + receipt["operators"]["Gemm"][INT8] == len(expected)
    assert sum(node.op_type == "MatMulInteger" for node in int8.node) == len(expected)
    assert products_with_weights(int8) == []


def test_the_receipt_names_each_weight_once(fp32: onnx.GraphProto, int8: onnx.GraphProto) -> None:
    receipt = account(fp32, int8, DYNAMIC)
    named = sorted(name for names in receipt.weights.values() for name in names)
    assert named == sorted(tensor.name for tensor in fp32.initializer if tensor.data_type == TensorProto.FLOAT)
    assert {"bert.embeddings.word_embeddings.weight", "classifier.weight"} <= set(receipt.weights[INT8])
    assert "bert.embeddings.LayerNorm.weight" not in receipt.weights[INT8]
    assert receipt.operators["MatMul"]["fp32: both factors are computed, there is no weight to store"] == 4 * 2


def test_a_part_that_silently_stayed_fp32_is_an_error(fp32: onnx.GraphProto) -> None:
    with pytest.raises(ExportError, match=r"29 operators .* stayed fp32 .*; export with --quantize none"):
        account(fp32, fp32, DYNAMIC)


def test_a_weight_that_hides_behind_a_transpose_is_found(fp32: onnx.GraphProto, int8: onnx.GraphProto) -> None:
    hiding = onnx.GraphProto()
    hiding.CopyFrom(int8)
    weight = onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "hidden")
    hiding.initializer.append(weight)
    hiding.node.append(onnx.helper.make_node("Transpose", ["hidden"], ["turned"]))
    hiding.node.append(onnx.helper.make_node("MatMul", ["logits", "turned"], ["more"], name="hideout"))
    with pytest.raises(ExportError, match=r"1 operators .*hideout"):
        account(fp32, hiding, DYNAMIC)


def test_a_weight_that_is_also_kept_in_fp32_is_not_called_int8(fp32: onnx.GraphProto, int8: onnx.GraphProto) -> None:
    both = onnx.GraphProto()
    both.CopyFrom(int8)
    both.initializer.append(next(tensor for tensor in fp32.initializer if tensor.name == "classifier.weight"))
    assert "classifier.weight" not in account(fp32, both, DYNAMIC).weights[INT8]


@pytest.mark.parametrize("reduce_range", [False, True])
def test_weights_have_7_bits_where_the_cpu_would_overflow(
    reduce_range: bool, fp32_bundle: Path, tmp_path: Path
) -> None:
    receipt = to_int8(fp32_bundle / "model.onnx", tmp_path / "int8.onnx", Scheme("dynamic", reduce_range))
    graph = onnx.load(tmp_path / "int8.onnx").graph
    largest = max(
        np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max()
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.INT8
    )
    assert largest == (64 if reduce_range else 127)
    assert receipt.to_json()["reduce_range"] == reduce_range


@pytest.mark.slow
def test_the_isa_decides_on_the_range(
    tiny_bert: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "this_machine", lambda: Machine("without native int8", ("avx2",), 2))
    bundle = export_bundle(tiny_bert, corpus, tmp_path / "bundle", "dynamic")
    assert Artifact.open(bundle).manifest.receipt["quantization"]["reduce_range"]


def test_the_parts_of_a_graph_and_their_blocks(fp32: onnx.GraphProto) -> None:
    found = parts(fp32)
    assert len(found) == 3 + 4 * 6 + 2
    assert {part.block for part in found if part.is_lookup} == {"embeddings"}
    assert [part.block for part in found if not part.is_lookup] == [
        *(f"layer {layer}" for layer in range(4) for _ in range(6)), "head", "head",
    ]  # fmt: skip


def test_embeddings_stay_fp32_where_they_are_not_asked_for(fp32_bundle: Path, tmp_path: Path) -> None:
    scheme = Scheme("dynamic", reduce_range=False, embeddings=False)
    receipt = to_int8(fp32_bundle / "model.onnx", tmp_path / "int8.onnx", scheme)
    assert receipt.operators["Gather"] == {UNASKED: 3}
    assert "bert.embeddings.word_embeddings.weight" in receipt.weights[UNASKED]
    assert receipt.operators["MatMul"][INT8] == 4 * 6


@pytest.mark.parametrize("kept", [("layer 1", "head"), ("embeddings",)])
def test_blocks_that_are_kept_stay_fp32_and_the_receipt_says_so(
    kept: tuple[str, ...], fp32_bundle: Path, fp32: onnx.GraphProto, tmp_path: Path
) -> None:
    scheme = Scheme("dynamic", reduce_range=False, kept=kept)
    receipt = to_int8(fp32_bundle / "model.onnx", tmp_path / "int8.onnx", scheme)
    expected = sorted(part.weight for part in parts(fp32) if part.block in kept)
    assert list(receipt.weights[KEPT]) == expected
    assert not set(expected) & set(receipt.weights[INT8])
    assert receipt.to_json()["kept"] == list(kept)


def test_one_scale_a_weight(fp32_bundle: Path, tmp_path: Path) -> None:
    scales = {}
    for per_channel in (True, False):
        scheme = Scheme("dynamic", reduce_range=False, per_channel=per_channel)
        to_int8(fp32_bundle / "model.onnx", tmp_path / "int8.onnx", scheme)
        graph = onnx.load(tmp_path / "int8.onnx").graph
        scales[per_channel] = {
            tensor.name: int(np.prod(tensor.dims))
            for tensor in graph.initializer
            if tensor.name.endswith("query.weight.T_scale")
        }
    assert set(scales[True].values()) == {32}
    assert set(scales[False].values()) == {1}


def test_the_quantiser_says_nothing_and_leaves_logging_alone(fp32_bundle: Path, tmp_path: Path) -> None:
    code = f"""
import logging
from pathlib import Path
from theseus_deploy.export.quantize.int8 import to_int8
from theseus_deploy.export.quantize.scheme import Scheme
source, target = Path({str(fp32_bundle)!r}) / "model.onnx", Path({str(tmp_path)!r}) / "int8.onnx"
to_int8(source, target, Scheme("dynamic", False))
assert logging.root.handlers == [], logging.root.handlers
logging.basicConfig()  # now for an application that listens to warnings
to_int8(source, target, Scheme("dynamic", False))
"""  # in a process of its own, for pytest has handlers on the root logger
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_notes_and_no_stray_files_are_left(int8: onnx.GraphProto, int8_bundle: Path) -> None:
    assert not int8.value_info
    assert not onnx.load(int8_bundle / "model.onnx").metadata_props
    assert sorted(path.name for path in int8_bundle.iterdir()) == [
        "README.md", "config.json", "model.onnx", "probe.json",
        "theseus.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
