import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.conftest import export_bundle
from tests.export.graphs import STATIC, ranges_of, texts_of
from tests.watcher import Watcher
from theseus_deploy.artifact import Artifact
from theseus_deploy.configs import ExportConfig
from theseus_deploy.data import open_data
from theseus_deploy.errors import ConfigError, ExportError
from theseus_deploy.export.quantize import choose
from theseus_deploy.export.quantize.calibrate import calibrate
from theseus_deploy.export.quantize.int8 import to_int8
from theseus_deploy.export.quantize.receipt import BIAS, account
from theseus_deploy.export.quantize.scheme import INT8
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.predictor import Predictor
from theseus_deploy.verify import verify


@pytest.fixture(scope="module")
def static_bundle(tiny_bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(tiny_bert, corpus, tmp_path_factory.mktemp("bundles") / "static", "static")


@pytest.mark.thorough
def test_the_manifest_of_a_static_bundle(static_bundle: Path) -> None:
    manifest = Artifact.open(static_bundle).manifest
    assert manifest.precision == "int8-static"
    assert list(manifest.scores) == ["parity", "parity_fp32"]
    assert manifest.scores["parity"]["label_agreement"] > 0.9
    receipt = manifest.receipt["quantization"]
    assert (receipt["method"], receipt["calibration"]["rows"]) == ("static", 128)
    assert receipt["operators"]["Gemm"] == {INT8: 2}
    ledger = {entry["name"]: entry for entry in manifest.receipt["ledger"]}
    assert ledger["int8-static"]["parameters"] == ledger["fp32"]["parameters"]
    assert ledger["int8-static"]["bytes"] < ledger["fp32"]["bytes"]
    assert all(check.ok for check in verify(static_bundle))


def test_the_bias_of_a_gemm_is_int32_and_the_receipt_says_so(fp32_bundle: Path, tmp_path: Path) -> None:
    model = onnx.load(fp32_bundle / "model.onnx")
    head = next(node for node in model.graph.node if node.output[0] == "logits")
    head.input.append("bias")  # the tiny model has none but zeros, which the exporter leaves out
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0.5, -0.5], np.float32), "bias"))
    onnx.save(model, tmp_path / "fp32.onnx")
    receipt = to_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", STATIC, ranges_of(fp32_bundle))
    assert receipt.weights[BIAS] == ("bias",)


@pytest.mark.thorough
def test_a_static_product_whose_activation_is_not_quantised_is_an_error(static_bundle: Path, fp32_bundle: Path) -> None:
    before, after = (onnx.load(bundle / "model.onnx").graph for bundle in (fp32_bundle, static_bundle))
    multiplied = next(node for node in after.node if node.op_type == "MatMul" and "Dequantize" in node.input[1])
    multiplied.input[0] = multiplied.input[0].replace("_DequantizeLinear_Output", "").rstrip("_0123456789")
    with pytest.raises(ExportError, match=f"1 operators .*{multiplied.name}"):
        account(before, after, STATIC)


def test_ranges_are_those_of_the_rows(fp32_bundle: Path) -> None:
    predictor = Predictor(fp32_bundle, threads=1)
    few, more = (
        calibrate(fp32_bundle / "model.onnx", (predictor.encode([text]) for text in texts_of(predictor, count)), 1)
        for count in (1, 30)
    )
    assert len(few) == 4 * 4 + 2  # query, key and value share what enters them
    assert few.keys() == more.keys()
    assert all(more[name][0] <= few[name][0] < few[name][1] <= more[name][1] for name in few)
    assert {bound.dtype for bounds in more.values() for bound in bounds} == {np.dtype(np.float32)}


def test_rows_to_judge_on_are_not_calibrated_on(corpus: Path) -> None:
    whole = open_data(str(corpus))
    assert whole.for_calibration() == whole.splits["train"]
    unscored = replace(whole, splits={"train": whole.splits["train"]})
    assert len(unscored.for_calibration()) == 230
    assert not set(unscored.for_calibration().texts) & set(unscored.for_scoring().texts)
    few = replace(
        whole, splits={"train": whole.splits["train"].take(list(range(5)), "train"), "test": whole.splits["test"]}
    )
    assert len(few.for_calibration()) == 5  # too few to hold any out, and none need be
    alone = open_data(str(corpus / "test.csv"))
    assert alone.for_calibration() == alone.for_scoring()


@pytest.mark.thorough
def test_a_calibration_on_few_rows_is_told(tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("text,label\ngood film,positive\n")
    watcher, config = Watcher(), ExportConfig(quantize="static", threads=1)
    export_checkpoint(str(tiny_bert), tmp_path / "out", config, data=str(tmp_path / "one.csv"), progress=watcher)
    assert "static int8 is calibrated on 1 of 128 rows: others may go beyond their ranges" in watcher.told


def test_static_needs_rows_and_says_so_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"calibrated on up to 128 rows of text, and 0 were given; .* --data"):
        export_checkpoint("nowhere", tmp_path / "bundle", ExportConfig(quantize="static"))
    assert not list(tmp_path.iterdir())


def test_fp16_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"fp16 is for GPUs .*CPUExecutionProvider; use --quantize dynamic .*onnxruntime-gpu`"
    ):
        export_checkpoint("nowhere", tmp_path / "bundle", ExportConfig(quantize="fp16"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_fp16_bundle_where_there_is_a_gpu(
    tiny_bert: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [choose.GPU, "CPUExecutionProvider"])
    manifest = Artifact.open(export_bundle(tiny_bert, corpus, tmp_path / "bundle", "fp16")).manifest
    assert manifest.precision == "fp16"
    assert manifest.scores["parity"]["label_agreement"] == 1.0
    assert 0 < manifest.scores["parity"]["max_abs_diff"] < 0.03
    ledger = {entry["name"]: entry for entry in manifest.receipt["ledger"]}
    assert ledger["fp16"]["parameters"] == ledger["fp32"]["parameters"]


def test_calibration_says_nothing_and_leaves_logging_alone(fp32_bundle: Path, tmp_path: Path) -> None:
    code = f"""
import logging
from pathlib import Path
from tests.export.graphs import STATIC, ranges_of
from theseus_deploy.export.quantize.fp16 import to_fp16
from theseus_deploy.export.quantize.int8 import to_int8
bundle, target = Path({str(fp32_bundle)!r}), Path({str(tmp_path)!r}) / "other.onnx"
to_int8(bundle / "model.onnx", target, STATIC, ranges_of(bundle))
to_fp16(bundle / "model.onnx", target)
assert logging.root.handlers == [], logging.root.handlers
"""  # in a process of its own, for pytest has handlers on the root logger
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
