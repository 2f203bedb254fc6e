"""Which blocks of a model int8 hurts most, and how many of them must stay fp32 for a budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from theseus_deploy.configs import ExportConfig
from theseus_deploy.errors import ExportError
from theseus_deploy.export.quantize.judge import Verdict
from theseus_deploy.export.quantize.scheme import INT8, Part, Scheme
from theseus_deploy.progress import Progress
from theseus_deploy.tasks import Task

Ask = Callable[[Scheme], Verdict]

AGREEMENT, DROP = 0.99, 0.01  # what `auto` asks of int8 where no budget was given


@dataclass(frozen=True)
class Budget:
    """How far int8 may go: the least label agreement with the checkpoint, and the largest drop of the data's metric."""

    min_agreement: float | None
    max_metric_drop: float | None

    @classmethod
    def of(cls, config: ExportConfig, task: Task) -> "Budget | None":
        """Read the budget off a configuration; `auto` has one of its own: of labels, or of a number its metric."""
        limits = config.min_agreement, config.max_metric_drop
        if limits == (None, None) and config.quantize == "auto":
            limits = (AGREEMENT, None) if task.labels else (None, DROP)
        return None if limits == (None, None) else cls(*limits)

    @property
    def scored(self) -> bool:
        """Tell whether the data's metric is asked for."""
        return self.max_metric_drop is not None

    def admits(self, verdict: Verdict) -> bool:
        """Tell whether a graph is faithful enough."""
        agrees = self.min_agreement is None or (verdict.label_agreement or 0.0) >= self.min_agreement
        scores = self.max_metric_drop is None or (verdict.metric_drop or 0.0) <= self.max_metric_drop
        return agrees and scores

    def __str__(self) -> str:
        limits = {"--min-agreement": self.min_agreement, "--max-metric-drop": self.max_metric_drop}
        return " and ".join(f"{flag} {limit:g}" for flag, limit in limits.items() if limit is not None)


@dataclass(frozen=True)
class Sensitivity:
    """Each block quantised alone, the most sensitive first; and what was tried with more and more of them kept."""

    budget: Budget
    blocks: Mapping[str, Verdict]
    tried: Sequence[tuple[Scheme, Verdict]]

    @property
    def scheme(self) -> Scheme:
        """Return the scheme that is within the budget."""
        return self.tried[-1][0]

    def to_json(self) -> dict[str, Any]:
        """Return the `sensitivity` object of the quantization's receipt."""
        return {
            **vars(self.budget),
            "blocks": [{"block": block, **verdict.to_json()} for block, verdict in self.blocks.items()],
            "tried": [{"kept": list(scheme.kept), **verdict.to_json()} for scheme, verdict in self.tried],
        }


def keep_within(
    budget: Budget, scheme: Scheme, found: Sequence[Part], alone: Ask, together: Ask, progress: Progress
) -> Sensitivity:
    """Leave blocks in fp32, the most sensitive first, until the graph is within the budget.

    A block's sensitivity is what quantising it `alone` does to the answers: labels first, then the mean difference of
    logits. That orders the blocks; whether a set of them is enough is asked of the whole graph, `together`.

    Raises:
        ExportError: it is not within the budget even with a single block in int8.
    """
    blocks = list(dict.fromkeys(part.block for part in found if scheme.fate(part) == INT8))
    ranked: dict[str, Verdict] = {}
    with progress.track("quantising each block alone", len(blocks)) as tracker:
        for block in blocks:
            ranked[block] = alone(replace(scheme, kept=tuple(other for other in blocks if other != block)))
            tracker.advance()
    order = sorted(blocks, key=lambda block: (ranked[block].label_agreement or 0.0, -ranked[block].mean_abs_diff))
    progress.say("blocks, the most sensitive to int8 first:")
    for block in order:
        progress.say(f"  {block}: {ranked[block]}")
    tried: list[tuple[Scheme, Verdict]] = []
    for count in range(len(order)):
        candidate = replace(scheme, kept=tuple(order[:count]))
        verdict = together(candidate)
        tried.append((candidate, verdict))
        progress.say(f"{', '.join(candidate.kept) or 'nothing'} in fp32: {verdict}")
        if budget.admits(verdict):
            return Sensitivity(budget, {block: ranked[block] for block in order}, tried)
    raise ExportError(
        f"int8 is not within {budget} even with {len(order) - 1} of {len(order)} blocks in fp32 ({tried[-1][1]}); "
        "relax that, or export with --quantize none"
    )
