"""A manifest says what a folder is; one that cannot be read is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import CORPUS, make, manifest, names, refuse
from theseus_deploy.artifact import MANIFEST, Artifact

CONTRACT = {
    "schema", "kind", "stage", "config", "parent", "task", "files", "parameters", "layers", "precision", "module_map",
    "scores", "versions", "machine", "created",
}  # fmt: skip
ADDED = {"data", "receipt"}


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    artifact = make(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(artifact.path) == ["config.json", "model.safetensors", "sub", MANIFEST]
    assert artifact.manifest == manifest()
    content = json.loads((artifact.path / MANIFEST).read_text("utf-8"))
    assert content.keys() == CONTRACT | ADDED
    assert content["schema"] == 1
    assert content["parent"] == {"path": "encoder", "sha256": "0" * 64}
    assert content["task"].keys() == {"kind", "labels", "text", "label", "max_length", "metric"}
    assert content["machine"].keys() == {"cpu", "isa", "cores"}
    assert content["data"] == {"ref": "tweets.csv", "sha256": CORPUS.sha256, "rows": {"train": 2}}
    assert content["versions"]["torch"]
    assert content["created"].endswith("+00:00")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"schema": 2}', "has schema 2; this version reads 1: upgrade theseus-deploy"),
        ("{", "is damaged (Expecting property name"),
        ("[]", "is damaged ("),
        ("{}", "is damaged (it has no 'schema')"),
        ('{"schema": 1}', "is damaged (it has no 'files')"),
        (b"\xff", "is damaged ('utf-8' codec can't decode"),
        ({"files": []}, "is damaged ("),
        ({"files": {"a": 1}}, "is damaged ("),
        ({"task": {"kind": "poetry", "labels": [], "text": [], "label": "", "max_length": 8}}, "'poetry' is unknown"),
        ({"parent": {"path": "x"}}, "is damaged ("),
        ({"parent": {"path": 1, "sha256": "x"}}, "is damaged (path is 1)"),
        ({"precision": None}, "is damaged (precision is None)"),
        ({"precision": "int4"}, "is damaged (precision is int4, and can be fp32, fp16, int8-dynamic, int8-static)"),
        ({"kind": "x"}, "is damaged (kind is x, and can be checkpoint, bundle)"),
        ({"stage": "x"}, "is damaged (stage is x, and can be finetune, compress, export)"),
        ({"module_map": [[0, 1], "2"]}, "is damaged (module_map is "),
        ({"files": {"a": {"sha256": "x", "bytes": "951"}}}, "is damaged (the bytes of a are 951)"),
        ({"parameters": "many"}, "is damaged (parameters is many)"),
        ("[" * 200_000, "is damaged ("),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    artifact = make(tmp_path / "out")
    path = artifact.path / MANIFEST
    if isinstance(content, dict):
        content = json.dumps({**json.loads(path.read_text()), **content})
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert reason in refuse(lambda: Artifact.open(artifact.path))


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    assert f"has no readable {MANIFEST}; give a folder that theseus wrote" in refuse(lambda: Artifact.open(tmp_path))
    assert not Artifact.exists(tmp_path)
