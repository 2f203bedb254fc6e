"""The replacing rate and the replacement mask, as pure functions of the optimizer step.

Nothing here is drawn from a random state that moves: the mask of a step follows from (seed, step) alone. So every rank
of a distributed run agrees without talking, and a run that was resumed replaces as one that never stopped.
"""

from dataclasses import dataclass
from math import ceil
from typing import Self

import numpy as np

from theseus_deploy.configs import ScheduleKind
from theseus_deploy.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """The replacing rate p over the optimizer steps (section 3.3 of the paper).

    `linear` is the curriculum p_d = min(1, k t + b); `constant` is p = b; `anti` is 1 - p_d. From step
    `replacing_steps` on, the rate is 1 whatever the kind: the successor fine-tuning phase. The paper has it for the
    first two, and that `anti` has it as well is ours: its successor would never train whole.
    """

    kind: ScheduleKind
    base_rate: float
    replacing_steps: int
    k: float | None = None  # the slope a step; None is what reaches 1 at `replacing_steps`

    @classmethod
    def of(cls, kind: ScheduleKind, base_rate: float, total_steps: int, replace_until: float, k: float | None) -> Self:
        """Place the end of the replacing phase: at a fraction of training, or where k t + b reaches 1.

        Raises:
            ConfigError: the rate would not reach 1 before training ends.
        """
        if k is None:
            steps = round(replace_until * total_steps)
            if steps >= total_steps:
                raise ConfigError(
                    f"--replace-until {replace_until:g} leaves none of {total_steps} steps at rate 1, where the "
                    "successor trains whole and its learning rate falls; lower it"
                )
            return cls(kind, base_rate, steps)
        steps = ceil(round((1 - base_rate) / k, 6))
        if steps >= total_steps:
            raise ConfigError(
                f"--k {k:g} and --base-rate {base_rate:g} end the replacing after {steps} steps, but training has "
                f"{total_steps}; raise --k or --epochs, so that the successor also trains whole and its learning rate "
                "falls"
            )
        return cls(kind, base_rate, steps, k)

    def rate(self, step: int) -> float:
        """Return p, the probability that a module is replaced in optimizer step `step`, counted from 0."""
        if step >= self.replacing_steps:
            return 1.0
        if self.kind == "constant":
            return self.base_rate
        risen = (1 - self.base_rate) * step / self.replacing_steps if self.k is None else self.k * step
        curriculum = min(1.0, self.base_rate + risen)
        return curriculum if self.kind == "linear" else 1 - curriculum

    def whole(self, step: int) -> bool:
        """Tell whether every module is replaced from optimizer step `step` on: a falling rate may begin at 1."""
        return self.rate(step) >= 1 and (self.kind != "anti" or step >= self.replacing_steps)


def replacement_mask(seed: int, step: int, modules: int, rate: float) -> tuple[bool, ...]:
    """Draw r_1..r_n ~ Bernoulli(rate) for one optimizer step: independent per module, shared over the whole batch.

    A batch is what one optimizer step learns from. Micro-batches that are accumulated and ranks that share the step
    see the same mask, so 2 x 16 replaces the modules that 1 x 32 does.
    """
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))
    return tuple(bool(draw) for draw in generator.random(modules) < rate)
