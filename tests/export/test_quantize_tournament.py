import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import make_rows
from theseus_deploy.artifact import Artifact
from theseus_deploy.configs import BenchmarkConfig, ExportConfig
from theseus_deploy.errors import ArtifactError, ConfigError, ModelError
from theseus_deploy.export.quantize import sensitivity
from theseus_deploy.export.quantize.sensitivity import Budget
from theseus_deploy.export.quantize.tournament import DEFAULT, SETTINGS, Entry, Racer, Speed, Tournament
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.predictor import Predictor
from theseus_deploy.progress import SILENT
from theseus_deploy.race import race
from theseus_deploy.splits import Split
from theseus_deploy.verify import verify
from theseus_deploy_cli import console

FASTEST = {"static per tensor": 0.5, "threads that do not spin": 0.9, "openvino": 0.7}  # of those that this clock knows
TEXTS = [text for text, _ in make_rows(40, seed=5)]


def clock(racers: Mapping[str, Racer], split: Split, max_length: int, config: Any, progress: Any) -> dict[str, Speed]:
    """Give speeds as a machine might; each racer must be a bundle that answers."""
    for racer in racers.values():
        assert Predictor(racer.folder, threads=1).task.max_length == max_length
    assert len(split) == 96  # the rows that are judged on, and none of ours
    ratios = {name: FASTEST.get(name, 1.0) for name in racers}
    return {name: Speed(ratio / 100, ratio, (ratio - 0.02, ratio + 0.02)) for name, ratio in ratios.items()}


@pytest.fixture(scope="module")
def champion(tiny_bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    config = ExportConfig(quantize="auto", min_agreement=0.9, threads=1)
    out = tmp_path_factory.mktemp("tournaments") / "champion"
    return export_checkpoint(str(tiny_bert), out, config, data=str(corpus), timer=clock)


@pytest.mark.thorough
def test_the_fastest_ships_with_its_settings_and_the_table_of_all(champion: Artifact) -> None:
    manifest = champion.manifest
    table = manifest.receipt["quantization"]["tournament"]
    assert manifest.precision == "int8-static"
    assert manifest.receipt["quantization"]["per_channel"] is False
    assert manifest.receipt["quantization"]["calibration"]["rows"] == 128
    assert table["sequence"] == "data"
    assert [entry["name"] for entry in table["entries"]] == [
        "fp32", "dynamic per channel", "dynamic per tensor", "static per channel", "static per tensor",
    ]  # fmt: skip
    assert all(entry["interval"][0] < entry["ratio"] < entry["interval"][1] for entry in table["entries"])
    assert all(entry["label_agreement"] >= 0.9 for entry in table["entries"][1:])
    assert table["winner"] == "static per tensor"
    assert [run["name"] for run in table["runs"]] == [DEFAULT, *SETTINGS, "openvino"]
    assert manifest.receipt["session"] == SETTINGS["threads that do not spin"] == SETTINGS[table["setting"]]
    assert table["faster_runtime"] == "openvino"
    assert "openvino runs this file faster" in (champion.path / "README.md").read_text("utf-8")
    assert all(check.ok for check in verify(champion.path))
    assert {path.name for path in champion.path.iterdir()} == {*champion.files, "theseus.json"}  # no trial is left


@pytest.mark.thorough
def test_the_table_is_printed(champion: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    console.print_artifact(champion, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("<- ships")] == [
        line for line in lines if line.startswith(("    static per tensor  ", "    threads that do not spin  "))
    ]
    assert any("5.00 ms  0.50 [0.48, 0.52]" in line for line in lines)
    assert lines[-1] == "  openvino runs this model.onnx faster here"
    assert any("the median of one input at the data's lengths" in line for line in lines)
    table = champion.manifest.receipt["quantization"]["tournament"]
    console._print_tournament({**table, "sequence": "made up"})
    assert "the median of one made-up input" in capsys.readouterr().out


@pytest.mark.slow
def test_the_graph_that_ships_is_the_one_that_won(
    champion: Artifact, tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    config = ExportConfig(quantize="static", per_channel=False, threads=1)
    asked = export_checkpoint(str(tiny_bert), tmp_path / "asked", config, data=str(corpus)).path
    np.testing.assert_array_equal(Predictor(champion.path, 1).logits(TEXTS), Predictor(asked, 1).logits(TEXTS))


@pytest.mark.slow
def test_what_is_outside_the_budget_drops_out_and_fp32_ships(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "AGREEMENT", 1.1)
    raced = []

    def timer(racers: Mapping[str, Racer], *_: Any) -> dict[str, Speed]:
        raced.append(list(racers))
        if "openvino" in racers:
            raise ModelError("openvino cannot run this")
        return {name: Speed(0.01, 1.0, (1.0, 1.0)) for name in racers}

    config = ExportConfig(quantize="auto", per_channel=False, threads=1)
    artifact = export_checkpoint(str(tiny_bert), tmp_path / "fp32", config, timer=timer)
    manifest = artifact.manifest
    table = manifest.receipt["quantization"]["tournament"]
    fp32, dynamic = table["entries"]
    assert table["sequence"] == "made up"
    assert raced == [["fp32"], [DEFAULT, *SETTINGS, "openvino"], [DEFAULT, *SETTINGS]]
    assert (dynamic["name"], dynamic["out"]) == ("dynamic per tensor", "not within --min-agreement 1.1")
    assert "p50" in fp32
    assert "p50" not in dynamic
    assert manifest.precision == "fp32"
    assert manifest.scores.keys() == {"parity"}
    assert [entry["name"] for entry in manifest.receipt["ledger"]] == ["checkpoint", "fp32"]
    assert "session" not in manifest.receipt
    assert all(check.ok for check in verify(artifact.path))


@pytest.mark.slow
@pytest.mark.parametrize("per_channel", [True, False])
def test_blocks_stay_fp32_where_int8_is_outside_the_budget(tiny_bert: Path, tmp_path: Path, per_channel: bool) -> None:
    config = ExportConfig(quantize="auto", min_agreement=1.0, threads=1, per_channel=per_channel)
    table = export_checkpoint(
        str(tiny_bert), tmp_path / "bundle", config,
        timer=lambda racers, *_: {name: Speed(0.02 if name == "fp32" else 0.01, 1.0, (1.0, 1.0)) for name in racers},
    ).manifest.receipt["quantization"]["tournament"]  # fmt: skip
    _, whole, partly = table["entries"][:3]
    assert whole["out"] == "not within --min-agreement 1"
    assert partly["name"].endswith("blocks fp32")
    assert (partly["label_agreement"], table["winner"]) == (1.0, partly["name"])


def test_a_setting_that_may_be_no_faster_is_not_taken() -> None:
    speeds = {"fp32": Speed(0.02, 1.0, (1.0, 1.0)), "dynamic": Speed(0.01, 0.5, (0.4, 0.6))}
    entries = [Entry(name, None, 1, None) for name in speeds]
    first, second = SETTINGS
    runs = {DEFAULT: speeds["dynamic"], first: Speed(0.001, 0.1, (0.05, 1.0)), "openvino": Speed(0.02, 2.0, (2, 2))}
    found = Tournament(Budget(0.99, None), entries, speeds, runs)
    assert (found.winner.name, found.setting, found.session) == ("dynamic", DEFAULT, {})
    assert "faster_runtime" not in found.to_json()
    surer = {first: Speed(0.009, 0.9, (0.8, 0.95)), second: Speed(0.008, 0.8, (0.7, 0.99))}
    assert Tournament(found.budget, entries, speeds, {**runs, **surer}).session == SETTINGS[second]


def test_the_race_times_bundles_in_processes_of_their_own(fp32_bundle: Path, int8_bundle: Path) -> None:
    racers = {"first": Racer(fp32_bundle), "second": Racer(int8_bundle), "third": Racer(fp32_bundle, "openvino")}
    split = Split("texts", [(text,) for text in TEXTS], [""] * len(TEXTS))
    speeds = race(racers, split, 64, BenchmarkConfig(threads=1, max_seconds=1.0), SILENT)
    assert list(speeds) == list(racers)
    assert speeds["first"].ratio == 1.0
    for speed in speeds.values():
        assert speed.interval[0] <= speed.ratio <= speed.interval[1]
        assert speed.p50 > 0


def test_a_bundles_settings_reach_onnxruntime(fp32_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(fp32_bundle, tmp_path / "bundle"))
    manifest = json.loads((bundle / "theseus.json").read_text("utf-8"))
    for settings, opens in (
        ({"session.intra_op.allow_spinning": "0"}, True),
        ({"session.load_model_format": "ORT"}, False),
    ):
        manifest["receipt"]["session"] = settings
        (bundle / "theseus.json").write_text(json.dumps(manifest), "utf-8")
        if opens:
            expected = Predictor(fp32_bundle, threads=1).logits(TEXTS)
            np.testing.assert_array_equal(Predictor(bundle, threads=1).logits(TEXTS), expected)
        else:
            with pytest.raises(ArtifactError, match=r"cannot be loaded .*; export the bundle again"):
                Predictor(bundle, threads=1)


def test_a_bundle_leaves_the_arithmetic_of_its_host_alone(fp32_bundle: Path, tmp_path: Path) -> None:
    """Bundles of before ask for denormals as zero, which the first session of a process sets for the thread."""
    bundle = Path(shutil.copytree(fp32_bundle, tmp_path / "bundle"))
    manifest = json.loads((bundle / "theseus.json").read_text("utf-8"))
    manifest["receipt"]["session"] = {"session.set_denormal_as_zero": "1"}
    (bundle / "theseus.json").write_text(json.dumps(manifest), "utf-8")
    code = f"""
from theseus_deploy.predictor import Predictor
Predictor({str(bundle)!r}, 1).predict(["good"])
print(float("5e-324") * 1.0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "5e-324\n"


def test_auto_says_what_it_lacks_before_anything_is_read(tmp_path: Path, pair_successor: Path) -> None:
    config = ExportConfig(quantize="auto", threads=1)
    with pytest.raises(ConfigError, match=r"--quantize auto judges a regression .* 0 were given; .* --data"):
        export_checkpoint(str(pair_successor), tmp_path / "bundle", config, timer=race)
    with pytest.raises(ConfigError, match=r"no timer was given; pass theseus_deploy.race.race"):
        export_checkpoint("nowhere", tmp_path / "bundle", config)
    assert not list(tmp_path.iterdir())
