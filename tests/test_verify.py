import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from theseus_deploy.artifact import Artifact
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.verify import verify

Change = Callable[[dict], object]


def failures(folder: Path) -> dict[str, str]:
    return {check.name: check.detail for check in verify(folder) if not check.ok}


def change_manifest(folder: Path, change: Change) -> None:
    path = folder / "theseus.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_bundle_as_written(int8_bundle: Path, tiny_bert: Path) -> None:
    checks = verify(int8_bundle)
    assert [check.name for check in checks] == ["manifest", "files", "graph", "config", "probe", "lineage"]
    assert all(check.ok for check in checks)
    assert checks[0].detail == "bundle of stage export, 4 layers, int8-dynamic"
    assert checks[-1].detail.startswith(f"made from {tiny_bert}, unchanged since")


def test_a_checkpoint_as_written(pair_successor: Path) -> None:
    checks = verify(pair_successor)
    assert [check.name for check in checks] == ["manifest", "files", "config", "weights", "lineage"]
    assert all(check.ok for check in checks)


def test_one_flipped_bit_in_any_file_is_found_and_named(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    for path in [path for path in folder.iterdir() if path.name != "theseus.json"]:
        before = path.read_bytes()
        middle = len(before) // 2
        path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
        assert failures(folder)["files"] == f"{path.name} was changed (another sha256)"
        path.write_bytes(before)
    assert not failures(folder)


def test_missing_added_and_longer_files_are_all_named(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    (folder / "config.json").unlink()
    (folder / "extra.txt").write_text("hello")
    assert failures(folder)["files"] == "extra.txt was added; config.json is missing"


def test_a_graph_that_cannot_be_opened(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    (folder / "model.onnx").write_bytes(b"\x08\x0agarbage")
    found = failures(folder)
    assert found.keys() == {"files", "graph"}
    assert "cannot be loaded" in found["graph"]


def test_a_graph_of_another_width(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    change_manifest(folder, lambda data: data["task"]["labels"].append("third"))
    assert "answers with 2 logits, and the task has 3" in failures(folder)["graph"]


def test_a_probe_beyond_the_positions_of_the_model_is_told_and_not_printed(
    fp32_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    change_manifest(folder, lambda data: data["task"].update(max_length=100))
    assert "cannot be answered" in failures(folder)["probe"]
    assert capfd.readouterr() == ("", "")


def change_probe(folder: Path, change: Change) -> None:
    path = folder / "probe.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    vouch_for(folder, path)


def vouch_for(folder: Path, path: Path) -> None:
    """Write a changed file into the manifest, as whoever forges a bundle would."""
    content = path.read_bytes()
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    change_manifest(folder, lambda data: data["files"].update({path.name: facts}))


def test_a_graph_that_answers_otherwise_than_when_it_was_made(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    path = folder / "model.onnx"
    model = onnx.load(path)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.weight")
    head.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(head) + np.float32(0.01), head.name))
    onnx.save(model, path)
    vouch_for(folder, path)
    found = failures(folder)
    assert found.keys() == {"probe"}
    assert found["probe"].startswith("12 texts answered: the logits differ by 0.0")
    assert found["probe"].endswith("is allowed; use a CPU like that of the manifest, or export it again on this one")


@pytest.mark.parametrize("bundle", ["fp32_bundle", "int8_bundle"])
@pytest.mark.parametrize(("factor", "ok"), [(0.5, True), (2.0, False)])
def test_a_probe_is_compared_within_what_the_precision_allows(
    bundle: str, factor: float, ok: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = shutil.copytree(request.getfixturevalue(bundle), tmp_path / "bundle")
    manifest, logits = Artifact.open(folder).manifest, json.loads((folder / "probe.json").read_text())["logits"]
    fp32 = 1e-4 * max(1.0, np.abs(logits).max())
    allowed = fp32 if manifest.precision == "fp32" else manifest.scores["parity"]["max_abs_diff"]
    logits[3][1] += factor * allowed
    change_probe(folder, lambda data: data.update(logits=np.array(logits).tolist()))
    assert failures(folder).keys() == (set() if ok else {"probe"})


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["logits"].pop(),
        lambda data: data["texts"].pop(),
        lambda data: data.pop("logits"),
        lambda data: data.update(logits="none"),
        lambda data: data.update(texts=1),
        lambda data: data.update(texts=None),
        lambda data: data.update(logits=[[float("nan")] * 2] * 12),
        lambda data: data.update(atol=float("nan")),
        lambda data: data.update(texts=[["one", "too many"]] * 12),
    ],
)
def test_a_damaged_probe_is_a_failure_and_no_traceback(fp32_bundle: Path, tmp_path: Path, change: Change) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    change_probe(folder, change)
    assert failures(folder).keys() == {"probe"}


def test_a_bundle_of_before_there_were_probes_passes_and_one_that_lost_its_probe_does_not(
    fp32_bundle: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    (folder / "probe.json").unlink()
    assert failures(folder).keys() == {"files", "probe"}
    change_manifest(folder, lambda data: data["files"].pop("probe.json"))
    assert not failures(folder)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "link"])
def test_a_graph_that_reads_files_outside_its_folder_is_refused(
    fp32_bundle: Path, tmp_path: Path, location: str
) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    (tmp_path / "secret").write_bytes(b"x" * 1024)
    (folder / "link").symlink_to(tmp_path / "secret")
    path = folder / "model.onnx"
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "256")):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    for name in ("model.onnx", "link"):
        vouch_for(folder, folder / name)
    found = failures(folder)
    assert found.keys() == {"graph"}
    assert "External data path" in found["graph"]


@pytest.mark.parametrize(
    ("change", "name", "detail"),
    [
        (lambda data: data.update(layers=3), "config", "2 layers, and the manifest has 3"),
        (lambda data: data.update(parameters=7), "weights", "parameters, and the manifest has 7"),
        (lambda data: data["parent"].update(sha256="0" * 64), "lineage", "has changed since"),
    ],
)
def test_a_manifest_that_says_otherwise(
    pair_successor: Path, tmp_path: Path, change: Change, name: str, detail: str
) -> None:
    folder = shutil.copytree(pair_successor, tmp_path / "checkpoint")
    change_manifest(folder, change)
    found = failures(folder)
    assert found.keys() == {name}
    assert detail in found[name]


def test_a_parent_named_by_a_relative_path_is_found_from_any_folder(
    pair_successor: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bert, tmp_path / "work" / "runs" / "tuned")
    folder = shutil.copytree(pair_successor, tmp_path / "work" / "out" / "small")
    change_manifest(folder, lambda data: data["parent"].update(path="runs/tuned"))

    def lineage() -> tuple[bool, str]:
        return next((check.ok, check.detail) for check in verify(folder) if check.name == "lineage")

    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "runs" / "tuned").mkdir(parents=True)  # of the same name, and not the parent
    (elsewhere / "runs" / "tuned" / "config.json").write_text("{}")
    for place in (tmp_path / "work", tmp_path, elsewhere):
        monkeypatch.chdir(place)
        assert lineage()[1].startswith("made from runs/tuned, unchanged since")
    (tmp_path / "work" / "runs" / "tuned" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert lineage() == (False, "made from runs/tuned, which has changed since; make this folder again from it")
    shutil.rmtree(tmp_path / "work" / "runs")
    assert lineage() == (True, "made from runs/tuned, which is not here to be checked")


def test_a_bundles_labels_are_those_of_its_configuration(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    change_manifest(folder, lambda data: data["task"]["labels"].reverse())
    assert failures(folder) == {"config": "labels negative, positive, and the manifest has positive, negative"}


def test_what_the_hub_adds_to_a_folder_is_none_of_ours(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    (folder / ".gitattributes").write_text("*.onnx filter=lfs")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "model.onnx.metadata").write_text("0")
    assert not failures(folder)
    (folder / ".hidden").write_text("x")
    assert failures(folder) == {"files": ".hidden was added"}


def test_a_manifest_without_a_receipt_is_read(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    change_manifest(folder, lambda data: data.update(receipt=None))
    assert not failures(folder)
    change_manifest(folder, lambda data: data.update(receipt=7))
    assert failures(folder).keys() == {"manifest"}


def test_weights_that_are_cut_short(pair_successor: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pair_successor, tmp_path / "checkpoint")
    weights = folder / "model.safetensors"
    for damaged in (b"\xff" * 16, weights.read_bytes()[:-8]):
        weights.write_bytes(damaged)
        assert failures(folder)["weights"].startswith("the weights' header cannot be read (")


def test_a_parent_that_was_the_folder_one_stood_in_is_named_by_its_place(
    pair_successor: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tiny_bert)
    assert open_checkpoint(".").parent.path == str(tiny_bert)
    folder = shutil.copytree(pair_successor, tmp_path / "small")
    change_manifest(folder, lambda data: data["parent"].update(path="."))  # as it was written before
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large").write_bytes(b"0")
    found = next(check for check in verify(folder) if check.name == "lineage")
    assert (found.ok, "not here to be checked" in found.detail) == (True, True)


def test_a_parent_that_is_elsewhere_is_no_failure(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    change_manifest(folder, lambda data: data["parent"].update(path="some-team/their-model"))
    assert not failures(folder)
    assert verify(folder)[-1].detail == "made from some-team/their-model, which is not here to be checked"


@pytest.mark.parametrize("within", ["models", "models/parent"])
def test_a_parent_that_may_not_be_looked_into_is_no_failure(
    fp32_bundle: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: str
) -> None:
    parent = shutil.copytree(tiny_bert, tmp_path / "models" / "parent")
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    change_manifest(folder, lambda data: data["parent"].update(path=str(parent)))
    shut, stat = tmp_path / within, os.stat

    def refusing(path: Any, *arguments: Any, **named: Any) -> Any:  # as for a user who is not root, as tests may be
        if isinstance(path, str | os.PathLike) and shut in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **named)

    monkeypatch.setattr("os.stat", refusing)
    assert not failures(folder)
    assert verify(folder)[-1].detail == f"made from {parent}, which is not here to be checked"


def test_a_folder_that_is_not_ours(tiny_bert: Path, tmp_path: Path) -> None:
    for folder in (tiny_bert, tmp_path / "nowhere"):
        assert failures(folder).keys() == {"manifest"}


def test_no_torch_is_needed(fp32_bundle: Path, pair_successor: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from theseus_deploy.verify import verify
for folder in ({str(fp32_bundle)!r}, {str(pair_successor)!r}):
    assert all(check.ok for check in verify(Path(folder)))
sys.exit(", ".join(name for name in ("torch", "transformers", "onnx") if name in sys.modules) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
