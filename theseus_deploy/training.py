"""The training that finetune and compress share: transformers.Trainer with our data path, checkpoints and progress."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    DataCollatorWithPadding,
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

from theseus_deploy.configs import TrainingConfig
from theseus_deploy.data import Split, tokenise
from theseus_deploy.errors import ConfigError, TrainingError
from theseus_deploy.machine import this_machine
from theseus_deploy.models import as_disk_error, torch_device
from theseus_deploy.progress import SILENT, Progress, Tracker
from theseus_deploy.tasks import Array, Task
from theseus_deploy.workspace import COMPLETE, Workspace

if TYPE_CHECKING:
    from datasets import Dataset

WEIGHTS = "model.safetensors"
LOG_EVERY = 10  # optimizer steps
SHOWN = {"loss": "loss", "p": "rate", "lr": "learning_rate", "p lr": "equivalent_lr"}  # beside the bar, as last logged
SAVES = 20  # checkpoints over the whole training


@dataclass(frozen=True)
class Plan:
    """How long a training is, in optimizer steps."""

    steps: int
    steps_per_epoch: int

    @classmethod
    def of(cls, config: TrainingConfig, rows: int) -> "Plan":
        """Count the steps that `config` asks for on `rows` rows.

        Raises:
            ConfigError: a launcher started several processes, each of which would write the result.
        """
        if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
            raise ConfigError(f"{processes} processes were launched, and 1 can train yet; start theseus by itself")
        steps_per_epoch = ceil(rows / (config.batch_size * config.accumulate))
        return cls(config.max_steps or ceil(config.epochs * steps_per_epoch), steps_per_epoch)


@dataclass(frozen=True)
class Lesson:
    """What is learned from: a task, the rows of train and validation as a model takes them, and the tokenizer."""

    task: Task
    tokenizer: PreTrainedTokenizerBase
    train: "Dataset"
    validation: "Dataset"

    @classmethod
    def prepare(
        cls, train: Split, validation: Split, task: Task, tokenizer: PreTrainedTokenizerBase, ref: str
    ) -> "Lesson":
        """Tokenise both splits. Validation is sorted by length, so that its batches hold little padding."""
        encoded = tokenise(validation, task, tokenizer, ref)
        order = np.argsort(encoded["length"], kind="stable")
        return cls(task, tokenizer, tokenise(train, task, tokenizer, ref), encoded.select(order))

    def score(self, model: PreTrainedModel, device: torch.device, progress: Progress, title: str) -> dict[str, float]:
        """Return the task's metrics of `model` on validation, in fp32."""
        return self.task.score(
            predict(model, self.validation, self.tokenizer, device, progress, title), self.validation["labels"]
        )


class StageTrainer(Trainer):
    """A `transformers.Trainer` whose run is a function of its seed, and can stop anywhere.

    The order of the data follows from (seed, epoch), batches group rows of like length, a checkpoint holds only what
    trains, and a loss that is no number ends the run before it is saved.
    """

    def __init__(self, *, lengths: list[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.remove_callback(PrinterCallback)  # a library does not print
        self.model_accepts_loss_kwargs = False  # the heads average over their batch, whatever else they are told
        self.network: PreTrainedModel = kwargs["model"]  # `model`, but never None and never wrapped
        self.lengths = lengths

    def selectable(self) -> bool:
        """Tell whether the model, as it is at this step, may be chosen as the best."""
        return True

    def facts(self) -> dict[str, float]:
        """Return what a log line says beyond loss and learning rate."""
        return {}

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
        return EpochSampler(
            self.args.train_batch_size * self.args.gradient_accumulation_steps, self.lengths, self.args.seed
        )

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
            {
                name: weight.detach().contiguous()
                for name, weight in self.network.named_parameters()
                if weight.requires_grad
            },
            folder / WEIGHTS,
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        del model
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        with torch.no_grad():
            for name, weight in self.network.named_parameters():
                if weight.requires_grad:
                    weight.copy_(saved.pop(name))
        if saved:
            raise TrainingError(
                f"{resume_from_checkpoint} holds weights of another model ({next(iter(saved))}); remove it"
            )


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

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the bar where the run resumes."""
        del args, control, kwargs
        self.tracker.advance(state.global_step)

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
        """Mark the checkpoint as whole, once it is on the disk."""
        del control, kwargs
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
    warmup: float = 0.0,
) -> StageTrainer:
    """Train `model` in place, from the workspace's last checkpoint if there is one, and leave it at its best.

    `make` is the trainer's class or a partial of it. The best is chosen on validation among the evaluations that
    count (`StageTrainer.selectable`), one an epoch and one at the end.

    Raises:
        TrainingError: the loss is no number, or the disk is full; the last checkpoint is kept.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    arguments = _arguments(config, plan, workspace, warmup, lesson.task, progress)
    trainer = make(
        model=model,
        args=arguments,
        train_dataset=lesson.train,
        eval_dataset=lesson.validation,
        lengths=lesson.train["length"],
        data_collator=DataCollatorWithPadding(lesson.tokenizer),
        compute_metrics=partial(_metrics, lesson.task),
    )
    resume = workspace.last_checkpoint()
    if resume:
        progress.say(f"resuming at step {resume.name.removeprefix('checkpoint-')} of {plan.steps}")
    try:
        with progress.track("training", plan.steps) as tracker:
            trainer.add_callback(Conductor(trainer, tracker))
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except Exception as error:
        raise _as_training_error(error, workspace) from error
    if trainer.state.best_model_checkpoint:
        trainer._load_from_checkpoint(trainer.state.best_model_checkpoint)
    return trainer


def predict(
    model: PreTrainedModel,
    rows: "Dataset",
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    progress: Progress = SILENT,
    title: str = "scoring",
    batch_size: int = 64,
) -> Array:
    """Return fp32 logits of shape (rows, labels), in the order of `rows`; the longest are asked first."""
    order = np.argsort(rows["length"], kind="stable")[::-1]
    inputs = rows.remove_columns([name for name in rows.column_names if name not in tokenizer.model_input_names])
    logits: Array | None = None
    network: torch.nn.Module = model
    network.to(device).eval()
    with torch.inference_mode(), progress.track(title, len(order)) as tracker:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = tokenizer.pad(inputs[chosen], return_tensors="pt").to(device)
            answer = model(**batch).logits.float().cpu().numpy()
            if logits is None:
                logits = np.empty((len(order), answer.shape[1]), np.float32)
            logits[chosen] = answer
            tracker.advance(len(chosen))
    if logits is None:
        raise ConfigError("there are no rows to score; give a split that holds some")
    return logits


def choose_precision(config: TrainingConfig, device: torch.device) -> tuple[str, str]:
    """Return the precision to train in, and the reason for it; `auto` is bf16 where it is native, else fp32.

    Raises:
        ConfigError: fp16 was asked for without a GPU.
    """
    if config.precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; use bf16 or auto on a CPU")
    if config.precision != "auto":
        return config.precision, "as asked"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "the GPU has it") if native else ("fp32", "the GPU has no bf16")
    if this_machine().native_bf16:
        return "bf16", "this CPU multiplies bf16 natively"
    return "fp32", "this CPU has no native bf16"


def _arguments(
    config: TrainingConfig, plan: Plan, workspace: Workspace, warmup: float, task: Task, progress: Progress
) -> TrainingArguments:
    device = torch_device(config.device)
    precision, reason = choose_precision(config, device)
    progress.say(f"training in {precision} on {device.type}: {reason}")
    save_every = ceil(plan.steps / SAVES / LOG_EVERY) * LOG_EVERY
    return TrainingArguments(
        output_dir=str(workspace.path),
        max_steps=plan.steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=64,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.lr,
        warmup_steps=round(warmup * plan.steps),
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
        metric_for_best_model=task.facts.primary,
        greater_is_better=True,
        label_names=["labels"],
        report_to=list(config.report_to) or "none",
        disable_tqdm=True,
    )


def _metrics(task: Task, prediction: Any) -> dict[str, float]:
    return task.score(prediction.predictions, prediction.label_ids)


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
