"""Progressive module replacing as a thin `transformers.Trainer` (sections 3.2 and 3.3 of the paper)."""

from typing import Any

import torch

from theseus_deploy.compress.modules import set_mask, successor_parameters, theseus_modules, trainable_parameters
from theseus_deploy.compress.schedule import Schedule, replacement_mask
from theseus_deploy.configs import Thaw
from theseus_deploy.trainer import StageTrainer


class TheseusTrainer(StageTrainer):
    """Train the successors of an assembled model with nothing but the task's loss.

    In each optimizer step every module is replaced with the schedule's rate. A module that is not drawn gets no
    gradient, so the optimizer leaves it alone, its momentum too; that makes p lr the expected learning rate (eq. 7).
    A step in which no module is drawn has nothing to learn: its forward pass is skipped, and the schedules go on.

    `thaw` adds parameters to the successors once the rate is 1 for good: head and pooler, or all that is not the
    predecessor's own layers. Until then they are frozen like those, and the optimizer, which knows them, has no
    gradient for them.
    """

    def __init__(self, *, schedule: Schedule, thaw: Thaw = "none", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schedule = schedule
        own = {id(weight) for weight in successor_parameters(self.network)}
        self.thawing = [weight for weight in trainable_parameters(self.network, thaw) if id(weight) not in own]
        self.modules = theseus_modules(self.network)
        self.replaced = len(self.modules)
        self.batches = self.batches_skipped = 0  # since the last log line

    @property
    def rate(self) -> float:
        """Return the replacing rate p of the step under way."""
        return self.schedule.rate(self.state.global_step)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Draw the mask of this step, and learn from the batch if any module was replaced; return the loss."""
        self._freeze_until_whole()
        mask = self.draw()
        set_mask(self.modules, mask)
        self.replaced = sum(mask)
        self.batches += 1
        if self.replaced:
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            return loss
        self.batches_skipped += 1
        return torch.zeros((), device=self.args.device)

    def draw(self) -> tuple[bool, ...]:
        """Return which modules are replaced in the step under way."""
        return replacement_mask(self.args.seed, self.state.global_step, len(self.modules), self.rate)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Let the optimizer, and what wraps the model for many processes, know all that will ever train."""
        for weight in self.thawing:
            weight.requires_grad_(True)
        return super().create_optimizer(model)

    def disable_dropout(self) -> None:
        """Disable dropout; modules go on being replaced, which they are in training mode alone."""
        super().disable_dropout()
        for module in self.modules:
            module.training = True

    def _freeze_until_whole(self) -> None:
        """Train successors only as long as modules are replaced, and what is thawed beside them from then on."""
        whole = self.selectable()
        if self.thawing and self.thawing[0].requires_grad != whole:
            for weight in self.thawing:
                weight.requires_grad_(whole)

    def learners(self) -> dict[str, torch.nn.Parameter]:
        """Return the successors' parameters, and what is thawed once it may have trained."""
        kept = {id(weight) for weight in (*successor_parameters(self.network), *self.thawing * self.selectable())}
        return {name: weight for name, weight in self.network.named_parameters() if id(weight) in kept}

    def selectable(self) -> bool:
        """The successor's score means nothing while modules of the predecessor still take part."""
        return self.schedule.whole(self.state.global_step)

    def facts(self) -> dict[str, float]:
        """Return the rate p of the last step, and how many modules were replaced in it."""
        return {"rate": self.schedule.rate(max(0, self.state.global_step - 1)), "replaced": self.replaced}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the equivalent learning rate p lr (eq. 7), and average the loss over the batches that had one."""
        if "learning_rate" in logs:
            logs["equivalent_lr"] = self.facts()["rate"] * logs["learning_rate"]
        if "loss" in logs:
            learned = self.batches - self.batches_skipped
            if learned:
                logs["loss"] *= self.batches / learned
            else:
                del logs["loss"]
            logs["skipped"] = self.batches_skipped
            self.batches = self.batches_skipped = 0
        super().log(logs, start_time)
