"""transformers.Trainer with our data path, checkpoints and progress."""

import os
from contextlib import nullcontext
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from theseus_deploy.disk import torch_writing, write_atomically
from theseus_deploy.dropout import PackedDropout
from theseus_deploy.errors import TrainingError
from theseus_deploy.lesson import Lesson
from theseus_deploy.progress import SILENT, Tracker
from theseus_deploy.workspace import COMPLETE

WEIGHTS = "model.safetensors"
SHOWN = {"loss": "loss", "p": "rate", "lr": "learning_rate", "p lr": "equivalent_lr"}  # beside the bar, as last logged


class StageTrainer(Trainer):
    """A `transformers.Trainer` whose run is a function of its seed, and can stop anywhere.

    The order of the data follows from (seed, epoch), batches group rows of like length, a checkpoint holds only what
    trains, and a loss that is no number ends the run before it is saved. Of several processes each learns from its
    part of the batch. Without `dropout` the model computes in training what it does afterwards.
    """

    def __init__(self, *, lesson: Lesson, dropout: bool = True, **kwargs: Any) -> None:
        super().__init__(
            train_dataset=lesson.train,
            eval_dataset=lesson.validation,
            **{"data_collator": lesson.collator(), **kwargs},
        )
        self.remove_callback(PrinterCallback)  # a library does not print
        self.model_accepts_loss_kwargs = False  # the heads average over their batch, whatever else they are told
        self.network: PreTrainedModel = kwargs["model"]  # `model`, but never None and never wrapped
        self.lesson = lesson
        self.dropout = dropout
        batch = self.args.per_device_train_batch_size * lesson.world.size * self.args.gradient_accumulation_steps
        self.sampler = EpochSampler.of(lesson, batch, self.args.seed)

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
        """Compute the loss of a batch: on a CPU with a dropout that is drawn cheaply, or with none."""
        if not self.dropout:
            self.disable_dropout()
        with PackedDropout() if self.dropout and self.args.device.type == "cpu" else nullcontext():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    @property
    def best_checkpoint(self) -> Path | None:
        """Return the checkpoint of the best evaluation, None if there was none or it is gone.

        It is found by its step: the path in the state is that of a run which may have been started elsewhere.
        """
        step = self.state.best_global_step
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{step}"
        return folder if step and (folder / WEIGHTS).is_file() else None

    def recall_best(self) -> None:
        """Put right what a resumed state says of the best; of one whose checkpoint is gone, nothing is remembered."""
        if best := self.best_checkpoint:
            self.state.best_model_checkpoint = str(best)
        else:
            self.state.best_model_checkpoint = self.state.best_global_step = self.state.best_metric = None

    def disable_dropout(self) -> None:
        """Put the model in evaluation mode, whose gradients are those of a model that drops nothing."""
        self.network.train(False)

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

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        with torch_writing():
            super()._save_optimizer_and_scheduler(output_dir)

    def _save_rng_state(self, output_dir: str) -> None:
        with torch_writing():
            super()._save_rng_state(output_dir)

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

    @classmethod
    def of(cls, lesson: Lesson, batch_size: int, seed: int) -> "EpochSampler":
        """Order the training rows; `batch_size` is what an optimizer step learns from, over all processes."""
        return cls(batch_size, list(lesson.train["length"]), seed)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, before each."""
        self.generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)


class Conductor(TrainerCallback):
    """Say when to evaluate and save, and tell the world how far the training is."""

    def __init__(self, trainer: StageTrainer, tracker: Tracker) -> None:
        self.trainer = trainer
        self.tracker = tracker
        self.began = False  # what was saved, random states last, is loaded by then

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the bar where the run resumes, and every process with a dropout of its own."""
        del control, kwargs
        if rank := self.trainer.lesson.world.rank:
            torch.manual_seed(args.seed + 1_000_003 * rank)
        self.trainer.recall_best()
        self.tracker.advance(state.global_step)

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Choose the order of the epoch, which accelerate forgets where processes resume in the midst of one."""
        del args, control, kwargs
        self.trainer.sampler.set_epoch(int(state.epoch or 0))

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remember that a step began."""
        del args, state, control, kwargs
        self.began = True

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
            written = sorted(folder.iterdir())
            for path in written:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            write_atomically(folder / COMPLETE, "".join(f"{path.name}\n" for path in written))
