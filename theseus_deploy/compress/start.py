"""Where the successors start, chosen by what the predecessor's layers answer before any training.

The official code starts from the bottom layers whatever the task. Where the last layers of the modules replaced still
answer as the whole does, the successors start as them, which was worth a point on one task, and on others nothing or
a loss; where they do not, the bottom layers learn to (measured in benchmarks/README.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from theseus_deploy.compress.families import check_sources, layers_of
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.configs import Init
from theseus_deploy.errors import ConfigError
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.tasks import Array, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from theseus_deploy.lesson import Lesson

ROWS = 256  # of train that are asked
ENOUGH = 0.7  # agreement beyond chance from which on the layers of the modules replaced are kept


@dataclass(frozen=True)
class Start:
    """The `init` that was chosen, and how far each one's untrained layers agree with the predecessor beyond chance."""

    init: Init
    agreement: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest's receipt keeps."""
        return asdict(self)


def choose_start(
    model: "PreTrainedModel",
    lesson: "Lesson",
    module_map: ModuleMap,
    device: "torch.device",
    progress: Progress = SILENT,
) -> Start:
    """Choose between `last` and `bottom`: ask a sample of the training rows of the predecessor cut to either.

    The choice follows from the predecessor, the data and the map alone, so that a resumed run makes the same one.
    """
    from theseus_deploy.lesson import predict

    rows = lesson.train.select(range(0, len(lesson.train), ceil(len(lesson.train) / ROWS)))

    def ask(title: str) -> Array:
        return predict(model, rows, lesson.tokenizer, device, progress, title, world=lesson.world)

    expected = ask("asking all its layers")

    def agree(init: Init) -> float:
        try:
            with cut_to(model, module_map.sources(init)):
                return beyond_chance(lesson.task, ask(f"asking its {init} layers"), expected)
        except ConfigError:  # a family whose layers cannot stand there
            return 0.0

    agreement = {"bottom": agree("bottom"), "last": agree("last")}
    init = better_start(**agreement)
    shown = ", ".join(f"{100 * value:.0f} % of {name}" for name, value in agreement.items())
    progress.say(f"successors start as --init {init}: untrained layers agree beyond chance with {shown}")
    return Start(init, agreement)


def better_start(bottom: float, last: float) -> Init:
    """Choose by how far the untrained layers of either agree with the predecessor beyond chance."""
    return "last" if last >= max(ENOUGH, bottom) else "bottom"


def beyond_chance(task: Task, logits: Array, expected: Array) -> float:
    """Return how far two models agree: Cohen's kappa of their labels, or the correlation of two regressions.

    1 is always, 0 is as often as by chance, or where one of them always says the same. Words that were cut off count
    for neither.
    """
    seen = task.seen(logits, expected)
    one, other = (task.decide(answers[seen]).ravel() for answers in (logits, expected))
    if not seen.any() or any((answers == answers[0]).all() for answers in (one, other)):
        return 0.0
    if not task.labels:
        return float(np.corrcoef(one, other)[0, 1])
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(one, other))


@contextmanager
def cut_to(model: "PreTrainedModel", sources: Sequence[int]) -> Iterator[None]:
    """Leave only these layers in a model for a while.

    Raises:
        ConfigError: a layer cannot stand where it would (`check_sources`).
    """
    from theseus_deploy.compress.modules import keep, truncate

    check_sources(model.config, sources)
    layers = list(layers_of(model))
    try:
        truncate(model, sources)
        yield
    finally:
        keep(model, layers)
