import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from theseus_deploy.artifact import Artifact, Parent
from theseus_deploy.export.card import PURPOSE, model_card
from theseus_deploy.tasks import KINDS


def card_of(bundle: Path) -> ModelCard:
    return ModelCard((bundle / "README.md").read_text("utf-8"))


def tables(text: str) -> list[list[str]]:
    """The rows of all tables, as cells."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_every_kind_of_task_has_a_purpose() -> None:
    assert PURPOSE.keys() == KINDS.keys()


def test_the_hub_reads_the_front_matter(int8_bundle: Path, family: Callable[[str, str], Path]) -> None:
    assert card_of(int8_bundle).data.to_dict() == {
        "pipeline_tag": "text-classification", "library_name": "onnx", "tags": ["onnx", "theseus-deploy"],
    }  # fmt: skip
    assert card_of(family("bert", "tokens") / "bundle").data.pipeline_tag == "token-classification"


@pytest.mark.parametrize("bundle", ["int8_bundle", pytest.param("pair_bundle", marks=pytest.mark.thorough)])
def test_every_score_and_every_step_is_told(bundle: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(bundle)
    manifest, rows = Artifact.open(folder).manifest, tables(card_of(folder).text)
    header = next(row for row in rows if row[0] == "measured on")
    for where, scores in manifest.scores.items():
        told = dict(zip(header, next(row for row in rows if row[0] == where.replace("_", " ")), strict=True))
        assert {metric: told[metric] for metric in scores} == {name: f"{value:.4g}" for name, value in scores.items()}
    for entry in manifest.receipt["ledger"]:
        assert [entry["name"], f"{entry['parameters']:,}", f"{entry['bytes']:,}"] in rows
    assert len({len(row) for row in rows if row[0] in ("measured on", *manifest.scores)}) == 1


@pytest.mark.thorough
def test_the_lineage_goes_back_to_the_predecessor_by_name_and_never_by_path(
    pair_bundle: Path, pair_successor: Path, tiny_bert: Path
) -> None:
    text = card_of(pair_bundle).text
    predecessor, successor = (Artifact.open(path).manifest.parent for path in (pair_successor, pair_bundle))
    assert predecessor is not None
    assert successor is not None
    assert ["compress", tiny_bert.name, predecessor.sha256[:12], "4"] in tables(text)
    assert ["export (fp32)", pair_successor.name, successor.sha256[:12], "2"] in tables(text)
    assert "counted from 0: 0+1, 2+3." in text
    assert str(tiny_bert.parent) not in text
    assert "\n\n\n" not in text


def test_a_model_of_the_hub_is_named_as_the_base_and_a_folder_that_looks_like_one_is_not(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some-team--their-model"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "config.json").touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    manifest = Artifact.open(fp32_bundle).manifest
    fetched = ModelCard(model_card(replace(manifest, parent=Parent("some-team/their-model", "0" * 64)), None))
    assert fetched.data.base_model == "some-team/their-model"
    assert "# some-team/their-model, for production" in fetched.text
    local = ModelCard(model_card(replace(manifest, parent=Parent("runs/successor", "0" * 64)), None))
    assert local.data.base_model is None
    assert "# successor, for production" in local.text


def test_names_stay_within_their_cell_and_their_line(fp32_bundle: Path) -> None:
    manifest = Artifact.open(fp32_bundle).manifest
    task = replace(manifest.task, labels=("a`b", "c\nd", "S|NEG"))
    text = model_card(replace(manifest, task=task, parent=Parent("runs/we|ird", "0" * 64)), None)
    assert "Labels: `a'b`, `c d`, `S|NEG`." in text.splitlines()
    assert r"| export (fp32) | we\|ird | 000000000000 | 4 |" in text.splitlines()


@pytest.mark.parametrize("bundle", ["fp32_bundle", pytest.param("pair_bundle", marks=pytest.mark.slow)])
def test_its_code_runs(bundle: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(bundle)
    snippets = re.findall(r"```python\n(.*?)```", card_of(folder).text, re.DOTALL)
    assert len(snippets) == 2
    for code in snippets:
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("[")
