"""Properties 6 and 9-11 of the paper's list, on the true trainer, and 13 where more than successors trains."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from transformers import TrainerCallback

from tests.conftest import make_bert
from tests.trainings import CONFIG, MAP, run
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.compress.modules import assemble, successor_parameters, theseus_modules
from theseus_deploy.compress.schedule import Schedule, replacement_mask
from theseus_deploy.compress.trainer import TheseusTrainer
from theseus_deploy.configs import Thaw
from theseus_deploy.lesson import Lesson
from theseus_deploy.progress import SILENT
from theseus_deploy.training import Length, train
from theseus_deploy.workspace import Workspace


def test_only_the_successors_move_and_all_of_them_do(lesson: Lesson, tmp_path: Path) -> None:
    reference = assemble(make_bert(), MAP).state_dict()
    trainer, watch = run(lesson, tmp_path)
    trained = trainer.model.state_dict()
    for name, weight in reference.items():
        if ".successor." not in name:
            assert torch.equal(weight, trained[name]), f"{name} is frozen and moved"
        elif "key.bias" not in name:  # softmax takes its gradient away
            assert not torch.equal(weight, trained[name]), f"{name} did not move"
    assert watch.optimized == {id(weight) for weight in successor_parameters(trainer.model)}


THAWED = {
    "none": (),
    "head": ("bert.pooler.", "classifier."),
    "all": ("bert.pooler.", "classifier.", "bert.embeddings."),
}


class Snapshots(TrainerCallback):
    """Keep the model's weights after every step."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.after: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.after.append({name: weight.detach().clone() for name, weight in self.model.named_parameters()})


@pytest.mark.parametrize("thaw", ["none", "head", "all"])
def test_nothing_but_successors_trains_before_the_rate_is_1_and_then_what_is_thawed(
    lesson: Lesson, tmp_path: Path, thaw: Thaw
) -> None:
    model = assemble(make_bert(), MAP)
    snapshots = Snapshots(model)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def make(**kwargs: Any) -> TheseusTrainer:
        made = TheseusTrainer(schedule=Schedule("linear", 0.3, 12), thaw=thaw, **kwargs)
        made.add_callback(snapshots)
        return made

    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    train(make, model, lesson, Length.of(CONFIG, 96), CONFIG, workspace, SILENT)
    assert len(snapshots.after) == 24
    for name, weight in start.items():
        if ".successor." in name:
            continue
        moved = [not torch.equal(weight, after[name]) for after in snapshots.after]
        assert not any(moved[:12]), f"{name} moved while modules were replaced"
        assert all(moved[12:]) == name.startswith(THAWED[thaw]), name


@pytest.mark.parametrize(
    ("schedule", "crash_after"),
    [
        pytest.param(Schedule("linear", 0.3, 12), 5, marks=pytest.mark.slow),
        (Schedule("linear", 0.3, 12), 17),
        pytest.param(
            Schedule("anti", 0.0, 12), 11, marks=pytest.mark.thorough
        ),  # its rate is 1 at first, and not for good
    ],
)
def test_a_thawed_run_that_was_interrupted_ends_bit_equal_too(
    lesson: Lesson, tmp_path: Path, schedule: Schedule, crash_after: int
) -> None:
    straight, _ = run(lesson, tmp_path / "straight", schedule=schedule, thaw="all")
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path / "broken", schedule=schedule, crash_after=crash_after, thaw="all")
    resumed, _ = run(lesson, tmp_path / "broken", schedule=schedule, thaw="all")
    for (name, one), other in zip(straight.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_the_best_of_a_thawed_run_is_restored_whole(lesson: Lesson, tmp_path: Path) -> None:
    """The best is the evaluation at the very step where the rate reached 1: what thaws then must go back too."""
    model = assemble(make_bert(), MAP)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    class FirstIsBest(TheseusTrainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            metrics = super().evaluate(*args, **kwargs)
            return {**metrics, "eval_accuracy": 1.0 / self.state.global_step}

    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    make = partial(FirstIsBest, schedule=Schedule("linear", 0.3, 12), thaw="all")
    trainer = train(make, model, lesson, Length.of(CONFIG, 96), CONFIG, workspace, SILENT)
    assert trainer.state.best_global_step == 12
    for name, weight in model.named_parameters():
        assert torch.equal(weight, start[name]) == (".successor." not in name), name


def test_a_module_that_is_not_drawn_does_not_move_though_adam_has_momentum(lesson: Lesson, tmp_path: Path) -> None:
    schedule = Schedule("constant", 0.5, 24)
    _, watch = run(lesson, tmp_path, schedule=schedule)
    for step in range(1, 24):
        mask = replacement_mask(CONFIG.seed, step, 2, 0.5)
        for module, drawn in enumerate(mask):
            moved = not torch.equal(watch.weights[step][module], watch.weights[step - 1][module])
            assert moved == drawn, f"step {step}, module {module}"


def test_a_step_in_which_nothing_is_drawn_is_survived_counted_and_the_schedules_advance(
    lesson: Lesson, tmp_path: Path
) -> None:
    schedule = Schedule("constant", 0.2, 24)
    trainer, _ = run(lesson, tmp_path, schedule=schedule)
    undrawn = sum(not any(replacement_mask(CONFIG.seed, step, 2, 0.2)) for step in range(24))
    logged = [line for line in trainer.state.log_history if "skipped" in line]
    assert undrawn > 5
    assert sum(line["skipped"] for line in logged) == undrawn
    assert trainer.state.global_step == 24
    assert set(trainer.lr_scheduler.get_last_lr()) == {0.0}
    assert all(0.3 < line["loss"] < 3 for line in logged if "loss" in line)  # an average over the zeros would be lower


def test_the_logged_rate_is_the_schedule_and_the_equivalent_learning_rate_is_p_times_lr(
    lesson: Lesson, tmp_path: Path
) -> None:
    trainer, _ = run(lesson, tmp_path)
    logged = [line for line in trainer.state.log_history if "learning_rate" in line]
    assert logged
    for line in logged:
        assert line["rate"] == trainer.schedule.rate(line["step"] - 1)
        assert line["equivalent_lr"] == pytest.approx(line["rate"] * line["learning_rate"])
        assert line["replaced"] == sum(replacement_mask(CONFIG.seed, line["step"] - 1, 2, line["rate"]))


def test_the_mean_displacement_at_rate_p_is_that_of_p_times_the_learning_rate(lesson: Lesson, tmp_path: Path) -> None:
    """Eq. 7, by plain SGD on all rows at once: a successor moves on p of the steps, and then as one at rate 1 does."""
    steps, rate, lr = 60, 0.4, 1e-3
    config = replace(CONFIG, max_steps=steps, batch_size=len(lesson.train), lr=lr)

    def moved(rate: float) -> torch.Tensor:
        model = assemble(make_bert(dropout=0.0), ModuleMap.even(4, 1))
        before = torch.cat([weight.detach().flatten() for weight in successor_parameters(model)])
        make = partial(
            TheseusTrainer, schedule=Schedule("constant", rate, steps), optimizer_cls_and_kwargs=(SGD, {"lr": lr})
        )
        workspace = Workspace.open(tmp_path / str(rate), {}, overwrite=False)
        train(make, model, lesson, Length(steps, 1), config, workspace, SILENT, decay_from=steps, keep="last")
        return torch.cat([weight.detach().flatten() for weight in successor_parameters(model)]) - before

    always, sometimes = moved(1.0), moved(rate)
    drawn = sum(replacement_mask(CONFIG.seed, step, 1, rate)[0] for step in range(steps))
    assert abs(drawn / steps - rate) < 3 * math.sqrt(rate * (1 - rate) / steps)
    assert float(sometimes @ always / (always @ always)) == pytest.approx(drawn / steps, rel=0.05)


def test_without_dropout_modules_are_replaced_as_in_a_model_that_has_none(lesson: Lesson, tmp_path: Path) -> None:
    asked, _ = run(lesson, tmp_path / "asked", dropout=0.5, drops=False)
    bare, _ = run(lesson, tmp_path / "bare", dropout=0.0)
    for one, other in zip(successor_parameters(asked.model), successor_parameters(bare.model), strict=True):
        assert torch.equal(one, other)


def test_accumulating_micro_batches_draws_one_mask_a_step(lesson: Lesson, tmp_path: Path) -> None:
    whole, _ = run(lesson, tmp_path / "whole", dropout=0.0)
    config = replace(CONFIG, batch_size=4, accumulate=2)
    halves, watch = run(lesson, tmp_path / "halves", config, dropout=0.0)
    assert len(watch.weights) == whole.state.global_step == halves.state.global_step == 24
    for (name, one), other in zip(whole.model.named_parameters(), halves.model.parameters(), strict=True):
        if "key.bias" not in name:  # its gradient is rounding noise around 0, which Adam blows up
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_checkpoints_hold_what_trains_and_nothing_else(lesson: Lesson, tmp_path: Path) -> None:
    from safetensors import safe_open

    trainer, _ = run(lesson, tmp_path)
    with safe_open(tmp_path / "out.partial" / "checkpoint-24" / "model.safetensors", "pt") as file:
        saved = set(file.keys())
    assert saved == {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}


def test_the_best_is_chosen_among_whole_successors_only(lesson: Lesson, tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=48)  # twelve steps an epoch, so four evaluations would be due
    trainer, _ = run(lesson, tmp_path, config, Schedule("linear", 0.3, 30))
    evaluated = [line["step"] for line in trainer.state.log_history if "eval_accuracy" in line]
    assert evaluated == [36, 48]
    assert trainer.state.best_global_step in evaluated
    assert all(module.replaced for module in theseus_modules(trainer.model))
