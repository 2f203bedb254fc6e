from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.conftest import make_bert
from theseus_deploy.artifact import Artifact
from theseus_deploy.configs import ExportConfig
from theseus_deploy.errors import ConfigError, ExportError
from theseus_deploy.export.quantize.judge import Verdict
from theseus_deploy.export.quantize.scheme import KEPT, Part, Scheme, parts
from theseus_deploy.export.quantize.sensitivity import Budget, keep_within
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.progress import SILENT
from theseus_deploy.race import race
from theseus_deploy.verify import verify

BLOCKS = ("embeddings", "layer 0", "layer 1", "head")
PARTS = [Part(f"node of {block}", "MatMul", f"weight of {block}", block) for block in BLOCKS]
SCHEME = Scheme("dynamic", reduce_range=False)
# What each block does to 100 answers and to the logits when it is in int8; together they add up.
HARM = {"embeddings": (0, 0.01), "layer 0": (3, 0.20), "layer 1": (9, 0.10), "head": (3, 0.30)}


def harm(scheme: Scheme) -> Verdict:
    inside = [HARM[block] for block in BLOCKS if block not in scheme.kept]
    changed, distance = (sum(values) for values in zip(*inside, strict=True))
    return Verdict(1 - changed / 100, distance, changed / 200)


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (Budget(0.8, None), ()),
        (Budget(0.9, None), ("layer 1",)),
        (Budget(0.96, None), ("layer 1", "head")),
        (Budget(None, 0.03), ("layer 1",)),
        (Budget(0.9, 0.0), ("layer 1", "head", "layer 0")),
    ],
)
def test_the_most_sensitive_blocks_are_kept_until_the_budget_holds(budget: Budget, kept: tuple[str, ...]) -> None:
    sensitivity = keep_within(budget, SCHEME, PARTS, harm, harm, SILENT)
    assert list(sensitivity.blocks) == ["layer 1", "head", "layer 0", "embeddings"]
    assert sensitivity.scheme.kept == kept
    assert [scheme.kept for scheme, _ in sensitivity.tried] == [kept[:count] for count in range(len(kept) + 1)]


def test_a_budget_that_no_scheme_meets_is_an_error_that_names_it() -> None:
    with pytest.raises(ExportError, match=r"not within --min-agreement 1.1 even with 3 of 4 blocks .*; relax that"):
        keep_within(Budget(1.1, None), SCHEME, PARTS, harm, harm, SILENT)


def test_embeddings_that_are_not_asked_for_are_no_block() -> None:
    table = Part("lookup", "Gather", "table", "embeddings")
    scheme = Scheme("dynamic", reduce_range=False, embeddings=False)
    sensitivity = keep_within(Budget(0.0, None), scheme, [table, *PARTS[1:]], harm, harm, SILENT)
    assert "embeddings" not in sensitivity.blocks


@pytest.fixture(scope="module")
def fragile(save_model: Callable[..., Path]) -> Path:
    """A model whose second layer has a few enormous weights, which take the scale of all others with them."""
    model = make_bert()
    weight = model.bert.encoder.layer[1].output.dense.weight
    weight.data[:, ::16] *= 40
    return save_model(model, "fragile")


@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["dynamic", "static"])
def test_the_block_that_int8_breaks_is_found_and_kept(
    quantize: str, fragile: Path, corpus: Path, tmp_path: Path
) -> None:
    def export(name: str, **asked: float) -> Artifact:
        config = ExportConfig(quantize=quantize, threads=1, per_channel=False, **asked)  # type: ignore[arg-type]
        return export_checkpoint(str(fragile), tmp_path / name, config, data=str(corpus))

    plain = export("plain").manifest.scores["parity"]["max_abs_diff"]
    artifact = export("bundle", min_agreement=0.97, max_metric_drop=0.05)
    manifest = artifact.manifest
    receipt = manifest.receipt["quantization"]
    sensitivity = receipt["sensitivity"]
    assert sorted(entry["block"] for entry in sensitivity["blocks"]) == [
        "embeddings", "head", "layer 0", "layer 1", "layer 2", "layer 3",
    ]  # fmt: skip
    order = [(entry["label_agreement"], -entry["mean_abs_diff"]) for entry in sensitivity["blocks"]]
    assert order == sorted(order)
    assert (sensitivity["min_agreement"], sensitivity["max_metric_drop"]) == (0.97, 0.05)
    last = sensitivity["tried"][-1]
    assert receipt["kept"] == last["kept"] == [entry["block"] for entry in sensitivity["blocks"]][: len(last["kept"])]
    assert last["label_agreement"] == manifest.scores["parity"]["label_agreement"] >= 0.97
    assert last["metric_drop"] <= 0.05
    assert sensitivity["blocks"][0]["block"] == "layer 1"
    assert "layer 1" in receipt["kept"]
    assert manifest.scores["parity"]["max_abs_diff"] < plain
    graph = onnx.load(artifact.path / "model.onnx").graph
    assert {part.block for part in parts(graph)} >= set(receipt["kept"]) - {"head"}
    assert len(receipt["weights"][KEPT]) >= len(receipt["kept"])
    assert all(check.ok for check in verify(artifact.path))
    assert not [path for path in artifact.path.iterdir() if path.is_dir()]


@pytest.mark.thorough
def test_a_regression_is_ranked_by_its_numbers_and_judged_by_its_metric(
    pair_successor: Path, pairs: Path, tmp_path: Path
) -> None:
    config = ExportConfig(quantize="dynamic", threads=1, max_metric_drop=0.5)
    receipt = export_checkpoint(str(pair_successor), tmp_path / "b", config, data=str(pairs)).manifest.receipt
    blocks = receipt["quantization"]["sensitivity"]["blocks"]
    assert all(entry.keys() == {"block", "mean_abs_diff"} for entry in blocks)
    assert np.all(np.diff([entry["mean_abs_diff"] for entry in blocks]) <= 0)


def test_a_budget_is_for_int8_and_for_what_can_be_measured(
    pair_successor: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"--min-agreement 0.9 is a budget for int8, and --quantize none has none"):
        ExportConfig(min_agreement=0.9)
    config = ExportConfig(quantize="dynamic", max_metric_drop=0.01)
    with pytest.raises(ConfigError, match="found on rows with labels, and 0 were given; name them with --data"):
        export_checkpoint(str(tiny_bert), tmp_path / "bundle", config)
    config = ExportConfig(quantize="dynamic", min_agreement=0.9)
    with pytest.raises(ConfigError, match=r"--min-agreement 0.9 is about labels, and a regression has none"):
        export_checkpoint(str(pair_successor), tmp_path / "bundle", config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("settings", [{"quantize": "dynamic", "max_metric_drop": 0.0}, {"quantize": "auto"}])
def test_rows_that_any_graph_is_good_enough_for_are_refused_before_the_work(
    pair_successor: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    rows = tmp_path / "two.csv"
    rows.write_text("sentence1,sentence2,label\ngood film,bad film,0.5\nlong story,good story,3.25\n")
    with pytest.raises(ConfigError, match=r"--max-metric-drop \S+ cannot be judged: pearson of 2 rows may be anything"):
        export_checkpoint(
            str(pair_successor), tmp_path / "out", ExportConfig(threads=1, **settings), data=str(rows), timer=race
        )
    assert [path.name for path in tmp_path.iterdir()] == ["two.csv"]
