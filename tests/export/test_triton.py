"""`make interop` parses the configuration as Triton's own message; here it is read as text."""

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import largest_file
from theseus_deploy.artifact import Artifact
from theseus_deploy.errors import ArtifactError
from theseus_deploy.export.triton import claim_repository, write_repository

CONFIG = """\
name: "int8"
backend: "onnxruntime"
max_batch_size: 32
input { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }
input { name: "token_type_ids" data_type: TYPE_INT64 dims: [ -1 ] }
input { name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }
output { name: "logits" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { }
"""


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_model_repository_holds_the_graph_its_labels_and_what_the_server_must_know(
    int8_bundle: Path, tmp_path: Path
) -> None:
    place = write_repository(Artifact.open(int8_bundle), tmp_path / "models")
    assert place == tmp_path / "models" / int8_bundle.name
    assert (place / "config.pbtxt").read_text() == CONFIG
    assert (place / "labels.txt").read_text() == "negative\npositive\n"
    assert (place / "1" / "model.onnx").read_bytes() == (int8_bundle / "model.onnx").read_bytes()
    assert files(tmp_path) == [f"models/int8/{name}" for name in ("1/model.onnx", "config.pbtxt", "labels.txt")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (place, place / "1")} == {0o755}


def test_a_label_is_one_line_of_the_labels(int8_bundle: Path, tmp_path: Path) -> None:
    bundle = Artifact.open(int8_bundle)
    task = replace(bundle.manifest.task, labels=("not\ngood", "positive"))
    place = write_repository(replace(bundle, manifest=replace(bundle.manifest, task=task)), tmp_path / "models")
    assert (place / "labels.txt").read_text() == "not good\npositive\n"


def test_a_repository_may_be_a_disk_of_its_own(int8_bundle: Path, tmp_path: Path) -> None:
    volume = Path("/dev/shm")
    if not volume.is_mount():
        pytest.skip("no volume is mounted here")
    bundle = Artifact.open(shutil.copytree(int8_bundle, tmp_path / f"theseus-{tmp_path.name}-{os.getpid()}"))
    try:
        assert files(write_repository(bundle, volume)) == ["1/model.onnx", "config.pbtxt", "labels.txt"]
        assert list(volume.glob(f".{bundle.path.name}.*")) == []
    finally:
        shutil.rmtree(volume / bundle.path.name)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "output"), [("tokens", "dims: [ -1, 5 ] }"), ("regression", "dims: [ 1 ] }")])
def test_tokens_have_a_shape_of_their_own_and_a_number_has_no_labels(
    family: Callable[[str, str], Path], tmp_path: Path, kind: str, output: str
) -> None:
    place = write_repository(Artifact.open(family("distilbert", kind) / "bundle"), tmp_path)
    config = (place / "config.pbtxt").read_text()
    assert f'output {{ name: "logits" data_type: TYPE_FP32 {output}\n' in config
    assert config.count("input {") == 2
    assert files(place) == ["1/model.onnx", "config.pbtxt"]


def test_a_model_that_is_there_is_replaced_only_if_asked_and_only_if_it_is_one(
    int8_bundle: Path, tmp_path: Path
) -> None:
    bundle, place = Artifact.open(int8_bundle), tmp_path / "int8"
    write_repository(bundle, tmp_path)
    (place / "1" / "model.onnx").write_text("old")
    with pytest.raises(ArtifactError, match=r"int8 exists already; choose another --triton, or replace it with"):
        write_repository(bundle, tmp_path)
    assert (place / "1" / "model.onnx").read_text() == "old"
    write_repository(bundle, tmp_path, overwrite=True)
    assert (place / "1" / "model.onnx").stat().st_size > 1000
    (place / "config.pbtxt").unlink()
    with pytest.raises(ArtifactError, match=r"int8 exists already; choose another --triton, or move it away"):
        write_repository(bundle, tmp_path, overwrite=True)


def test_a_model_that_is_served_outlives_an_interruption_of_its_replacement(
    int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, place = Artifact.open(int8_bundle), tmp_path / "models" / "int8"
    write_repository(bundle, place.parent)
    (place / "1" / "model.onnx").write_text("old")
    move = Path.replace

    def interrupted(source: Path, target: Path) -> Path:
        if target == place and source.suffix == ".tmp":
            raise KeyboardInterrupt
        return move(source, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_repository(bundle, place.parent, overwrite=True)
    assert (place / "1" / "model.onnx").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_name_that_no_server_could_call_is_refused(tmp_path: Path) -> None:
    for name in ("a b", "ü", "", "a\nb"):
        with pytest.raises(ArtifactError, match=r"is no name for a model of Triton; choose an --out of letters"):
            claim_repository(tmp_path, name, overwrite=True)
    claim_repository(tmp_path, "my-model_v1.2", overwrite=False)


def test_a_full_disk_leaves_no_half_of_a_model(int8_bundle: Path, tmp_path: Path) -> None:
    bundle = Artifact.open(shutil.copytree(int8_bundle, tmp_path / "bundle"))
    with largest_file(20_000), pytest.raises(ArtifactError, match="cannot be written"):
        write_repository(bundle, tmp_path / "models")
    assert files(tmp_path / "models") == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
