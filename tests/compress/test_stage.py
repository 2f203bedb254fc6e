"""A whole compression on objects: every method makes a plain, small model (property 12), and which one is kept."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tests.conftest import TASK, make_bert, make_lesson
from tests.trainings import CONFIG, MAP
from theseus_deploy.cache import cache_folder
from theseus_deploy.compress.families import layers_of
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.compress.stage import compress
from theseus_deploy.configs import Keep, Method
from theseus_deploy.errors import ConfigError
from theseus_deploy.lesson import Lesson, predict
from theseus_deploy.progress import SILENT
from theseus_deploy.trainer import WEIGHTS
from theseus_deploy.training import Length
from theseus_deploy.workspace import Workspace

LEARNING = replace(CONFIG, max_steps=100, batch_size=16, lr=3e-3)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lesson, PreTrainedModel]:
    """A predecessor that has learned its task, and the task."""
    lesson = make_lesson(512, 64)
    workspace = Workspace.open(tmp_path_factory.mktemp("learned") / "out", {}, overwrite=False)
    everything = replace(LEARNING, method="truncate")
    model = compress(make_bert(spread=0.05), lesson, Length(100, 32), ModuleMap.even(4, 4), everything, workspace)
    return lesson, model


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_successor_is_that_of_the_best_evaluation_or_of_the_last_step(
    lesson: Lesson, tmp_path: Path, keep: Keep
) -> None:
    config = replace(CONFIG, max_steps=66, lr=1e-2, method="theseus", init="bottom", keep=keep)
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    successor = compress(make_bert(), lesson, Length.of(config, 96), MAP, config, workspace).state_dict()
    state = json.loads((workspace.path / "checkpoint-66" / "trainer_state.json").read_text("utf-8"))
    assert 0 < state["best_global_step"] < 66
    chosen = {"best": state["best_global_step"], "last": 66}[keep]
    for name, weight in load_file(workspace.path / f"checkpoint-{chosen}" / WEIGHTS).items():
        assert torch.equal(weight, successor[name.replace(".successor.", ".")]), name


@pytest.mark.parametrize("method", ["truncate", "theseus+distill"])
def test_a_schedule_that_is_refused_leaves_the_model_as_it_was(lesson: Lesson, tmp_path: Path, method: Method) -> None:
    model, config = make_bert(), replace(CONFIG, method=method, replace_until=1.0)
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    with pytest.raises(ConfigError, match="leaves none of 24 steps at rate 1"):
        compress(model, lesson, Length.of(config, 96), MAP, config, workspace)
    assert len(layers_of(model)) == model.config.num_hidden_layers == 4
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.thorough
def test_the_predecessor_may_teach_while_its_modules_are_replaced(
    learned: tuple[Lesson, PreTrainedModel], tmp_path: Path
) -> None:
    lesson, predecessor = learned
    wrong = [1 - label for label in lesson.train["labels"]]
    misled = replace(lesson, train=lesson.train.remove_columns("labels").add_column("labels", wrong))

    def answers(model: PreTrainedModel) -> Any:
        return predict(model, lesson.validation, lesson.tokenizer, torch.device("cpu"))

    def loyalty(method: Any) -> float:
        config = replace(LEARNING, method=method, alpha=1.0)
        workspace = Workspace.open(tmp_path / method, {}, overwrite=False)
        successor = compress(deepcopy(predecessor), misled, Length(100, 32), MAP, config, workspace)
        return float(TASK.agree(answers(successor), answers(predecessor)).mean())

    assert loyalty("theseus") < 0.6
    assert loyalty("theseus+distill") > 0.8


@pytest.mark.parametrize(
    "method",
    [
        "theseus+distill",
        *(pytest.param(method, marks=pytest.mark.thorough) for method in ("theseus", "truncate", "distill")),
    ],
)
def test_every_method_makes_a_plain_model_of_n_layers_that_learned(
    learned: tuple[Lesson, PreTrainedModel], tmp_path: Path, method: Any
) -> None:
    lesson, predecessor = learned
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    config = replace(LEARNING, method=method)
    successor = compress(deepcopy(predecessor), lesson, Length(100, 32), MAP, config, workspace)
    assert type(successor).__name__ == "BertForSequenceClassification"
    assert successor.config.num_hidden_layers == 2
    assert all(weight.requires_grad for weight in successor.parameters())
    scores = lesson.score(successor, torch.device("cpu"), SILENT, "")
    assert scores["accuracy"] > 0.8
    successor.save_pretrained(tmp_path / "saved")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert lesson.score(again, torch.device("cpu"), SILENT, "") == scores


@pytest.mark.parametrize(("accumulate", "steps", "asked"), [(1, 3, 24), (2, 3, 48), (2, 6, 96), (1, 30, 96)])
def test_the_predecessor_is_asked_about_the_rows_that_are_learned_from_alone(
    lesson: Lesson, tmp_path: Path, accumulate: int, steps: int, asked: int
) -> None:
    totals: dict[str, int] = {}

    class Listener:
        def say(self, message: str) -> None:
            del message

        def track(self, title: str, total: int) -> Any:
            totals[title] = total
            return SILENT.track(title, total)

    config = replace(CONFIG, method="theseus+distill", accumulate=accumulate, max_steps=steps, replace_until=0.5)
    length = Length.of(config, len(lesson.train))
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    for path in cache_folder().glob("*.arrow"):
        path.unlink()
    compress(make_bert(), lesson, length, MAP, config, workspace, Listener())  # a row without an answer has no loss
    assert totals["asking the predecessor"] == asked
