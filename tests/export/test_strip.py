import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from tests.conftest import make_bert
from theseus_deploy.artifact import Artifact, Manifest, Parent, fingerprint
from theseus_deploy.configs import ExportConfig
from theseus_deploy.errors import ExportError
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.export.strip import Predecessor, prove_strip
from theseus_deploy.tasks import Task

ORPHAN = Manifest(
    kind="checkpoint", stage="compress", config={}, parent=None, data=None, task=Task("regression", (), (), ""),
    parameters=1, layers=2,
)  # fmt: skip
TENSORS = 4 * 6 + 5  # matrices of layers; embeddings, pooler and head, which train too: biases and norms tell nothing


def read(folder: Path) -> Predecessor:
    """Read a predecessor as what a checkpoint on the disk was made from."""
    found = Predecessor.of(made_from(folder), Path())
    assert found is not None
    return found


def made_from(folder: Path, **changes: object) -> Manifest:
    return replace(ORPHAN, parent=Parent(str(folder), fingerprint(folder)), **changes)


@pytest.mark.thorough
def test_an_export_proves_the_strip_and_keeps_the_ledger_from_the_predecessor_to_int8(
    successor_bundle: Path, tiny_bert: Path
) -> None:
    manifest = Artifact.open(successor_bundle).manifest
    assert manifest.receipt["strip"] == {"predecessor": str(tiny_bert), "replaced": TENSORS}
    ledger = manifest.receipt["ledger"]
    assert [entry["name"] for entry in ledger] == ["predecessor", "checkpoint", "fp32", "int8-dynamic"]
    parameters = make_bert().num_parameters()
    assert ledger[0] == {"name": "predecessor", "parameters": parameters, "bytes": 4 * parameters}
    assert ledger[0]["parameters"] > ledger[1]["parameters"] == manifest.parameters
    card = (successor_bundle / "README.md").read_text()
    assert f"None of the predecessor's {TENSORS} tensors that were replaced is in the fp32 graph that this one" in card


@pytest.mark.thorough
@pytest.mark.parametrize("transposed", [True, False])
def test_a_tensor_of_the_predecessor_in_the_graph_is_named(
    successor: Path, tiny_bert: Path, pair_bundle: Path, tmp_path: Path, transposed: bool
) -> None:
    graph = onnx.load(pair_bundle / "model.onnx")
    name = "bert.encoder.layer.1.attention.self.query.weight"
    weight = load_file(tiny_bert / "model.safetensors")[name]
    stolen = onnx.numpy_helper.from_array((weight.T if transposed else weight).contiguous().numpy(), "stolen")
    hidden = onnx.helper.make_node("Constant", [], ["hidden"], value=stolen)
    graph.graph.node.append(hidden)
    onnx.save(graph, tmp_path / "model.onnx")
    model = AutoModelForSequenceClassification.from_pretrained(successor)
    with pytest.raises(ExportError, match=rf"the graph holds {name} of the predecessor {tiny_bert} \(as stolen\)"):
        prove_strip(read(tiny_bert).without(model), tmp_path / "model.onnx")


def test_the_predecessors_own_graph_is_no_successors(
    successor: Path, tiny_bert: Path, fp32_bundle: Path, tmp_path: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(successor)
    with pytest.raises(ExportError, match=r"holds bert\..* which was replaced; compress it again"):
        prove_strip(read(tiny_bert).without(model), fp32_bundle / "model.onnx")
    itself = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    assert prove_strip(read(tiny_bert).without(itself), fp32_bundle / "model.onnx")["replaced"] == 0


def test_a_predecessor_in_half_precision_is_compared_as_the_float32_that_it_is_loaded_as(
    save_model: Callable[..., Path],
) -> None:
    half = save_model(make_bert().to(torch.bfloat16), "half")
    model = AutoModelForSequenceClassification.from_pretrained(half, dtype=torch.float32)
    found = read(half)
    own = {tensor.sha256 for tensor in read(save_model(model, "full")).tensors}
    assert found.tensors
    assert {tensor.sha256 for tensor in found.tensors} == own
    parameters = model.num_parameters()
    assert found.entry == {"name": "predecessor", "parameters": parameters, "bytes": 4 * parameters}


def test_what_is_no_successor_has_no_predecessor(tiny_bert: Path) -> None:
    assert Predecessor.of(None, Path()) is None
    assert Predecessor.of(ORPHAN, Path()) is None
    assert Predecessor.of(made_from(tiny_bert, stage="finetune"), Path()) is None


def test_a_predecessor_is_found_above_its_successor_wherever_one_stands(
    tiny_bert: Path, shallow_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bert, tmp_path / "work" / "predecessor")
    another = shutil.copytree(shallow_bert, tmp_path / "elsewhere" / "predecessor")
    monkeypatch.chdir(another.parent)
    manifest = replace(ORPHAN, parent=Parent("predecessor", fingerprint(tiny_bert)))
    found = Predecessor.of(manifest, tmp_path / "work" / "runs" / "successor")
    assert found == replace(read(tiny_bert), ref="predecessor")
    lost = Predecessor.of(manifest, tmp_path / "runs" / "successor")
    assert lost is not None
    assert lost.unknown == "it has changed since"


@pytest.mark.thorough
def test_a_predecessor_that_cannot_be_read_is_told_in_the_receipt(
    tiny_bert: Path, save_model: Callable[..., Path], pair_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unproven(manifest: Manifest) -> object:
        found = Predecessor.of(manifest, Path())
        assert found is not None
        return prove_strip(found.without(make_bert()), pair_bundle / "model.onnx")["unproven"]

    counted = {"ledger": [{"name": "predecessor", "parameters": 9, "bytes": 36}]}
    for gone in (tmp_path / "gone", "gone", "some-team/gone", "demo:gone"):
        manifest = replace(ORPHAN, parent=Parent(str(gone), "0" * 64), receipt=counted)
        assert unproven(manifest) == "it is not here"
        assert Predecessor.of(manifest, Path()).entry == counted["ledger"][0]
    assert unproven(replace(ORPHAN, parent=Parent(str(tiny_bert), "0" * 64))) == "it has changed since"
    with monkeypatch.context() as patch:

        def refuse(path: Path, *arguments: Any, **named: Any) -> Any:  # as for another user; root may read all
            raise PermissionError(13, "Permission denied", str(path))

        patch.setattr(Path, "open", refuse)
        assert unproven(replace(ORPHAN, parent=Parent(str(tiny_bert), "0" * 64))) == "it cannot be read"
    pickled = save_model(make_bert(), "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert unproven(made_from(pickled)) == "its weights are not safetensors"
    (pickled / "theseus.json").write_text("{")
    assert unproven(replace(ORPHAN, parent=Parent(str(pickled), "0" * 64))) == "it has changed since"


@pytest.mark.thorough
def test_an_export_without_its_predecessor_says_so(pair_successor: Path, pairs: Path, tmp_path: Path) -> None:
    orphan = tmp_path / "orphan"
    manifest = replace(Artifact.open(pair_successor).manifest, parent=Parent(str(tmp_path / "gone"), "0" * 64))
    with Artifact.writing(orphan) as draft:
        for path in pair_successor.iterdir():
            (draft.path / path.name).write_bytes(path.read_bytes())
        (draft.path / "theseus.json").unlink()
        draft.finish(manifest)
    made = export_checkpoint(str(orphan), tmp_path / "out", ExportConfig(threads=1), data=str(pairs))
    assert made.manifest.receipt["strip"] == {"predecessor": str(tmp_path / "gone"), "unproven": "it is not here"}
    assert [entry["name"] for entry in made.manifest.receipt["ledger"]] == ["checkpoint", "fp32"]
