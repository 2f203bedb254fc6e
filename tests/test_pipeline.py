"""A whole recipe on a tiny model: every stage, what is skipped and done again; and a benchmark with a reference."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.benchmark.requests import asked
from tests.cli.conftest import Ran, theseus  # noqa: F401 - a fixture
from tests.conftest import largest_file
from tests.watcher import Watcher
from theseus_deploy.artifact import Artifact
from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.configs import BenchmarkConfig, ExportConfig, Quantize
from theseus_deploy.errors import ArtifactError, ConfigError, DataError, TheseusError
from theseus_deploy.machine import this_machine
from theseus_deploy.pipeline import Export, Recipe, benchmark_with_reference, run
from theseus_deploy.verify import verify

RECIPE = """
model: {model}
data: {data}
seed: 3
threads: 1
finetune: {{max-steps: 40, batch-size: 16, lr: 2.0e-3, precision: fp32}}
compress: {{layers: {layers}, max-steps: 30, batch-size: 16, lr: 1.0e-3, precision: fp32}}
export:
  - {{of: predecessor}}
  - {{of: successor, quantize: dynamic}}
"""
BENCHMARK = "benchmark: {batch: [1], min-samples: 5, max-seconds: 3, max-size-ratio: 0.01}"  # no model is so small
FOLDERS = ["predecessor", "predecessor-onnx-fp32", "successor", "successor-onnx-int8"]
REPORTS = ["report.html", "report.json", "report.md"]


@pytest.mark.slow
def test_a_recipe_runs_once_and_then_only_what_changed(
    encoder_only: Path,
    corpus: Path,
    tmp_path: Path,
    theseus: Callable[..., Ran],  # noqa: F811
) -> None:
    def write(layers: int, benchmark: str) -> None:
        recipe = RECIPE.format(model=encoder_only, data=corpus, layers=layers)
        (tmp_path / "recipe.yaml").write_text(recipe + benchmark)

    def go() -> tuple[Ran, dict[str, int]]:
        ran = theseus("run", tmp_path / "recipe.yaml")
        stamps = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/theseus.json")}
        return ran, {**stamps, "report": (out / "report.json").stat().st_mtime_ns}

    out = tmp_path / "recipe"
    write(2, BENCHMARK)
    first, before = go()
    assert first.code == 3, first.err  # the gate fails, and what was made is kept
    assert sorted(path.name for path in out.iterdir()) == sorted([*FOLDERS, *REPORTS])
    assert "successor-onnx-int8" in first.out
    report = BenchmarkReport.open(out / "report.json")
    assert len(report.candidates) == 3
    assert {one.runtime for one in report.candidates} == {"torch", "onnxruntime"}
    assert report.verdict == "fail"
    parent = Artifact.open(out / "successor").manifest.parent
    assert parent is not None
    assert parent.sha256 == Artifact.open(out / "predecessor").sha256

    again, stamps = go()
    assert (again.code, stamps) == (3, before)
    assert again.err.count("nothing changed, kept") == 5

    for view in ("report.html", "report.md"):
        (out / view).unlink()
    again, stamps = go()
    assert (again.code, stamps, again.err.count("nothing changed, kept")) == (3, before, 5)
    assert sorted(path.name for path in out.iterdir()) == sorted([*FOLDERS, *REPORTS])

    for undone in ("{}", (out / "report.json").read_text().replace('"verdict": "fail"', '"verdict": "inconclusive"')):
        (out / "report.json").write_text(undone)
        again, stamps = go()
        assert (again.code, again.err.count("nothing changed, kept")) == (3, 4)
        assert BenchmarkReport.open(out / "report.json").verdict == "fail"
    before = stamps

    write(3, "")
    changed, after = go()
    assert changed.code == 0, changed.err
    assert {name for name in after if after[name] == before[name]} == {"predecessor", "predecessor-onnx-fp32", "report"}
    assert Artifact.open(out / "successor-onnx-int8").manifest.layers == 3


def test_a_stage_that_fails_keeps_the_stages_before_it(encoder_only: Path, corpus: Path, tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE.format(model=encoder_only, data=corpus, layers=9), "recipe")
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="9"):
        run(recipe, out)
    assert [path.name for path in out.iterdir()] == ["predecessor"]
    stamp = (out / "predecessor" / "theseus.json").stat().st_mtime_ns
    assert all(check.ok for check in verify(out / "predecessor"))
    with pytest.raises(ConfigError, match="9"):
        run(recipe, out)
    assert (out / "predecessor" / "theseus.json").stat().st_mtime_ns == stamp
    (out / "predecessor" / "theseus.json").write_text("{")
    with pytest.raises(ConfigError, match="9"):
        run(recipe, out)
    assert all(check.ok for check in verify(out / "predecessor"))  # a damaged folder is written again


def test_a_recipe_whose_data_is_not_there_leaves_nothing(encoder_only: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run(Recipe.parse(RECIPE.format(model=encoder_only, data=tmp_path / "data", layers=2), "a"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_no_export_can_be_made_of_is_said_before_anything_is_trained(encoder_only: Path, tmp_path: Path) -> None:
    recipe = {"model": str(encoder_only), "data": "x.csv", "export": {"of": "successor", "quantize": "fp16"}}
    with pytest.raises(ConfigError, match="--quantize fp16 is for GPUs"):
        run(Recipe.parse(json.dumps(recipe), "recipe"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tracker_that_is_missing_is_said_before_anything_is_trained(
    encoder_only: Path, corpus: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.format(model=encoder_only, data=corpus, layers=2).replace(
        "{layers: 2", "{report-to: wandb, layers: 2"
    )
    with pytest.raises(ConfigError, match="--report-to wandb is not installed"):
        run(Recipe.parse(recipe, "a recipe"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("benchmark", "reason"),
    [
        ("against: gone.json", r"gone\.json is no benchmark report"),
        ("threads-sweep: 512", "--threads-sweep 512 is more than the"),
        ("against: {out}/report.json", r"report\.json is what --against compares with"),
    ],
)
def test_what_no_benchmark_can_be_made_of_is_said_before_anything_is_trained(
    encoder_only: Path, corpus: Path, tmp_path: Path, benchmark: str, reason: str
) -> None:
    recipe = RECIPE.format(model=encoder_only, data=corpus, layers=2)
    recipe += f"benchmark: {{{benchmark.format(out=tmp_path / 'out')}}}"
    with pytest.raises(TheseusError, match=reason):
        run(Recipe.parse(recipe, "a recipe"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", ["model: 2001-99-99", "[" * 5000, "data: !!map [1]"], ids=["date", "brackets", "tag"]
)
def test_what_yaml_chokes_on_is_one_line(content: str) -> None:
    with pytest.raises(ConfigError, match=r"^recipe is no YAML \(.*\); correct it$"):
        Recipe.parse(content, "recipe")


@pytest.mark.parametrize(
    ("more", "key"),
    [("model: other", "model"), ("compress: {lr: 1, batch-size: 8, lr: 2}", "lr"), ("export: [{a: 1, a: 2}]", "a")],
)
def test_a_key_given_twice_is_refused(more: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^recipe is no YAML \(key '{key}' is there twice in .*, line \d"):
        Recipe.parse(f"model: a\ndata: b\n{more}", "recipe")


def test_an_export_runs_on_the_cpu_wherever_the_trainings_do() -> None:
    recipe = Recipe.parse(f"device: cuda\n{RECIPE.format(model='a', data='b', layers=2)}", "recipe")
    assert (recipe.compress.device, recipe.exports[0].config.device) == ("cuda", "auto")


def test_the_command_line_overrides_every_stage_of_a_recipe() -> None:
    recipe = Recipe.parse(RECIPE.format(model="a", data="b", layers=2) + BENCHMARK, "recipe")
    found = recipe.overridden({"device": "cuda", "threads": 2, "seed": None})
    assert recipe.overridden({"device": None, "threads": None, "seed": None}) == recipe
    stages = [found.finetune, found.compress, found.benchmark, found.exports[0].config]
    assert [(stage.device, stage.threads, stage.seed) for stage in stages if stage] == [
        ("cuda", 2, 3), ("cuda", 2, 3), ("cuda", 2, 3), ("auto", 2, 3),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="--threads 0 is"):
        recipe.overridden({"threads": 0})


def test_the_demo_is_a_recipe_that_ships() -> None:
    recipe = Recipe.shipped("demo")
    assert (recipe.model, recipe.data) == ("demo:minilm", "demo:tweets")
    assert recipe.finetune is not None
    assert recipe.compress.layers == 3
    assert [export.folder for export in recipe.exports] == [
        "predecessor-onnx-fp32", "successor-onnx-fp32", "successor-onnx-int8",
    ]  # fmt: skip


def test_every_way_to_quantise_names_a_folder_of_its_own() -> None:
    folders = {Export("successor", ExportConfig(quantize=quantize)).folder for quantize in get_args(Quantize)}
    assert len(folders) == len(get_args(Quantize))


def test_keys_set_once_hold_for_every_stage() -> None:
    recipe = Recipe.parse(RECIPE.format(model="a", data="b", layers=2) + BENCHMARK, "recipe")
    assert recipe.finetune is not None
    assert recipe.benchmark is not None
    stages = [recipe.finetune, recipe.compress, recipe.exports[0].config, recipe.benchmark]
    assert {stage.seed for stage in stages} == {3}
    assert {stage.threads for stage in stages} == {1}


@pytest.mark.parametrize("spelled", ["'one, two'", "[one, two]"])
def test_columns_are_named_by_a_list_or_as_on_the_command_line(spelled: str) -> None:
    recipe = Recipe.parse(f"{{model: a, data: b, text: {spelled}, label: {spelled}}}", "recipe")
    assert (recipe.text, recipe.label) == (("one", "two"), "one,two")
    recipe = Recipe.parse("{model: a, data: b}", "recipe")
    assert (recipe.text, recipe.label) == (None, None)


@pytest.mark.parametrize("spelled", ["''", "[]", "[a, null]", "{a: b}", "[a, [b]]", "'a,,b'"])
def test_what_names_no_column_is_refused(spelled: str) -> None:
    for key in ("text", "label"):
        with pytest.raises(ConfigError, match="names no columns; write a name, or a list of names"):
            Recipe.parse(f"{{model: a, data: b, {key}: {spelled}}}", "recipe")


def test_a_folder_that_can_hold_no_report_is_refused_before_anything_is_trained(
    encoder_only: Path, corpus: Path, fp32_bundle: Path
) -> None:
    recipe = RECIPE.format(model=encoder_only, data=corpus, layers=2) + BENCHMARK
    before = sorted(fp32_bundle.iterdir())
    with pytest.raises(ConfigError, match="lies in a folder that theseus has made and checks; choose another place"):
        run(Recipe.parse(recipe, "a recipe"), fp32_bundle)
    assert sorted(fp32_bundle.iterdir()) == before


@pytest.mark.parametrize("spelled", ["no", "[on]"])
def test_a_name_that_yaml_reads_as_true_or_false_is_to_be_quoted(spelled: str) -> None:
    with pytest.raises(ConfigError, match="YAML reads yes, no, on and off as true and false; quote the name"):
        Recipe.parse(f"{{model: a, data: b, label: {spelled}}}", "recipe")


@pytest.mark.parametrize(
    ("key", "places"),
    [("epochs", "finetune: or compress:"), ("layers", "compress:"), ("min-agreement", "export:"),
     ("max_p50_ratio", "benchmark:")],
)  # fmt: skip
def test_a_key_of_a_section_that_stands_at_the_top_is_sent_there(key: str, places: str) -> None:
    with pytest.raises(ConfigError, match=rf"recipe: key '{key}' is unknown; write it below {places}$"):
        Recipe.parse(f"{{model: a, data: b, {key}: 1}}", "recipe")


@pytest.mark.slow
def test_a_reference_is_measured_and_not_judged(tiny_bert: Path, successor_bundle: Path, corpus: Path) -> None:
    """One run with all that may be asked: the baseline in the bundle's runtime, bf16, and an earlier report."""
    config = BenchmarkConfig(
        batch=(4,), min_samples=5, max_seconds=1, threads=1, max_size_ratio=1.0, bf16=this_machine().native_bf16
    )
    watcher = Watcher()
    wanted = asked([str(successor_bundle)], tiny_bert, corpus, config)
    report = benchmark_with_reference(wanted, watcher)
    roles = {one.name: one.role for one in report.candidates}
    (exported,) = (one for one in report.candidates if one.runtime == "onnxruntime" and one.role == "reference")
    assert exported.name == f"{tiny_bert.name}-onnx-fp32 (onnxruntime)"
    assert (exported.path, exported.precision) == (str(tiny_bert), "fp32")
    assert exported.scores == report.baseline.scores
    assert {gate.candidate for gate in report.gates} == {name for name in roles if roles[name] == "candidate"}
    halves = [one for one in report.candidates if one.precision == "bf16"]
    for one in halves:
        assert (one.runtime, one.role) == ("torch", "reference")
        assert one.loyalty is not None
        assert 0.9 < one.loyalty.probability < 1 - 1e-6  # near the baseline, and not it
    assert any(line.startswith(f"Exporting {tiny_bert} to fp32 ONNX") for line in watcher.told)
    assert report.request == wanted.identity()


def test_a_reference_that_finds_no_room_is_not_blamed_on_a_flag_of_another_command(
    tiny_bert: Path, int8_bundle: Path, corpus: Path
) -> None:
    wanted = asked([str(int8_bundle)], tiny_bert, corpus, BenchmarkConfig(threads=1))
    with largest_file(100), pytest.raises(ArtifactError) as stopped:
        benchmark_with_reference(wanted)
    assert str(stopped.value).startswith(f"{tiny_bert} cannot be exported to {tempfile.gettempdir()}")
    assert str(stopped.value).endswith(
        "(File too large); free space, name another folder in TMPDIR, or leave the exported baseline out with "
        "--no-reference"
    )


@pytest.mark.parametrize(
    ("data", "changed", "said"),
    [
        ("nowhere.csv", {}, "nowhere.csv does not exist"),
        (None, {"against": "nowhere.json"}, "nowhere.json is no benchmark report"),
        (None, {"threads_sweep": (4096,)}, "--threads-sweep 4096"),
    ],
)
def test_nothing_is_exported_for_a_wrong_request(
    tiny_bert: Path, int8_bundle: Path, corpus: Path, data: str | None, changed: dict[str, Any], said: str
) -> None:
    watcher, config = Watcher(), BenchmarkConfig(threads=1, **changed)
    with pytest.raises(TheseusError, match=said):
        benchmark_with_reference(asked([str(int8_bundle)], tiny_bert, data or corpus, config), watcher)
    assert watcher.told == []
