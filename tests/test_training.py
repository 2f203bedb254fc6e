"""A training is as long as its length, and goes on as if it had never stopped: property 13 of the paper's list."""

import errno
import resource
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import TrainerCallback

from tests.conftest import make_bert
from tests.trainings import CONFIG, MAP, run
from theseus_deploy.compress.modules import assemble, successor_parameters
from theseus_deploy.compress.schedule import Schedule
from theseus_deploy.compress.trainer import TheseusTrainer
from theseus_deploy.configs import CompressConfig, FinetuneConfig, TrainingConfig
from theseus_deploy.errors import TrainingError
from theseus_deploy.lesson import Lesson, predict
from theseus_deploy.progress import SILENT
from theseus_deploy.trainer import StageTrainer
from theseus_deploy.training import Length, _without_autocast, train
from theseus_deploy.workspace import Workspace


def test_patience_ends_a_run_after_evaluations_that_were_no_better_and_only_once_the_rate_is_1(
    lesson: Lesson, tmp_path: Path
) -> None:
    config = replace(CONFIG, max_steps=120, patience=2, lr=1e-9)  # nothing moves, so nothing gets better
    trainer, _ = run(lesson, tmp_path, config, Schedule("linear", 0.3, 36))
    evaluated = [line["step"] for line in trainer.state.log_history if "eval_accuracy" in line]
    assert evaluated == [36, 48, 60]
    assert trainer.state.global_step == 60
    assert trainer.state.best_global_step == 36

    again, watch = run(lesson, tmp_path, config, Schedule("linear", 0.3, 36))  # killed before its result was written
    assert not watch.weights  # it takes no step more
    assert (again.state.global_step, again.state.best_global_step) == (60, 36)
    for one, other in zip(successor_parameters(trainer.model), successor_parameters(again.model), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("decay_from", "middle"), [(0, 0.5), (18, 1.0), (24, 1.0)])
def test_the_learning_rate_falls_to_0_from_where_it_was_asked_to(
    lesson: Lesson, tmp_path: Path, decay_from: int, middle: float
) -> None:
    config = replace(CONFIG, max_steps=24)
    make = partial(TheseusTrainer, schedule=Schedule("constant", 1.0, 0))
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    model = assemble(make_bert(), MAP)
    trainer = train(make, model, lesson, Length(24, 12), config, workspace, SILENT, decay_from=decay_from)
    assert trainer.lr_scheduler is not None
    factor = trainer.lr_scheduler.lr_lambdas[0]
    assert [factor(0), factor(12)] == [1.0, middle]
    assert factor(21) == pytest.approx(min(1.0, 3 / max(1, 24 - decay_from)))
    assert trainer.optimizer is not None
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_what_accelerate_puts_around_a_forward_comes_off_and_what_was_there_before_stays() -> None:
    for patched in (False, True):
        model = make_bert()
        if patched:
            model.forward = partial(model.forward)
        before, own = model.forward, "forward" in vars(model)
        AcceleratorState._reset_state(reset_partial_state=True)
        Accelerator(mixed_precision="bf16", cpu=True).prepare_model(model)
        AcceleratorState._reset_state(reset_partial_state=True)
        assert model.forward != before
        _without_autocast(model)
        assert model.forward == before
        assert ("forward" in vars(model)) == own


@pytest.mark.parametrize("crash_after", [None, 11])
def test_a_model_trained_in_bf16_answers_as_the_folder_it_is_written_to(
    lesson: Lesson, tmp_path: Path, crash_after: int | None
) -> None:
    model = make_bert()

    class Crash(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == crash_after:
                raise KeyboardInterrupt

    def make(**kwargs: Any) -> StageTrainer:
        trainer = StageTrainer(**kwargs)
        trainer.add_callback(Crash())
        return trainer

    config = FinetuneConfig(max_steps=12, batch_size=8, lr=1e-3, precision="bf16")
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    with pytest.raises(KeyboardInterrupt) if crash_after else nullcontext():
        train(make, model, lesson, Length(12, 12), config, workspace, SILENT)
    model.save_pretrained(tmp_path / "written")
    written = type(model).from_pretrained(tmp_path / "written")
    ours, read = (predict(one, lesson.validation, lesson.tokenizer, torch.device("cpu")) for one in (model, written))
    assert np.array_equal(ours, read)


@pytest.mark.parametrize("crash_after", [11, *(pytest.param(at, marks=pytest.mark.slow) for at in (1, 13, 23))])
def test_a_run_that_was_interrupted_ends_bit_equal_to_one_that_was_not(
    lesson: Lesson, tmp_path: Path, crash_after: int
) -> None:
    straight, _ = run(lesson, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path / "broken", crash_after=crash_after)
    resumed, watch = run(lesson, tmp_path / "broken")
    assert len(watch.weights) == 24 - {1: 0, 11: 10, 13: 12, 23: 20}[crash_after]  # step 12 was evaluated as the best
    for one, other in zip(successor_parameters(straight.model), successor_parameters(resumed.model), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_that_was_not_written_whole_is_not_resumed_from(lesson: Lesson, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path, crash_after=21)
    (tmp_path / "out.partial" / "checkpoint-20" / "complete").unlink()
    _, watch = run(lesson, tmp_path)
    assert len(watch.weights) == 24 - 12


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_resuming_loads_no_code_from_the_folder(lesson: Lesson, tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path, crash_after=12)
    bait = tmp_path / "owned"

    class Malicious:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return Path.touch, (bait,)

    planted = tmp_path / "out.partial" / "checkpoint-10" / name
    assert planted.exists()
    torch.save(Malicious(), planted)
    with pytest.raises(TrainingError, match="holds more than tensors"):
        run(lesson, tmp_path)
    assert not bait.exists()


def test_a_run_that_was_killed_after_its_last_step_takes_no_other(lesson: Lesson, tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=6)  # in the middle of an epoch
    first, _ = run(lesson, tmp_path, config)
    again, _ = run(lesson, tmp_path, config)
    assert (again.state.global_step, again.state.log_history[-1]["step"]) == (6, 6)
    assert [line["step"] for line in again.state.log_history if "loss" in line] == [
        line["step"] for line in first.state.log_history if "loss" in line
    ]
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("name", "left"),
    [("optimizer.pt", 100), ("model.safetensors", 100), ("trainer_state.json", 0), ("rng_state.pth", 0),
     ("rng_state.pth", 3000)],
)  # fmt: skip
def test_a_damaged_checkpoint_is_named_with_what_to_do(lesson: Lesson, tmp_path: Path, name: str, left: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path, crash_after=12)
    damaged = tmp_path / "out.partial" / "checkpoint-10" / name
    damaged.write_bytes(damaged.read_bytes()[:left])
    with pytest.raises(TrainingError, match=r"checkpoint-10 cannot be resumed from \(.+\); remove it to resume from"):
        run(lesson, tmp_path)


def test_a_damaged_best_is_named_and_without_it_the_last_step_is_taken(lesson: Lesson, tmp_path: Path) -> None:
    config, rate = replace(CONFIG, max_steps=36, lr=1e-9), Schedule("linear", 0.3, 12)  # nothing moves
    trainer, _ = run(lesson, tmp_path, config, rate)
    best = trainer.best_checkpoint
    assert best is not None
    assert best.name == "checkpoint-12"
    (best / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(
        TrainingError, match=r"checkpoint-12, the best so far, cannot be read \(.+\); remove it to take"
    ):
        run(lesson, tmp_path, config, rate)
    shutil.rmtree(best)
    again, _ = run(lesson, tmp_path, config, rate)
    assert (again.state.global_step, again.state.best_global_step) == (36, None)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_that_has_lost_a_file_is_not_half_resumed_from(lesson: Lesson, tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path, crash_after=12)
    (tmp_path / "out.partial" / "checkpoint-10" / name).unlink()
    with pytest.raises(TrainingError, match=rf"checkpoint-10 cannot be resumed from \(it has lost {name}\); remove it"):
        run(lesson, tmp_path)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), ConnectionResetError),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), OSError),
        (OSError("a server's answer"), OSError),
        (FileNotFoundError(errno.ENOENT, "No such file", "out.partial"), TrainingError),
        (OSError(errno.ENOSPC, "No space left on device"), TrainingError),
    ],
)
def test_what_is_no_fault_of_the_disk_is_not_called_one(
    lesson: Lesson, tmp_path: Path, error: OSError, told: type[Exception]
) -> None:
    class Reporter(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            raise error

    def make(**kwargs: Any) -> TheseusTrainer:
        trainer = TheseusTrainer(schedule=Schedule("linear", 0.3, 12), **kwargs)
        trainer.add_callback(Reporter())
        return trainer

    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    with pytest.raises(told) as caught:
        train(make, assemble(make_bert(), MAP), lesson, Length(24, 12), CONFIG, workspace, SILENT)
    assert type(caught.value) is told


def test_a_checkpoint_that_the_disk_has_no_room_for_is_one_line(lesson: Lesson, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path, crash_after=12)
    whole = tmp_path / "out.partial" / "checkpoint-10"
    room = (whole / "optimizer.pt").stat().st_size * 3 // 4  # enough for all else
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"could not be written to .+ free space and repeat .+ at step 10$"):
            run(lesson, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        (CompressConfig(), 1_000),  # of 96 rows in batches of 32
        (CompressConfig(method="truncate"), 1_000),  # rivals have the same budget
        (CompressConfig(batch_size=1, accumulate=2, max_steps=7), 7),
        (CompressConfig(epochs=2.5), 8),
        (CompressConfig(epochs=500.0), 1_500),
        (FinetuneConfig(), 9),
    ],
)
def test_a_training_that_nobody_gave_a_length_is_not_too_short_for_its_schedule(
    config: TrainingConfig, steps: int
) -> None:
    assert Length.of(config, 96).steps == steps
    assert Length.of(CompressConfig(), 96_000).steps == 9_000
