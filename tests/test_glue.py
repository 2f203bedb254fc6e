"""GLUE's facts are those of its paper, and its recipes those of ours."""

import re
from importlib.resources import files
from math import ceil
from pathlib import Path

import pytest
import yaml

from theseus_deploy import glue
from theseus_deploy.builtin import RECIPES
from theseus_deploy.compress.schedule import Schedule
from theseus_deploy.data import open_data
from theseus_deploy.errors import ConfigError, DataError
from theseus_deploy.pipeline import Recipe, folder_for
from theseus_deploy.splits import TEXT_COLUMNS
from theseus_deploy.tasks import KINDS
from theseus_deploy.training import Length

TRAINING_ROWS = {
    "cola": 8_551, "mnli": 392_702, "mrpc": 3_668, "qnli": 104_743, "qqp": 363_846, "rte": 2_490, "sst2": 67_349,
    "stsb": 5_749,
}  # fmt: skip
RATE_IS_ONE_WITHIN = (1_000, 5_000, 10_000, 30_000)  # the paper's grids
LEARNING_RATES, BASE_RATES = (1e-5, 2e-5), (0.1, 0.3)


def test_the_table_holds_the_tasks_of_the_paper() -> None:
    assert glue.TASKS.keys() == TRAINING_ROWS.keys()
    assert [glue.TASKS[name].labels[1] for name in ("mrpc", "qqp", "cola")] == ["equivalent", "duplicate", "acceptable"]
    metrics = {name: task.metric for name, task in glue.TASKS.items() if task.metric != "accuracy"}
    assert metrics == {"cola": "matthews", "mrpc": "f1", "qqp": "f1", "stsb": "pearson"}
    assert {name for name, task in glue.TASKS.items() if not task.labels} == {"stsb"}


@pytest.mark.parametrize("task", glue.TASKS.values(), ids=glue.TASKS)
def test_a_task_is_judged_by_a_metric_that_it_has(task: glue.GlueTask) -> None:
    assert task.metric in KINDS["single-label" if task.labels else "regression"].metrics
    assert task.metric != "f1" or len(task.labels) == 2
    assert task.text in TEXT_COLUMNS


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("glue/mrpc", "glue/mrpc"),
        ("glue/SST-2", "glue/sst2"),
        ("glue/sts_b", "glue/stsb"),
        ("GLUE/CoLA", "glue/cola"),
        ("my-glue/SST-2", "my-glue/SST-2"),
        ("Recipe-1.yaml", "Recipe-1.yaml"),
    ],
)
def test_names_are_spelled_as_people_do(name: str, known: str) -> None:
    assert glue.spelled(name) == known


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("glue/mrcp", "glue/mrcp is no built-in data set; did you mean 'glue/mrpc'?"),
        ("glue/STS-C", "glue/STS-C is no built-in data set; did you mean 'glue/stsb'?"),
        ("glue/mrpc.csv", "glue/mrpc.csv does not exist; give a folder"),
        ("glue/mrpc/train", "glue/mrpc/train does not exist; give a folder"),
    ],
)
def test_a_task_mistyped_is_suggested(ref: str, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        open_data(ref)
    assert str(caught.value).startswith(reason)


def test_a_folder_of_that_name_is_read_instead_and_knows_nothing_of_glue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "glue" / "mrpc").mkdir(parents=True)
    rows = "sentence1\tsentence2\tlabel\na\tb\tequivalent\nc\td\tnot_equivalent\n"
    (tmp_path / "glue" / "mrpc" / "train.tsv").write_text(rows)
    monkeypatch.chdir(tmp_path)
    corpus = open_data("glue/mrpc")
    assert corpus.splits["train"].texts == [("a", "b"), ("c", "d")]
    assert (corpus.names, corpus.metric) == ((), "")


@pytest.mark.parametrize(("name", "rows"), TRAINING_ROWS.items(), ids=TRAINING_ROWS)
def test_a_recipe_is_a_point_of_the_papers_grids(name: str, rows: int) -> None:
    recipe = Recipe.shipped(f"glue/{name}")
    config = recipe.compress
    assert (recipe.model, recipe.data) == ("google-bert/bert-base-uncased", f"nyu-mll/glue:{name}")
    assert (config.method, config.schedule, config.layers, config.init, config.thaw, config.decay) == (
        "theseus", "linear", 6, "bottom", "none", "linear",
    )  # fmt: skip
    assert (config.batch_size, config.max_length, config.precision) == (32, 128, "fp32")
    assert config.lr in LEARNING_RATES
    assert config.base_rate in BASE_RATES
    length = Length.of(config, rows)
    schedule = Schedule.of(config.schedule, config.base_rate, length.steps, config.replace_until, config.k)
    within = next(steps for steps in RATE_IS_ONE_WITHIN if schedule.replacing_steps <= steps)
    assert schedule.replacing_steps > 0.99 * within
    assert length.steps == 3 * within  # long enough to fine-tune the successor, and to stop early
    assert within == min(RATE_IS_ONE_WITHIN, key=lambda steps: abs(steps / (3 * length.steps_per_epoch) - 1))
    assert config.patience is not None


@pytest.mark.parametrize(("name", "rows"), TRAINING_ROWS.items(), ids=TRAINING_ROWS)
def test_a_recipe_says_of_itself_what_is_true(name: str, rows: int) -> None:
    text = (files("theseus_deploy") / "recipes" / "glue" / f"{name}.yaml").read_text("utf-8")
    assert "Written, and not run" in text
    assert f"{rows:,} training rows, {ceil(rows / 32):,} steps an epoch" in text
    assert f"theseus run glue/{name}`" in text
    assert f"the rate is 1 within {yaml.safe_load(text)['compress']['max-steps'] // 3:,} steps" in text


def test_the_recipes_differ_in_their_task_and_its_size_alone() -> None:
    def rest(name: str) -> str:
        text = (files("theseus_deploy") / "recipes" / "glue" / f"{name}.yaml").read_text("utf-8")
        settings = "".join(f"{line.partition('#')[0].rstrip()}\n" for line in text.splitlines())
        return re.sub(r"(data:|k:|max-steps:) .*", "", settings)

    assert len({rest(name) for name in TRAINING_ROWS}) == 1


def test_every_built_in_recipe_is_a_file_and_every_file_built_in() -> None:
    folder = Path(str(files("theseus_deploy") / "recipes"))
    assert {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")} == set(RECIPES)
    for name in RECIPES:
        assert [export.folder for export in Recipe.open(name).exports] == [
            "predecessor-onnx-fp32", "successor-onnx-fp32", "successor-onnx-int8",
        ]  # fmt: skip


def test_a_recipe_is_opened_by_its_name_or_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Recipe.open("glue/SST-2") == Recipe.shipped("glue/sst2")
    assert (folder_for("glue/SST-2"), folder_for("a/my.recipe.yaml")) == (Path("glue-sst2"), Path("a/my.recipe"))
    with pytest.raises(ConfigError, match=r"say --out DIR, or call it a/recipe\.yaml"):
        folder_for("a/recipe")  # the folder would be the file
    Path("demo").write_text("{model: mine, data: mine}")  # a file of that name goes first
    assert Recipe.open("demo").model == "mine"
    assert Recipe.shipped("demo").model == "demo:minilm"
    Path("glue/rte").mkdir(parents=True)  # a folder is no recipe
    assert Recipe.open("glue/rte").data == "nyu-mll/glue:rte"


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("glue/mrcp", "glue/mrcp is neither a file nor a built-in recipe; did you mean 'glue/mrpc'?"),
        ("zzz", "zzz is neither a file nor a built-in recipe; known: demo, glue/cola, glue/mnli"),
        ("nowhere.yaml", "nowhere.yaml cannot be read"),
        ("nowhere.yml", "nowhere.yml cannot be read"),
        (".", ". cannot be read"),
    ],
)
def test_a_recipe_that_is_not_there_is_refused(ref: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe.open(ref)
    assert str(caught.value).startswith(reason)
