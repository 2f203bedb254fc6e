"""What the default might lack, and has no setting for: variants of its training that change one thing each.

`benchmarks/accuracy.py` runs them as arms of their own. What wins moves into the library, what does not stays here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from theseus_deploy.compress.distillation import DistilledTheseusTrainer
from theseus_deploy.compress.modules import TheseusModule
from theseus_deploy.compress.schedule import replacement_mask

DECAY = 0.65  # of the learning rate, from a layer of the successor to the one below
HORIZON = 0.25  # of the steps, which an average of weights looks back on


class BlendedModule(TheseusModule):
    """A module that runs both branches and mixes them: y' = alpha scc(y) + (1 - alpha) prd(y), with no coin."""

    alpha = 1.0

    @property
    def chosen(self) -> Sequence[nn.Module]:
        """Return what mixes both, while alpha is below 1."""
        mixing = self.training and self.alpha < 1
        return [cast(nn.Module, self.mix)] if mixing else [self.successor]

    def mix(self, states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run both branches on the same states."""
        kept = states
        for layer in self.predecessor:
            kept = layer(kept, *args, **kwargs)
        return torch.lerp(kept, self.successor(states, *args, **kwargs), self.alpha)


class Blend(DistilledTheseusTrainer):
    """Mix predecessor and successor in every module, with the replacing rate as the weight, instead of a coin."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for module in self.modules:
            module.__class__ = BlendedModule

    def draw(self) -> tuple[bool, ...]:
        """Let every successor take part, by as much as the rate says."""
        for module in self.modules:
            cast(BlendedModule, module).alpha = self.rate
        return (True,) * len(self.modules)


class LastFirst(DistilledTheseusTrainer):
    """Replace the last module soonest, and the first, whose replacing hurts most (section 5.1), as the schedule has it.

    Module i of n, counted from the last, has reached rate 1 after i / n of the replacing phase: more is replaced on the
    whole than by one rate for all.
    """

    def draw(self) -> tuple[bool, ...]:
        """Compare the draws of this step with a rate for each module."""
        step, count = self.state.global_step, len(self.modules)
        rates = [self.schedule.rate(step * count // (count - place)) for place in range(count)]
        drawn = (replacement_mask(self.args.seed, step, count, rate) for rate in rates)
        return tuple(mask[place] for place, mask in enumerate(drawn))


class LayerWise(DistilledTheseusTrainer):
    """Train lower layers at a lower rate: by `DECAY` from each to the one below, and the embeddings below all."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Give the weights of each depth a group of their own."""
        optimizer = super().create_optimizer(model)
        stack = [self.network.base_model.get_submodule("embeddings"), *(module.successor for module in self.modules)]
        below = {
            id(weight): len(self.modules) - place for place, part in enumerate(stack) for weight in part.parameters()
        }
        groups = list(optimizer.param_groups)
        optimizer.param_groups.clear()
        for group in groups:
            for depth in range(len(stack)):
                if weights := [weight for weight in group["params"] if below.get(id(weight), 0) == depth]:
                    optimizer.add_param_group(
                        {**group, "params": weights, "lr": self.args.learning_rate * DECAY**depth}
                    )
        return optimizer


class Average(DistilledTheseusTrainer):
    """Judge and keep the mean of the weights since the rate is 1: of all, then one that looks back on `HORIZON`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean: dict[str, nn.Parameter] = {}
        self.seen = 0

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Have every step of the optimizer counted in."""
        optimizer = super().create_optimizer(model)
        optimizer.register_step_post_hook(lambda *_: self._count_in())
        return optimizer

    def learners(self) -> dict[str, nn.Parameter]:
        """Return the mean, which is what a checkpoint is to hold."""
        return self.mean or super().learners()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the mean, and go on from the weights."""
        weights = super().learners()
        own = {name: weight.detach().clone() for name, weight in weights.items()}
        _copy(self.learners(), weights)
        scores = super().evaluate(*args, **kwargs)
        _copy(own, weights)
        return scores

    def _count_in(self) -> None:
        if not self.selectable():
            return
        self.seen += 1
        share = 1 / min(self.seen, round(HORIZON * self.args.max_steps))
        for name, weight in super().learners().items():
            mean = self.mean.setdefault(name, nn.Parameter(weight.detach().clone(), requires_grad=False))
            mean.lerp_(weight.detach(), share)


SUSPECTS: dict[str, type[DistilledTheseusTrainer]] = {
    "blend": Blend,
    "last module first": LastFirst,
    "layer-wise": LayerWise,
    "average": Average,
}


def _copy(source: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, weight in target.items():
            weight.copy_(source[name])
