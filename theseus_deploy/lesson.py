"""What a model learns from, and how its answers are scored: the rows of a task as tokens, and predictions of them."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from theseus_deploy.cache import cached, key_of
from theseus_deploy.distributed import ALONE, World
from theseus_deploy.errors import ConfigError, DataError, ModelError
from theseus_deploy.linear import OneDNNLinear
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Array, Task
from theseus_deploy.tokens import tokenise
from theseus_deploy.words import at_words

if TYPE_CHECKING:
    from datasets import Dataset

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
            DataError: a label that the task does not know, or no word that the tokenizer makes a token of.
        """
        reading = {
            "task": task.to_json(),
            "tokenizer": tokenizer.backend_tokenizer.to_str(),
            "inputs": tokenizer.model_input_names,
            "sides": [tokenizer.truncation_side, tokenizer.padding_side],
            "special": getattr(tokenizer, "split_special_tokens", False),
        }
        keys = [key_of({"texts": split.texts, "labels": split.labels, **reading}) for split in (train, validation)]
        with world.one_by_one():
            rows, validation_rows = (
                cached(key, partial(tokenise, split, task, tokenizer, ref))
                for key, split in zip(keys, (train, validation), strict=True)
            )
        if task.tags_words:  # a batch of rows without any tagged token would have a loss that is no number
            rows = rows.select([row for row, places in enumerate(rows["starts"]) if max(places, default=-1) >= 0])
            if not len(rows):
                raise DataError(f"{ref} has no word that the tokenizer knows in {train.name}; correct its words")
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
        ModelError: the model answers with what is no number.
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
    products = OneDNNLinear() if device.type == "cpu" and precision not in HALF else nullcontext()
    with torch.inference_mode(), autocast, products, progress.track(title, len(mine)) as tracker:
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
    found = np.concatenate([of_row[row] for row in range(len(rows))])
    if not np.isfinite(found).all():
        broken = sum(not np.isfinite(answer).all() for answer in of_row.values())
        raise ModelError(
            f"the model answers {broken} of {len(rows)} inputs with logits that are no numbers; its weights are "
            "damaged, or overflowed when it was trained: use another checkpoint"
        )
    return found
