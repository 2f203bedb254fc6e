"""Our part of the trainer: the order of rows, cheap dropout, an end to a loss that is no number, the best known."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

from tests.conftest import make_bert
from tests.trainings import CONFIG, MAP, run
from theseus_deploy.compress.modules import assemble, successor_parameters
from theseus_deploy.compress.schedule import Schedule
from theseus_deploy.compress.trainer import TheseusTrainer
from theseus_deploy.errors import TrainingError
from theseus_deploy.lesson import Lesson
from theseus_deploy.progress import SILENT
from theseus_deploy.trainer import Conductor, EpochSampler
from theseus_deploy.training import Length, train
from theseus_deploy.workspace import Workspace


def test_dropout_in_training_is_the_cheap_one(lesson: Lesson, tmp_path: Path) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        run(lesson, tmp_path, replace(CONFIG, max_steps=2))
    called = {event.key for event in recorded.key_averages()}
    assert "aten::random_" in called
    assert not called & {"aten::bernoulli_", "aten::native_dropout"}


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(
    lesson: Lesson, tmp_path: Path
) -> None:
    class Poison(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if state.global_step == 15:
                next(successor_parameters(model)).data.fill_(float("nan"))

    def make(**kwargs: Any) -> TheseusTrainer:
        trainer = TheseusTrainer(schedule=Schedule("linear", 0.3, 5), **kwargs)
        trainer.add_callback(Poison())
        return trainer

    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 20; lower --lr"):
        train(make, assemble(make_bert(), MAP), lesson, Length.of(CONFIG, 96), CONFIG, workspace, SILENT)
    kept = workspace.last_checkpoint()
    assert kept is not None
    assert kept.name == "checkpoint-12"


@pytest.mark.parametrize(("patience", "steps"), [(2, 240), pytest.param(None, 66, marks=pytest.mark.thorough)])
def test_a_run_that_goes_on_from_another_place_still_knows_its_best(
    lesson: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int | None, steps: int
) -> None:
    config, schedule = replace(CONFIG, max_steps=steps, patience=patience, lr=1e-2), Schedule("linear", 0.3, 24)
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    first, _ = run(lesson, Path("here"), config, schedule)  # and killed before its result was written
    best = first.state.best_global_step
    assert best < first.state.global_step
    Path("here").rename("there")
    again, _ = run(lesson, tmp_path / "there", config, schedule)
    assert again.state.best_global_step == best
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name


def test_of_a_best_that_is_gone_nothing_is_remembered(lesson: Lesson, tmp_path: Path) -> None:
    config, schedule = replace(CONFIG, max_steps=72, lr=1e-2), Schedule("linear", 0.3, 12)
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path, config, schedule, crash_after=61)
    state = json.loads((tmp_path / "out.partial" / "checkpoint-60" / "trainer_state.json").read_text())
    gone = Path(state["best_model_checkpoint"])
    assert gone.name != "checkpoint-60"
    shutil.rmtree(gone)
    again, _ = run(lesson, tmp_path, config, schedule)
    assert again.state.best_global_step == 72  # the only evaluation since


def test_batches_group_rows_of_like_length_in_an_order_of_seed_and_epoch() -> None:
    lengths = [(row * 37) % 61 + 3 for row in range(640)]
    sampler = EpochSampler(8, lengths, seed=1)
    first = list(sampler)
    assert first == list(EpochSampler(8, lengths, seed=1))
    assert sorted(first) == list(range(640))
    sampler.set_epoch(1)
    assert list(sampler) != first
    batches = [[lengths[row] for row in first[start : start + 8]] for start in range(0, 640, 8)]
    padding = sum(max(batch) * len(batch) - sum(batch) for batch in batches)
    assert padding < 0.1 * sum(lengths)


def test_an_epoch_that_is_resumed_keeps_its_order(lesson: Lesson, tmp_path: Path) -> None:
    """Nobody else tells the sampler where several processes resume in the midst of an epoch."""
    trainer, _ = run(lesson, tmp_path)
    trainer.sampler.set_epoch(0)
    with SILENT.track("", 1) as tracker:
        Conductor(trainer, tracker).on_epoch_begin(trainer.args, replace(trainer.state, epoch=1.25), trainer.control)
    expected = EpochSampler.of(lesson, CONFIG.batch_size, CONFIG.seed)
    expected.set_epoch(1)
    assert list(trainer.sampler) == list(expected)
