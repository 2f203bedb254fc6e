"""Properties 6 and 9-13 of the paper's list, on the true trainer."""

import json
import math
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForSequenceClassification, PreTrainedModel, TrainerCallback

from tests.conftest import BAD, GOOD, make_bert, make_rows, make_tokenizer
from theseus_deploy.cache import cache_folder
from theseus_deploy.compress.distillation import MATCH
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.compress.modules import assemble, successor_parameters, theseus_modules
from theseus_deploy.compress.schedule import Schedule, replacement_mask
from theseus_deploy.compress.stage import compress
from theseus_deploy.compress.trainer import TheseusTrainer
from theseus_deploy.configs import CompressConfig, FinetuneConfig, Keep, Method, Thaw, TrainingConfig
from theseus_deploy.distributed import ALONE, World
from theseus_deploy.errors import DataError, TrainingError
from theseus_deploy.lesson import Lesson, predict
from theseus_deploy.progress import SILENT
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task
from theseus_deploy.trainer import WEIGHTS, EpochSampler
from theseus_deploy.training import Plan, train
from theseus_deploy.workspace import Workspace

TASK = Task("single-label", ("negative", "positive"), ("text",), "label", 32)
MAP = ModuleMap.even(4, 2)
CONFIG = CompressConfig(max_steps=24, batch_size=8, lr=1e-3, precision="fp32", seed=3)


LEARNING = replace(CONFIG, max_steps=100, batch_size=16, lr=3e-3)


def make_lesson(train_rows: int, validation_rows: int, world: World = ALONE) -> Lesson:
    def split(name: str, count: int, seed: int) -> Split:
        texts, labels = zip(*make_rows(count, seed), strict=True)
        return Split(name, [(text,) for text in texts], list(labels))

    train_split, validation = split("train", train_rows, 0), split("validation", validation_rows, 1)
    return Lesson.prepare(train_split, validation, TASK, make_tokenizer(), "made here", world)


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return make_lesson(96, 32)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lesson, PreTrainedModel]:
    """A predecessor that has learned its task, and the task."""
    lesson = make_lesson(512, 64)
    workspace = Workspace.open(tmp_path_factory.mktemp("learned") / "out", {}, overwrite=False)
    everything = replace(LEARNING, method="truncate")
    model = compress(make_bert(spread=0.05), lesson, Plan(100, 32), ModuleMap.even(4, 4), everything, workspace)
    return lesson, model


class Watch(TrainerCallback):
    """Remember each step's weights and whatever was logged; stop the run hard after a step, as a kill would."""

    def __init__(self, model: nn.Module, crash_after: int | None = None) -> None:
        self.model = model
        self.crash_after = crash_after
        self.weights: list[list[torch.Tensor]] = []
        self.optimized: set[int] = set()

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        self.optimized = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        self.weights.append(
            [torch.cat([weight.detach().flatten().clone() for weight in module.successor.parameters()])
             for module in theseus_modules(self.model)]
        )  # fmt: skip
        if state.global_step == self.crash_after:
            raise KeyboardInterrupt


def run(
    lesson: Lesson, folder: Path, config: CompressConfig = CONFIG, schedule: Schedule | None = None,
    crash_after: int | None = None, dropout: float = 0.1, thaw: Thaw = "none", drops: bool = True,
) -> tuple[TheseusTrainer, Watch]:  # fmt: skip
    plan = Plan.of(config, len(lesson.train))
    model = assemble(make_bert(dropout=dropout), MAP)
    watch = Watch(model, crash_after)

    def make(**kwargs: Any) -> TheseusTrainer:
        rate = schedule or Schedule("linear", 0.3, plan.steps // 2)
        made = TheseusTrainer(schedule=rate, thaw=thaw, dropout=drops, **kwargs)
        made.add_callback(watch)
        return made

    workspace = Workspace.open(folder / "out", {"config": config.to_json()}, overwrite=False)
    return train(make, model, lesson, plan, config, workspace, SILENT), watch


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
    train(make, model, lesson, Plan.of(CONFIG, 96), CONFIG, workspace, SILENT)
    assert len(snapshots.after) == 24
    for name, weight in start.items():
        if ".successor." in name:
            continue
        moved = [not torch.equal(weight, after[name]) for after in snapshots.after]
        assert not any(moved[:12]), f"{name} moved while modules were replaced"
        assert all(moved[12:]) == name.startswith(THAWED[thaw]), name


@pytest.mark.parametrize("crash_after", [pytest.param(5, marks=pytest.mark.slow), 17])
def test_a_thawed_run_that_was_interrupted_ends_bit_equal_too(lesson: Lesson, tmp_path: Path, crash_after: int) -> None:
    straight, _ = run(lesson, tmp_path / "straight", thaw="all")
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path / "broken", crash_after=crash_after, thaw="all")
    resumed, _ = run(lesson, tmp_path / "broken", thaw="all")
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
    trainer = train(make, model, lesson, Plan.of(CONFIG, 96), CONFIG, workspace, SILENT)
    assert trainer.state.best_global_step == 12
    for name, weight in model.named_parameters():
        assert torch.equal(weight, start[name]) == (".successor." not in name), name


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_successor_is_that_of_the_best_evaluation_or_of_the_last_step(
    lesson: Lesson, tmp_path: Path, keep: Keep
) -> None:
    config = replace(CONFIG, max_steps=66, lr=1e-2, method="theseus", init="bottom", keep=keep)
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    successor = compress(make_bert(), lesson, Plan.of(config, 96), MAP, config, workspace).state_dict()
    state = json.loads((workspace.path / "checkpoint-66" / "trainer_state.json").read_text("utf-8"))
    assert 0 < state["best_global_step"] < 66
    chosen = {"best": state["best_global_step"], "last": 66}[keep]
    for name, weight in load_file(workspace.path / f"checkpoint-{chosen}" / WEIGHTS).items():
        assert torch.equal(weight, successor[name.replace(".successor.", ".")]), name


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
    assert len(watch.weights) <= 1
    assert again.state.best_global_step == 36
    for one, other in zip(successor_parameters(trainer.model), successor_parameters(again.model), strict=True):
        assert torch.equal(one, other)


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


@pytest.mark.parametrize(("decay_from", "middle"), [(0, 0.5), (18, 1.0), (24, 1.0)])
def test_the_learning_rate_falls_to_0_from_where_it_was_asked_to(
    lesson: Lesson, tmp_path: Path, decay_from: int, middle: float
) -> None:
    config = replace(CONFIG, max_steps=24)
    make = partial(TheseusTrainer, schedule=Schedule("constant", 1.0, 0))
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    model = assemble(make_bert(), MAP)
    trainer = train(make, model, lesson, Plan(24, 12), config, workspace, SILENT, decay_from=decay_from)
    assert trainer.lr_scheduler is not None
    factor = trainer.lr_scheduler.lr_lambdas[0]
    assert [factor(0), factor(12)] == [1.0, middle]
    assert factor(21) == pytest.approx(min(1.0, 3 / max(1, 24 - decay_from)))
    assert trainer.optimizer is not None
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


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
        successor = compress(deepcopy(predecessor), misled, Plan(100, 32), MAP, config, workspace)
        return float(TASK.agree(answers(successor), answers(predecessor)).mean())

    assert loyalty("theseus") < 0.6
    assert loyalty("theseus+distill") > 0.8


def test_the_mean_displacement_under_a_constant_gradient_is_p_times_lr() -> None:
    """Eq. 7, with plain SGD: a module that is drawn with probability p moves p lr a step on average."""
    rate, lr, steps = 0.4, 0.01, 4000
    weights = [nn.Parameter(torch.zeros(())) for _ in range(3)]
    optimizer = torch.optim.SGD(weights, lr=lr)
    for step in range(steps):
        for weight, drawn in zip(weights, replacement_mask(5, step, 3, rate), strict=True):
            weight.grad = torch.ones(()) if drawn else None
        optimizer.step()
    for weight in weights:
        spread = lr * math.sqrt(rate * (1 - rate) / steps)
        assert -weight.item() / steps == pytest.approx(rate * lr, abs=4 * spread)


def test_dropout_in_training_is_the_cheap_one(lesson: Lesson, tmp_path: Path) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        run(lesson, tmp_path, replace(CONFIG, max_steps=2))
    called = {event.key for event in recorded.key_averages()}
    assert "aten::random_" in called
    assert not called & {"aten::bernoulli_", "aten::native_dropout"}


def test_without_dropout_modules_are_replaced_as_in_a_model_that_has_none(lesson: Lesson, tmp_path: Path) -> None:
    asked, _ = run(lesson, tmp_path / "asked", dropout=0.5, drops=False)
    bare, _ = run(lesson, tmp_path / "bare", dropout=0.0)
    for one, other in zip(successor_parameters(asked.model), successor_parameters(bare.model), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("method", "drops", "thaws"),
    [
        ("theseus", True, "none"),
        ("truncate", True, "none"),
        ("distill", False, "all"),
        ("theseus+distill", False, "all"),
    ],
)
def test_with_logits_to_learn_from_all_is_thawed_and_nothing_dropped(method: Method, drops: bool, thaws: Thaw) -> None:
    config = CompressConfig(method=method)
    assert (config.drops(tags_words=False), config.thaws) == (drops, thaws)
    assert config.drops(tags_words=True)
    for words in (False, True):
        assert replace(config, dropout=not drops).drops(words) != drops
    assert replace(config, thaw="head").thaws == "head"


def test_accumulating_micro_batches_draws_one_mask_a_step(lesson: Lesson, tmp_path: Path) -> None:
    whole, _ = run(lesson, tmp_path / "whole", dropout=0.0)
    config = replace(CONFIG, batch_size=4, accumulate=2)
    halves, watch = run(lesson, tmp_path / "halves", config, dropout=0.0)
    assert len(watch.weights) == whole.state.global_step == halves.state.global_step == 24
    for (name, one), other in zip(whole.model.named_parameters(), halves.model.parameters(), strict=True):
        if "key.bias" not in name:  # its gradient is rounding noise around 0, which Adam blows up
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


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


def test_validation_is_scored_in_inference_mode_the_longest_first(lesson: Lesson) -> None:
    model, seen = make_bert(), []

    def watch(module: nn.Module, args: Any, kwargs: dict[str, torch.Tensor]) -> None:
        seen.append((torch.is_inference_mode_enabled(), module.training, kwargs["input_ids"].shape[1]))

    model.register_forward_pre_hook(watch, with_kwargs=True)
    logits = predict(model.train(), lesson.validation, lesson.tokenizer, torch.device("cpu"), batch_size=8)
    assert [flags for *flags, _ in seen] == [[True, False]] * 4
    lengths = [length for *_, length in seen]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > lengths[-1]  # noqa: PT018
    whole = predict(model, lesson.validation, lesson.tokenizer, torch.device("cpu"), batch_size=32)
    assert logits == pytest.approx(whole, abs=1e-5)


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
        train(make, assemble(make_bert(), MAP), lesson, Plan.of(CONFIG, 96), CONFIG, workspace, SILENT)
    kept = workspace.last_checkpoint()
    assert kept is not None
    assert kept.name == "checkpoint-12"


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


@pytest.mark.parametrize(("patience", "steps"), [(2, 240), (None, 66)])
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


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "trainer_state.json"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(lesson: Lesson, tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(lesson, tmp_path, crash_after=12)
    damaged = tmp_path / "out.partial" / "checkpoint-10" / name
    damaged.write_bytes(damaged.read_bytes()[:100] if name != "trainer_state.json" else b"")
    with pytest.raises(TrainingError, match=r"checkpoint-10 cannot be resumed from \(.+\); remove it to resume from"):
        run(lesson, tmp_path)


def test_rows_in_tokens_are_those_of_the_tokenizer_that_asks() -> None:
    rows = [(" ".join(GOOD), " ".join(BAD)), (GOOD[0], BAD[0])]
    split, task = Split("train", rows, ["a", "b"]), Task("single-label", ("a", "b"), ("one", "other"), "label", 8)
    first, second, third = make_tokenizer(), make_tokenizer(), make_tokenizer()
    second.model_input_names = ["input_ids", "attention_mask"]
    third.truncation_side = "left"
    found = [Lesson.prepare(split, split, task, one, "pairs").train for one in (first, second, third, first)]
    assert "token_type_ids" in found[0].column_names
    assert "token_type_ids" not in found[1].column_names
    assert found[2]["input_ids"] != found[0]["input_ids"]
    assert found[3][:] == found[0][:]


def test_words_that_are_no_tokens_teach_nothing_and_are_refused() -> None:
    split = Split("train", [("\u200b",)] * 4, [("O",)] * 4, words=True)
    task = Task("tokens", ("O", "B-x"), ("tokens",), "tags", 16)
    with pytest.raises(DataError, match="made here has no word that the tokenizer knows in train"):
        Lesson.prepare(split, split, task, make_tokenizer(), "made here")


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


@pytest.mark.parametrize(
    "method", ["theseus", "truncate", pytest.param("distill", marks=pytest.mark.slow), "theseus+distill"]
)
def test_every_method_makes_a_plain_model_of_n_layers_that_learned(
    learned: tuple[Lesson, PreTrainedModel], tmp_path: Path, method: Any
) -> None:
    lesson, predecessor = learned
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    config = replace(LEARNING, method=method)
    successor = compress(deepcopy(predecessor), lesson, Plan(100, 32), MAP, config, workspace)
    assert type(successor).__name__ == "BertForSequenceClassification"
    assert successor.config.num_hidden_layers == 2
    assert all(weight.requires_grad for weight in successor.parameters())
    scores = lesson.score(successor, torch.device("cpu"), SILENT, "")
    assert scores["accuracy"] > 0.8
    successor.save_pretrained(tmp_path / "saved")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert lesson.score(again, torch.device("cpu"), SILENT, "") == scores


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
    assert Plan.of(config, 96).steps == steps
    assert Plan.of(CompressConfig(), 96_000).steps == 9_000


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
    plan = Plan.of(config, len(lesson.train))
    workspace = Workspace.open(tmp_path / "out", {}, overwrite=False)
    for path in cache_folder().glob("*.arrow"):
        path.unlink()
    compress(make_bert(), lesson, plan, MAP, config, workspace, Listener())  # a row without an answer has no loss
    assert totals["asking the predecessor"] == asked


def test_distillation_matches_the_teacher_at_a_temperature_for_every_kind_of_task() -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.5, 0.0], [3.0, 1.0]])
    classes = sum(
        (p * (p.log() - q.log())).sum()
        for p, q in zip((teacher / 2).softmax(-1), (student / 2).softmax(-1), strict=True)
    ) / 2  # fmt: skip
    p, q = (teacher / 2).sigmoid(), (student / 2).sigmoid()
    labels = -(p * q.log() + (1 - p) * (1 - q).log()).mean()
    for kind, expected in [("single-label", classes), ("tokens", classes), ("multi-label", labels)]:
        torch.testing.assert_close(MATCH[kind](student, teacher, 2.0), expected)
    torch.testing.assert_close(
        4 * MATCH["regression"](student[:, :1], teacher[:, :1], 2.0), torch.tensor((0.25 + 9) / 2)
    )
