"""A training from its rows to its artifact: what finetune and compress share."""

import errno
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from theseus_deploy.artifact import Artifact, Manifest
from theseus_deploy.configs import Keep, TrainingConfig
from theseus_deploy.data import note_repeats
from theseus_deploy.disk import as_disk_error, write_atomically
from theseus_deploy.distributed import ALONE, World
from theseus_deploy.errors import ConfigError, TrainingError, brief, suggest
from theseus_deploy.execution import eager_attention, quiet, torch_device, torch_threads
from theseus_deploy.lesson import HALF, Lesson
from theseus_deploy.machine import this_machine
from theseus_deploy.models.checkpoint import Checkpoint, save_checkpoint
from theseus_deploy.progress import Progress
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task
from theseus_deploy.trainer import Conductor, StageTrainer
from theseus_deploy.workspace import LOG, Workspace, lost_from, step_of

LOG_EVERY = 10  # optimizer steps
SAVES = 20  # checkpoints over the whole training
UNREACHED = (errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH)
FP32_ONLY = ("deberta",)  # its mask overflows in half precision: transformers #35332; DeBERTa-v2 does not


@dataclass(frozen=True)
class Length:
    """How long a training is, in optimizer steps."""

    steps: int
    steps_per_epoch: int

    @classmethod
    def of(cls, config: TrainingConfig, rows: int, world: World = ALONE) -> "Length":
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
        return cls(config.steps(steps_per_epoch), steps_per_epoch)


@dataclass(frozen=True)
class Prepared:
    """What a training begins with: its rows as tokens, how long it is, and where its checkpoints go."""

    lesson: Lesson
    length: Length
    workspace: Workspace


@contextmanager
def prepared(
    checkpoint: Checkpoint,
    data: str,
    splits: tuple[Split, Split],
    task: Task,
    config: TrainingConfig,
    out: Path,
    request: Mapping[str, Any],
    *,
    overwrite: bool,
    world: World,
    progress: Progress,
    check: Callable[[Length], object] | None = None,
) -> Iterator[Prepared]:
    """Refuse what cannot be trained, what costs least first; make tokens of the rows, and hold the workspace of `out`.

    `splits` are train and validation of what the user calls `data`; `check` may refuse the length. Within, torch has
    the threads that were asked for.

    Raises:
        TheseusError: this machine, the processes, the length, the tokenizer, the rows or `out` do not allow it.
    """
    check_request(config, checkpoint.config.model_type)
    train, validation = splits
    note_repeats(train, validation, progress)
    length = Length.of(config, len(train), world)
    if check:
        check(length)
    world.join(torch_device(config.device))
    lesson = Lesson.prepare(train, validation, task, checkpoint.tokenizer(task), data, world)
    held = Workspace.held(out, request, overwrite, world, progress)
    with torch_threads(config.threads), held as workspace:
        yield Prepared(lesson, length, workspace)


def train(
    make: Callable[..., StageTrainer],
    model: PreTrainedModel,
    lesson: Lesson,
    length: Length,
    config: TrainingConfig,
    workspace: Workspace,
    progress: Progress,
    *,
    warmup: float = 0.0,
    decay_from: int = 0,
    keep: Keep = "best",
) -> StageTrainer:
    """Train `model` in place, from the workspace's last checkpoint if there is one, and leave it at its best, or last.

    `make` is the trainer's class or a partial of it. The best is chosen on validation among the evaluations that
    count (`StageTrainer.selectable`), one an epoch and one at the end. The learning rate rises for a share `warmup` of
    the steps, and falls to 0 from step `decay_from` on.

    Raises:
        TrainingError: the loss is no number, the disk is full, or the last checkpoint is damaged; it is kept.
    """
    trainer = make(
        model=model,
        args=_arguments(model, config, length, workspace, round(warmup * length.steps), decay_from, lesson, progress),
        lesson=lesson,
    )
    if config.patience:
        trainer.add_callback(EarlyStoppingCallback(config.patience))
    resume = workspace.last_checkpoint()
    lesson.world.require_equal(
        resume and resume.name, "the last checkpoint", "give an --out on a disk that all machines share"
    )
    if resume and (lost := lost_from(resume)):
        raise _as_damage(FileNotFoundError(f"it has lost {', '.join(lost)}"), resume, workspace)
    if resume:
        progress.say(f"resuming at step {step_of(resume)} of {length.steps}")
    conductor: Conductor | None = None
    try:
        plain = eager_attention(model) if trainer.args.device.type == "cpu" else nullcontext()
        with quiet(), plain, torch_threads(config.threads), progress.track("training", length.steps) as tracker:
            conductor = Conductor(trainer, tracker)
            trainer.add_callback(conductor)
            if resume and (step_of(resume) >= length.steps or _gave_up(resume, config.patience)):
                # All that is missing is the result.
                trainer.state = TrainerState.load_from_json(str(resume / TRAINER_STATE_NAME))
                trainer.recall_best()
                trainer._load_from_checkpoint(str(resume))
                conductor.began = True
            else:
                trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if lesson.world.first:
            _write_log(trainer, workspace)
        if keep == "best" and (best := trainer.best_checkpoint):
            _take(best, trainer, workspace)
    except Exception as error:
        if resume and conductor and not conductor.began:
            raise _as_damage(error, resume, workspace) from error
        raise _as_training_error(error, workspace) from error
    finally:
        _without_autocast(model)
    stopped = trainer.state.global_step
    if stopped < length.steps:
        progress.say(f"stopped at step {stopped}: {config.patience} evaluations in a row were no better")
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


def check_request(config: TrainingConfig, model_type: str) -> None:
    """Refuse what this machine cannot do before any time is spent on it.

    Raises:
        ConfigError: the precision cannot be trained in, or a tracker is unknown or not installed.
        ModelError: a GPU was asked for, and there is none.
    """
    choose_precision(config, torch_device(config.device), model_type)
    check_trackers(config)


def check_trackers(config: TrainingConfig) -> None:
    """Refuse to report to what nobody could read.

    Raises:
        ConfigError: a tracker is unknown or not installed.
    """
    from transformers.integrations import integration_utils as untyped

    trackers: Any = untyped
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
    length: Length,
    workspace: Workspace,
    warmup: int,
    decay_from: int,
    lesson: Lesson,
    progress: Progress,
) -> TrainingArguments:
    device = torch_device(config.device)
    precision, reason = choose_precision(config, device, model.config.model_type)
    progress.say(f"training in {precision} on {device.type}: {reason}")
    save_every = ceil(length.steps / SAVES / LOG_EVERY) * LOG_EVERY
    arguments = TrainingArguments(
        output_dir=str(workspace.path),
        max_steps=length.steps,
        per_device_train_batch_size=config.batch_size // lesson.world.size,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.lr,
        warmup_steps=warmup,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": length.steps - max(warmup, decay_from), "decay_type": "linear"},
        seed=config.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device.type == "cpu",
        eval_strategy="steps",
        eval_steps=length.steps_per_epoch,
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
    if arguments.n_gpu > 1:  # a process trains on one GPU; for more there is torchrun, which keeps the batch what it is
        arguments._n_gpu = 1
    return arguments


def _without_autocast(model: PreTrainedModel) -> None:
    """Give the model its own `forward` back, around which accelerate has put autocast to train in half precision.

    accelerate's `unwrap_model` takes off what transformers has put there as well.
    """
    if original := vars(model).pop("_original_forward", None):
        del model.forward
        if model.forward != original:  # somebody else had put one around it before
            model.forward = original


def _write_log(trainer: StageTrainer, workspace: Workspace) -> None:
    lines = (json.dumps(line, sort_keys=True) for line in trainer.state.log_history if "train_runtime" not in line)
    write_atomically(workspace.path / LOG, "".join(f"{line}\n" for line in lines))


def _take(best: Path, trainer: StageTrainer, workspace: Workspace) -> None:
    try:
        trainer._load_from_checkpoint(str(best))
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{best}, the best so far, cannot be read ({brief(error)}); remove it to take the "
            f"weights of the last step, or {workspace.path} to begin anew"
        ) from error


def _as_damage(error: Exception, checkpoint: Path, workspace: Workspace) -> TrainingError:
    code = isinstance(error, UnpicklingError) and "weights_only" in str(error)
    reason = "it holds more than tensors, which could run code" if code else brief(error)
    return TrainingError(
        f"{checkpoint} cannot be resumed from ({reason}); remove it to resume from the one "
        f"before, or {workspace.path} to begin anew"
    )


def _is_of_a_file(error: OSError) -> bool:
    """Tell what a file system says from what a tracker's connection does, whose errors have other numbers, or none."""
    return (error.errno or 0) > 0 and not isinstance(error, ConnectionError) and error.errno not in UNREACHED


def _gave_up(checkpoint: Path, patience: int | None) -> bool:
    """Tell whether a training had lost its patience by its checkpoint."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    saved: Any = (state.stateful_callbacks or {}).get(EarlyStoppingCallback.__name__)
    return patience is not None and saved and saved["attributes"]["early_stopping_patience_counter"] >= patience


def _as_training_error(error: Exception, workspace: Workspace) -> Exception:
    if isinstance(error, SafetensorError):
        error = as_disk_error(error)
    if isinstance(error, OSError) and _is_of_a_file(error):
        kept = workspace.last_checkpoint()
        return TrainingError(
            f"a checkpoint could not be written to {workspace.path} ({error}); free space and repeat the command"
            + (f" to resume at step {step_of(kept)}" if kept else "")
        )
    return error
