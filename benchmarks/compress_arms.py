"""The four trainings that `compress_speed.py` times, each on one model and one data set; what they are, it says."""

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    TrainerCallback,
    get_scheduler,
    get_wsd_schedule,
    set_seed,
)

from theseus_deploy.benchmark.worker import peak_rss
from theseus_deploy.compress.families import count_layers
from theseus_deploy.compress.modules import assemble, set_mask, successor_parameters, theseus_modules
from theseus_deploy.compress.schedule import Schedule, replacement_mask
from theseus_deploy.compress.stage import map_of
from theseus_deploy.compress.trainer import TheseusTrainer
from theseus_deploy.configs import CompressConfig, Precision
from theseus_deploy.data import open_data
from theseus_deploy.dropout import PackedDropout
from theseus_deploy.execution import eager_attention, quiet
from theseus_deploy.lesson import Lesson
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.progress import SILENT
from theseus_deploy.tasks import Task
from theseus_deploy.tokens import tokenise
from theseus_deploy.trainer import EpochSampler, StageTrainer
from theseus_deploy.training import Length, train
from theseus_deploy.workspace import Workspace

EPOCHS = 3  # at a rate that is held, that rises, and that is 1
STRIDE = 4  # of `official`, whose step takes several of the others'
MAX_NORM = 1.0  # the Trainer's default, and the official script's


@dataclass(frozen=True)
class Settings:
    """What is the same for every arm."""

    model: str = "demo:minilm"
    data: str = "demo:tweets"
    rows: int = 640
    batch: int = 32
    max_length: int = 128
    seed: int = 14  # its draws come near their mean: 18 of 18 modules in `start`, 36 of 38 in `replacing`
    threads: int = 1

    def config(self, precision: Precision) -> CompressConfig:
        """Return what `theseus compress` would be asked: the curriculum from 0.3, and all as in the official code."""
        return CompressConfig(
            epochs=EPOCHS, batch_size=self.batch, seed=self.seed, threads=self.threads,
            max_length=self.max_length, precision=precision, device="cpu",
            method="theseus", init="bottom", decay="linear",
        )  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One way to train, in one precision."""

    name: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class Curriculum(Schedule):
    """A curriculum that holds its base rate for the `held` steps before it rises."""

    held: int = 0

    def rate(self, step: int) -> float:
        """Return p, the probability that a module is replaced in optimizer step `step`, counted from 0."""
        return super().rate(max(0, step - self.held))


class Clock(TrainerCallback):
    """Stop the time from the end of one step to the end of the next."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def tick(self, *_: Any, **__: Any) -> None:
        """Begin the first step, or end one and begin the next."""
        self.stamps.append(time.perf_counter())

    on_train_begin = tick
    on_step_end = tick  # logging, and the callbacks after this one, fall into the next step

    @property
    def seconds(self) -> list[float]:
        """Return how long each step took."""
        return [float(taken) for taken in np.diff(self.stamps)]


class Bench:
    """One arm's model and data, in its process."""

    def __init__(self, settings: Settings, arm: Arm) -> None:
        self.settings = settings
        self.arm = arm
        self.config = settings.config(arm.precision)
        torch.set_num_threads(settings.threads)
        checkpoint = open_checkpoint(settings.model)
        corpus = open_data(settings.data)
        rows, _ = corpus.for_training()
        task = Task.infer(rows.labels, corpus.text, corpus.label, checkpoint.longest(settings.max_length))
        sample = rows.sample(settings.rows)
        tokenizer = checkpoint.tokenizer()
        self.all_lengths = list(tokenise(rows, task, tokenizer, corpus.ref)["length"])
        self.lesson = Lesson.prepare(sample, sample.take([0], "validation"), task, tokenizer, corpus.ref)
        with quiet():
            self.model: PreTrainedModel = checkpoint.fresh(task, settings.seed)
        self.modules = count_layers(self.model.config)
        if arm.name != "finetune":
            module_map = map_of(self.config, self.modules)
            self.model = assemble(self.model, module_map, self.config.init)
            self.modules = len(theseus_modules(self.model))

    @cached_property
    def length(self) -> Length:
        """Return the length of the measured training, in which no evaluation falls before the end."""
        length = Length.of(self.config, len(self.lesson.train))
        return replace(length, steps_per_epoch=length.steps)

    @property
    def epoch(self) -> int:
        """Return the steps of an epoch, which is a phase."""
        return self.length.steps // EPOCHS

    @cached_property
    def schedule(self) -> Schedule:
        """Return the replacing rate over the three phases."""
        return Curriculum("linear", self.config.base_rate, self.epoch, held=self.epoch)

    @property
    def lengths(self) -> list[int]:
        """Return the tokens of each row."""
        return list(self.lesson.train["length"])

    @cached_property
    def masks(self) -> list[tuple[bool, ...]]:
        """Return the replacement mask of each step, as TheseusTrainer draws it."""
        rate, seed = self.schedule.rate, self.config.seed
        return [replacement_mask(seed, step, self.modules, rate(step)) for step in range(self.length.steps)]

    @cached_property
    def steps(self) -> list[int]:
        """Return which steps of the training this arm takes."""
        if self.arm.name != "official":
            return list(range(self.length.steps))
        # A sample of so few steps should replace as many modules as all of them do.
        mean = np.mean([sum(mask) for mask in self.masks])
        ways = [list(range(offset, self.length.steps, STRIDE)) for offset in range(STRIDE)]
        return min(ways, key=lambda steps: abs(np.mean([sum(self.masks[step]) for step in steps]) - mean))

    def run(self, steps: int | None = None) -> dict[str, Any]:
        """Train once; answer with the seconds of each step and the most memory held."""
        gc.collect()  # a Trainer is a knot of references that would stand beside the next one
        forget_peak()
        before, clock = psutil.Process().memory_info().rss, Clock()
        load = os.getloadavg()[0]
        ARMS[self.arm.name](self, clock, steps or self.length.steps)
        return {"seconds": clock.seconds, "before_bytes": before, "peak_rss_bytes": peak_rss(), "load_average": load}

    def facts(self) -> dict[str, Any]:
        """Answer with what this arm trains on; the padding of all the data tells how fair the sample is."""
        masks = [self.masks[step] for step in self.steps] if self.arm.name != "finetune" else []
        rates = [self.schedule.rate(step) for step in self.steps]
        fixed = self.settings.max_length if self.arm.name == "official" else None
        return {
            "steps": self.steps,
            "steps_a_phase": self.epoch,
            "replaced": [sum(mask) for mask in masks],
            "replaced_expected": self.modules * float(np.mean(rates)) if masks else None,
            "skipped_expected": float(np.sum((1 - np.array(rates)) ** self.modules)) if masks else None,
            "rows": len(self.lengths),
            "rows_of_data": len(self.all_lengths),
            "padded_length": fixed or padded_length(self.lengths, self.settings),
            "padded_length_of_data": fixed or padded_length(self.all_lengths, self.settings),
        }

    def weights(self) -> NDArray[np.float32]:
        """Answer with the successors' weights, one after another."""
        return torch.cat([weight.detach().flatten() for weight in successor_parameters(self.model)]).numpy()


def theseus(bench: Bench, clock: Clock, steps: int) -> None:
    """Train as `theseus compress` does."""
    _with_trainer(partial(TheseusArm, schedule=bench.schedule), bench, clock, steps)


def finetune(bench: Bench, clock: Clock, steps: int) -> None:
    """Train as `theseus finetune` does."""
    _with_trainer(FinetuneArm, bench, clock, steps)


class Unscored(StageTrainer):
    """Never stop to evaluate."""

    def selectable(self) -> bool:
        """No model is chosen here."""
        return False


class TheseusArm(Unscored, TheseusTrainer):
    """TheseusTrainer without evaluation."""


class FinetuneArm(Unscored):
    """StageTrainer without evaluation."""


def _with_trainer(make: Callable[..., StageTrainer], bench: Bench, clock: Clock, steps: int) -> None:
    def unsaved(**kwargs: Any) -> StageTrainer:
        kwargs["args"].set_save(strategy="no")
        trainer = make(**kwargs)
        trainer.add_callback(clock)
        return trainer

    with tempfile.TemporaryDirectory() as folder:
        length = replace(bench.length, steps=steps)
        train(unsaved, bench.model, bench.lesson, length, bench.config, Workspace(Path(folder)), SILENT)


def bare(bench: Bench, clock: Clock, steps: int) -> None:
    """Train as `theseus` does, without transformers.Trainer: the loop one would write by hand."""
    set_seed(bench.config.seed)
    model, lr = bench.model.train(), bench.config.lr
    optimizer = torch.optim.AdamW(successor_parameters(model), lr, weight_decay=0.0, fused=True)
    scheduler = get_wsd_schedule(optimizer, 0, steps, steps, decay_type="linear")
    batches, total = grouped_batches(bench), torch.zeros(())
    clock.tick()
    for mask, inputs in zip(bench.masks[:steps], batches, strict=False):
        set_mask(theseus_modules(model), mask)
        if any(mask):
            half = torch.autocast("cpu", torch.bfloat16, enabled=bench.arm.precision == "bf16")
            with eager_attention(model), PackedDropout(), half:
                loss = model(**inputs).loss
            loss.backward()
            total += loss.detach()
            clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        clock.tick()
    assert torch.isfinite(total)


def official(bench: Bench, clock: Clock, steps: int) -> None:
    """Train at the official script's cost: every gradient, full padding, nothing skipped."""
    set_seed(bench.config.seed)
    model, lr = bench.model.requires_grad_(True).train(), bench.config.lr
    optimizer = torch.optim.AdamW(successor_parameters(model), lr, weight_decay=0.0)
    scheduler = get_scheduler("linear", optimizer, 0, steps)
    batches, total = padded_batches(bench), 0.0
    clock.tick()
    for step, inputs in zip([step for step in bench.steps if step < steps], batches, strict=False):
        set_mask(theseus_modules(model), bench.masks[step])
        loss = model(**inputs).loss
        loss.backward()
        total += loss.item()
        clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        scheduler.step()
        model.zero_grad()
        clock.tick()
    assert np.isfinite(total)


def grouped_batches(bench: Bench) -> Iterator[dict[str, torch.Tensor]]:
    """Return the batches that the Trainer sees, padded to their longest."""
    size, rows = bench.settings.batch, bench.lesson.train.remove_columns(["length", "reference"])
    sampler = EpochSampler(size, bench.lengths, bench.config.seed)
    loader = DataLoader(rows, size, sampler=sampler, collate_fn=DataCollatorWithPadding(bench.lesson.tokenizer))

    def epoch(number: int) -> Iterator[dict[str, torch.Tensor]]:
        sampler.set_epoch(number)
        return iter(loader)

    return chain.from_iterable(map(epoch, count()))


def padded_batches(bench: Bench) -> Iterator[dict[str, torch.Tensor]]:
    """Return batches in random order, every row padded to the longest input there may be."""
    whole = bench.lesson.tokenizer.pad(
        bench.lesson.train.remove_columns(["length", "reference"])[:],
        padding="max_length", max_length=bench.settings.max_length, return_tensors="pt",
    )  # fmt: skip
    loader = DataLoader(TensorDataset(*whole.values()), bench.settings.batch, shuffle=True)
    return (dict(zip(whole, values, strict=True)) for _ in count() for values in loader)


ARMS: dict[str, Callable[[Bench, Clock, int], None]] = {
    "official": official, "finetune": finetune, "theseus": theseus, "bare": bare,
}  # fmt: skip


def forget_peak() -> None:
    """Let the kernel count the most memory held from here on, where it can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # then the peak is that of the process so far
        return


def padded_length(lengths: list[int], settings: Settings) -> float:
    """Return how long the batches of a training are in the mean, grouped as we group them."""
    longest = []
    sampler = EpochSampler(settings.batch, lengths, settings.seed)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        order = [lengths[row] for row in sampler]
        longest += [max(order[start : start + settings.batch]) for start in range(0, len(order), settings.batch)]
    return float(np.mean(longest))
