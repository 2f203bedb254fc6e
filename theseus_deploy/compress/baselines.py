"""What Theseus is compared with: the same layers without replacing, alone or with the predecessor as a teacher."""

from typing import Any

import torch
from torch.nn import functional

from theseus_deploy.training import StageTrainer

TEACHER = "teacher_logits"


class DistillationTrainer(StageTrainer):
    """Vanilla knowledge distillation (Hinton et al., 2015): alpha T^2 KL(teacher || student) + (1 - alpha) task loss.

    The teacher's logits come with the batch (column `teacher_logits`), computed once. A regression has no
    distribution to match: its distillation term is the mean squared error to the teacher.
    """

    def __init__(self, *, temperature: float, alpha: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature
        self.alpha = alpha

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the weighted sum of both terms; without teacher logits, in evaluation, the task's loss alone."""
        teacher = inputs.pop(TEACHER, None)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if teacher is not None:
            loss = self.alpha * self._match(outputs["logits"], teacher) + (1 - self.alpha) * loss
        return (loss, outputs) if return_outputs else loss

    def _match(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        if student.shape[-1] == 1:
            return functional.mse_loss(student, teacher)
        temperature = self.temperature
        return temperature**2 * functional.kl_div(
            functional.log_softmax(student / temperature, dim=-1),
            functional.log_softmax(teacher / temperature, dim=-1),
            reduction="batchmean",
            log_target=True,
        )

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns: Any = [*self._signature_columns, TEACHER]
