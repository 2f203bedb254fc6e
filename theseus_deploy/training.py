"""The training that finetune and compress share: transformers.Trainer with our data path, checkpoints and progress."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from theseus_deploy.artifact import Artifact, Manifest, write_atomically
from theseus_deploy.cache import cached, key_of
from theseus_deploy.configs import TrainingConfig
from theseus_deploy.data import Split, tokenise
from theseus_deploy.distributed import ALONE, World
from theseus_deploy.dropout import PackedDropout
from theseus_deploy.errors import ConfigError, TrainingError, suggest
from theseus_deploy.machine import this_machine
from theseus_deploy.models import FP32_ONLY, as_disk_error, eager_attention, quiet, save_checkpoint, torch_device
from theseus_deploy.progress import SILENT, Progress, Tracker
from theseus_deploy.tasks import Array, Task
from theseus_deploy.words import at_words
from theseus_deploy.workspace import COMPLETE, LOG, Workspace

if TYPE_CHECKING:
    from datasets import Dataset

WEIGHTS = "model.safetensors"
LOG_EVERY = 10  # optimizer steps
SHOWN = {"loss": "loss", "p": "rate", "lr": "learning_rate", "p lr": "equivalent_lr"}  # beside the bar, as last logged
SAVES = 20  # checkpoints over the whole training
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Plan:
    """How long a training is, in optimizer steps."""

    steps: int
    steps_per_epoch: int

    @classmethod
    def of(cls, config: TrainingConfig, rows: int, world: World = ALONE) -> "Plan":
        """Count the steps that `config` asks for on `rows` rows; a batch is divided among the processes.

        Raises:
            ConfigError: a batch has no equal parts for all processes.
        """
        if config.batch_size % world.size:
            raise ConfigError(
                f"--batch-size {config.batch_size} cannot be divided among {world.size} processes; "
                f"use a multiple of {world.size}"
            )
        steps_per_epoch = ceil(rows / (config.batch_size * config.accumulate))
        return cls(config.max_steps or ceil(config.epochs * steps_per_epoch), steps_per_epoch)


@dataclass(frozen=True)
class Lesson:
    """What is learned from: a task, the rows of train and validation as a model takes them, and the tokenizer.

    `key` is a hash of the training rows and of all that made tokens of them.
    """

    task: Task
    tokenizer: PreTrainedTokenizerBase
    train: "Dataset"
    validation: "Dataset"
    key: str
    world: World = ALONE

    @classmethod
    def prepare(
        cls,
        train: Split,
        validation: Split,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        ref: str,
        world: World = ALONE,
    ) -> "Lesson":
        """Tokenise both splits, unless that was done before.

        Raises:
            DataError: a label that the task does not know.
        """
        vocabulary = tokenizer.backend_tokenizer.to_str()
        keys = [
            key_of({"texts": split.texts, "labels": split.labels, "task": task.to_json(), "tokenizer": vocabulary})
            for split in (train, validation)
        ]
        with world.one_by_one():
            rows, validation_rows = (
                cached(key, partial(tokenise, split, task, tokenizer, ref))
                for key, split in zip(keys, (train, validation), strict=True)
            )
        if task.tags_words:  # a batch of rows without any tagged token would have a loss that is no number
            rows = rows.select([row for row, places in enumerate(rows["starts"]) if max(places, default=-1) >= 0])
        return cls(task, tokenizer, rows, validation_rows, keys[0], world)

    def score(
        self, model: PreTrainedModel, device: torch.device, progress: Progress, title: str, precision: str = "fp32"
    ) -> dict[str, float]:
        """Return the task's metrics of `model` on validation."""
        logits = predict(
            model, self.validation, self.tokenizer, device, progress, title, precision=precision, world=self.world
        )
        return self.task.score(logits, list(self.validation["reference"]))

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return what makes a batch of rows: padded to the longest of them, labels too where every token has one."""
        kind = DataCollatorForTokenClassification if self.task.tags_words else DataCollatorWithPadding
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]] = kind(self.tokenizer)
        return collate


class StageTrainer(Trainer):
    """A `transformers.Trainer` whose run is a function of its seed, and can stop anywhere.

    The order of the data follows from (seed, epoch), batches group rows of like length, a checkpoint holds only what
    trains, and a loss that is no number ends the run before it is saved. Of several processes each learns from its
    part of the batch.
    """

    def __init__(self, *, lesson: Lesson, **kwargs: Any) -> None:
        super().__init__(
            train_dataset=lesson.train,
            eval_dataset=lesson.validation,
            **{"data_collator": lesson.collator(), **kwargs},
        )
        self.remove_callback(PrinterCallback)  # a library does not print
        self.model_accepts_loss_kwargs = False  # the heads average over their batch, whatever else they are told
        self.network: PreTrainedModel = kwargs["model"]  # `model`, but never None and never wrapped
        self.lesson = lesson
        self.sampler = EpochSampler(
            self.args.per_device_train_batch_size * lesson.world.size * self.args.gradient_accumulation_steps,
            list(lesson.train["length"]),
            self.args.seed,
        )

    def selectable(self) -> bool:
        """Tell whether the model, as it is at this step, may be chosen as the best."""
        return True

    def learners(self) -> dict[str, torch.nn.Parameter]:
        """Return what a checkpoint must hold: every parameter that trains or has trained, by its name."""
        return {name: weight for name, weight in self.network.named_parameters() if weight.requires_grad}

    def facts(self) -> dict[str, float]:
        """Return what a log line says beyond loss and learning rate."""
        return {}

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the loss of a batch; on a CPU with a dropout that is drawn cheaply."""
        with PackedDropout() if self.args.device.type == "cpu" else nullcontext():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count none: nobody reads them, and counting walks over all parameters in every step."""
        del inputs
        return 0

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score validation in the precision of the training, sorted by length, each process its share."""
        del eval_dataset, ignore_keys
        precision = "bf16" if self.args.bf16 else "fp16" if self.args.fp16 else "fp32"
        scores = self.lesson.score(self.network, self.args.device, SILENT, "validation", precision)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add our facts to a log line.

        Raises:
            TrainingError: the loss is infinite or not a number.
        """
        if not isfinite(logs.get("loss", 0.0)):
            raise TrainingError(
                f"the loss is {logs['loss']} at step {self.state.global_step}; "
                f"lower --lr (now {self.args.learning_rate:g}) or use --precision fp32, with --overwrite"
            )
        super().log({**logs, **self.facts()}, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> "EpochSampler":
        del train_dataset
        return self.sampler

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        if not self.selectable():
            return False
        found: bool = super()._determine_best_metric(metrics, trial)
        self.control.should_save |= found
        return found

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        del state_dict
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: weight.detach().contiguous() for name, weight in self.learners().items()},
            folder / WEIGHTS,
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        del model
        known = dict(self.network.named_parameters())
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        if unknown := saved.keys() - known.keys():
            raise TrainingError(f"{resume_from_checkpoint} holds weights of another model ({unknown.pop()}); remove it")
        with torch.no_grad():
            for name, weight in saved.items():
                known[name].copy_(weight)


class EpochSampler(LengthGroupedSampler):
    """Shuffle rows into batches of like length, in an order that follows from (seed, epoch) alone."""

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; accelerate calls this before each."""
        self.generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)


class Conductor(TrainerCallback):
    """Say when to evaluate and save, and tell the world how far the training is."""

    def __init__(self, trainer: StageTrainer, tracker: Tracker) -> None:
        self.trainer = trainer
        self.tracker = tracker

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        """Start the bar where the run resumes, every process with a dropout of its own, and nothing that had ended."""
        del kwargs
        if rank := self.trainer.lesson.world.rank:
            torch.manual_seed(args.seed + 1_000_003 * rank)
        self.tracker.advance(state.global_step)
        for callback in self.trainer.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                control.should_training_stop |= (
                    callback.early_stopping_patience_counter >= callback.early_stopping_patience
                )
        return control

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        """Evaluate at the end and never before the model may be chosen; log whatever is saved."""
        del args, kwargs
        logged = next((line for line in reversed(state.log_history) if "loss" in line), {})
        self.tracker.advance(1, **{name: logged[key] for name, key in SHOWN.items() if key in logged})
        control.should_evaluate |= state.global_step >= state.max_steps
        control.should_evaluate &= self.trainer.selectable()
        control.should_log |= control.should_save or control.should_evaluate
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint as whole, once all processes have written theirs and it is on the disk."""
        del control, kwargs
        self.trainer.lesson.world.wait()
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            for path in folder.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            (folder / COMPLETE).touch()


def train(
    make: Callable[..., StageTrainer],
    model: PreTrainedModel,
    lesson: Lesson,
    plan: Plan,
    config: TrainingConfig,
    workspace: Workspace,
    progress: Progress,
    *,
    warmup: float = 0.0,
    decay_from: int = 0,
) -> StageTrainer:
    """Train `model` in place, from the workspace's last checkpoint if there is one, and leave it at its best.

    `make` is the trainer's class or a partial of it. The best is chosen on validation among the evaluations that
    count (`StageTrainer.selectable`), one an epoch and one at the end. The learning rate rises for a share `warmup` of
    the steps, and falls to 0 from step `decay_from` on.

    Raises:
        TrainingError: the loss is no number, or the disk is full; the last checkpoint is kept.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    trainer = make(
        model=model,
        args=_arguments(model, config, plan, workspace, round(warmup * plan.steps), decay_from, lesson, progress),
        lesson=lesson,
    )
    if config.patience:
        trainer.add_callback(EarlyStoppingCallback(config.patience))
    resume = workspace.last_checkpoint()
    lesson.world.require_equal(
        resume and resume.name, "the last checkpoint", "give an --out on a disk that all machines share"
    )
    if resume:
        progress.say(f"resuming at step {resume.name.removeprefix('checkpoint-')} of {plan.steps}")
    try:
        plain = eager_attention(model) if trainer.args.device.type == "cpu" else nullcontext()
        with quiet(), plain, progress.track("training", plan.steps) as tracker:
            trainer.add_callback(Conductor(trainer, tracker))
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if lesson.world.first:
            _write_log(trainer, workspace)
    except Exception as error:
        raise _as_training_error(error, workspace) from error
    stopped = trainer.state.global_step
    if stopped < plan.steps:
        progress.say(f"stopped at step {stopped}: {config.patience} evaluations in a row were no better")
    if trainer.state.best_model_checkpoint:
        trainer._load_from_checkpoint(trainer.state.best_model_checkpoint)
    return trainer


def publish(
    model: PreTrainedModel, lesson: Lesson, manifest: Manifest, out: Path, workspace: Workspace, overwrite: bool
) -> Artifact:
    """Write what a training made to `out`, an ordinary Hugging Face folder, and close its workspace.

    Raises:
        ArtifactError: `out` is taken, or the disk is full; the workspace is kept then.
    """
    if lesson.world.first:
        with Artifact.writing(out, overwrite) as draft:
            save_checkpoint(model, lesson.tokenizer, draft.path)
            workspace.hand_over(draft.path)
            draft.finish(manifest)
        workspace.close()
    lesson.world.wait()
    return Artifact.open(out)


def predict(
    model: PreTrainedModel,
    rows: "Dataset",
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    progress: Progress = SILENT,
    title: str = "scoring",
    *,
    precision: str = "fp32",
    world: World = ALONE,
    batch_size: int = 64,
) -> Array:
    """Return fp32 logits of shape (items, labels), in the order of `rows`; the longest are asked first.

    A word whose tokens were cut off is answered with zeros.

    Raises:
        ConfigError: there are no rows.
    """
    if not len(rows):
        raise ConfigError("there are no rows to score; give a split that holds some")
    lengths = np.asarray(rows["length"])
    starts = list(rows["starts"]) if "starts" in rows.column_names else None
    mine = np.argsort(lengths, kind="stable")[::-1][world.rank :: world.size]
    inputs = rows.select_columns([name for name in rows.column_names if name in tokenizer.model_input_names])
    answers: list[tuple[int, Array]] = []
    network: torch.nn.Module = model
    network.to(device).eval()
    autocast = torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF)
    with torch.inference_mode(), autocast, progress.track(title, len(mine)) as tracker:
        for start in range(0, len(mine), batch_size):
            chosen = [int(row) for row in mine[start : start + batch_size]]
            batch = tokenizer.pad(inputs[chosen], return_tensors="pt").to(device)
            logits = model(**batch).logits.float().cpu().numpy()
            for row, answer in zip(chosen, logits, strict=True):
                if starts is None:
                    answers.append((row, answer[None]))
                else:
                    tokens = answer[-lengths[row] :] if tokenizer.padding_side == "left" else answer
                    answers.append((row, at_words(tokens, starts[row])))
            tracker.advance(len(chosen))
    of_row = dict(world.gather(answers))
    return np.concatenate([of_row[row] for row in range(len(rows))])


def check_request(config: TrainingConfig, model_type: str) -> None:
    """Refuse what this machine cannot do before any time is spent on it.

    Raises:
        ConfigError: the precision cannot be trained in, or a tracker is unknown or not installed.
        ModelError: a GPU was asked for, and there is none.
    """
    from transformers.integrations import integration_utils as untyped

    trackers: Any = untyped
    choose_precision(config, torch_device(config.device), model_type)
    known = sorted(trackers.INTEGRATION_TO_CALLBACK)
    for name in config.report_to:
        if name not in known:
            raise ConfigError(f"--report-to {name} is no tracker of transformers.Trainer; {suggest(name, known)}")
        if name not in trackers.get_available_reporting_integrations():
            raise ConfigError(f"--report-to {name} is not installed; install it with `pip install {name}`")


def choose_precision(config: TrainingConfig, device: torch.device, model_type: str) -> tuple[str, str]:
    """Return the precision to train in, and the reason for it; `auto` is bf16 where it is native, else fp32.

    Raises:
        ConfigError: fp16 was asked for without a GPU, or half precision of a family that cannot do it.
    """
    if config.precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; use bf16 or auto on a CPU")
    if model_type in FP32_ONLY:
        if config.precision in HALF:
            raise ConfigError(f"--precision {config.precision}, but {model_type} trains in fp32 only; use fp32 or auto")
        return "fp32", f"{model_type} overflows in half precision"
    if config.precision != "auto":
        return config.precision, "as asked"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "the GPU has it") if native else ("fp32", "the GPU has no bf16")
    if this_machine().native_bf16:
        return "bf16", "this CPU multiplies bf16 natively"
    return "fp32", "this CPU has no native bf16"


def _arguments(
    model: PreTrainedModel,
    config: TrainingConfig,
    plan: Plan,
    workspace: Workspace,
    warmup: int,
    decay_from: int,
    lesson: Lesson,
    progress: Progress,
) -> TrainingArguments:
    device = torch_device(config.device)
    precision, reason = choose_precision(config, device, model.config.model_type)
    progress.say(f"training in {precision} on {device.type}: {reason}")
    save_every = ceil(plan.steps / SAVES / LOG_EVERY) * LOG_EVERY
    return TrainingArguments(
        output_dir=str(workspace.path),
        max_steps=plan.steps,
        per_device_train_batch_size=config.batch_size // lesson.world.size,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.lr,
        warmup_steps=warmup,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": plan.steps - max(warmup, decay_from), "decay_type": "linear"},
        seed=config.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device.type == "cpu",
        eval_strategy="steps",
        eval_steps=plan.steps_per_epoch,
        save_steps=save_every,
        save_total_limit=3,  # the best, the last, and the one before until the last is whole
        logging_steps=LOG_EVERY,
        logging_nan_inf_filter=False,
        metric_for_best_model=lesson.task.primary,
        greater_is_better=True,
        label_names=["labels"],
        report_to=list(config.report_to) or "none",
        restore_callback_states_from_checkpoint=True,
        disable_tqdm=True,
    )


def _write_log(trainer: StageTrainer, workspace: Workspace) -> None:
    lines = (json.dumps(line, sort_keys=True) for line in trainer.state.log_history if "train_runtime" not in line)
    write_atomically(workspace.path / LOG, "".join(f"{line}\n" for line in lines))


def _as_training_error(error: Exception, workspace: Workspace) -> Exception:
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    if isinstance(error, UnpicklingError):
        return TrainingError(
            f"a checkpoint in {workspace.path} holds more than tensors, which could run code, and was not loaded; "
            "discard it with --overwrite"
        )
    if isinstance(error, SafetensorError):
        error = as_disk_error(error)
    if isinstance(error, OSError) or "PytorchStreamWriter" in str(error):
        kept = workspace.last_checkpoint()
        return TrainingError(
            f"a checkpoint could not be written to {workspace.path} ({error}); free space and repeat the command"
            + (f" to resume at step {kept.name.removeprefix('checkpoint-')}" if kept else "")
        )
    return error
