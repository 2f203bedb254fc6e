"""Learning from the predecessor's logits: distillation, and module replacing with it, which is the default."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from theseus_deploy.cache import cached, key_of
from theseus_deploy.compress.trainer import TheseusTrainer
from theseus_deploy.lesson import Lesson, predict
from theseus_deploy.progress import Progress
from theseus_deploy.tokens import IGNORED
from theseus_deploy.trainer import StageTrainer

TEACHER = "teacher_logits"
UNTOLD = ("_name_or_path", "transformers_version")  # of a configuration: its answers do not follow from these
Match = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def _match_classes(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )


def _match_labels(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(student / temperature, torch.sigmoid(teacher / temperature))


def _match_numbers(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return functional.mse_loss(student, teacher) / temperature**2


MATCH: dict[str, Match] = {
    "single-label": _match_classes,
    "tokens": _match_classes,
    "multi-label": _match_labels,
    "regression": _match_numbers,
}


class DistillationTrainer(StageTrainer):
    """Vanilla knowledge distillation (Hinton et al., 2015): alpha T^2 match(student, teacher) + (1 - alpha) task loss.

    `match` is KL(teacher || student) at temperature T over classes, each word on its own where words are tagged; the
    cross entropy of each label at temperature T where there are many; and for a regression, which has no
    distribution, the mean squared error. The teacher's logits come with the batch, computed once (`taught`).
    """

    def __init__(self, *, temperature: float, alpha: float, lesson: Lesson, **kwargs: Any) -> None:
        pad = lesson.collator()

        def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
            items = [item for row in rows for item in row.pop(TEACHER)]
            return {**pad(rows), TEACHER: torch.tensor(items, dtype=torch.float32)}

        super().__init__(lesson=lesson, data_collator=collate, **kwargs)
        self.temperature = temperature
        self.alpha = alpha
        self.match = MATCH[lesson.task.kind]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the weighted sum of both terms."""
        teacher = inputs.pop(TEACHER)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        student = outputs["logits"]
        if student.ndim == 3:  # (inputs, tokens, labels): of the tokens, those that begin a word
            student = student[inputs["labels"] != IGNORED]
        matched = self.temperature**2 * self.match(student.float(), teacher, self.temperature)
        loss = self.alpha * matched + (1 - self.alpha) * loss
        return (loss, outputs) if return_outputs else loss

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns: Any = [*self._signature_columns, TEACHER]


class DistilledTheseusTrainer(TheseusTrainer, DistillationTrainer):
    """Progressive module replacing with the predecessor's logits as a second target, which the paper does without."""


def taught(
    lesson: Lesson,
    teacher: PreTrainedModel,
    device: torch.device,
    progress: Progress,
    seen: Sequence[int] | None = None,
) -> Lesson:
    """Return the lesson with the teacher's logits in it: a list of items for each row, asked once and kept.

    Of a training that ends within its first epoch, `seen` are the rows it learns from; the others have no items.
    """
    from datasets import Dataset, concatenate_datasets

    def ask() -> Dataset:
        rows = lesson.train if seen is None else lesson.train.select(seen)
        logits = predict(teacher, rows, lesson.tokenizer, device, progress, "asking the predecessor")
        if "starts" in rows.column_names:
            starts = [np.asarray(places) for places in rows["starts"]]
            words = np.split(logits, np.cumsum([len(places) for places in starts])[:-1])
            items = [row[places >= 0].tolist() for row, places in zip(words, starts, strict=True)]
        else:
            items = logits[:, None].tolist()
        of_row = dict(zip(range(len(rows)) if seen is None else seen, items, strict=True))
        return Dataset.from_dict({TEACHER: [of_row.get(row, []) for row in range(len(lesson.train))]})

    asked = {"rows": lesson.key, "teacher": _hash(teacher), **({} if seen is None else {"seen": list(seen)})}
    with lesson.world.one_by_one():
        answers = cached(key_of(asked), ask)
    return replace(lesson, train=concatenate_datasets([lesson.train, answers], axis=1))


def _hash(model: PreTrainedModel) -> str:
    told = {name: value for name, value in model.config.to_diff_dict().items() if name not in UNTOLD}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    for name, weight in model.state_dict().items():
        digest.update(name.encode() + weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
