"""Trainings of a tiny model on the true trainer, watched step by step, and killed after one where that is asked."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from tests.conftest import make_bert
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.compress.modules import assemble, theseus_modules
from theseus_deploy.compress.schedule import Schedule
from theseus_deploy.compress.trainer import TheseusTrainer
from theseus_deploy.configs import CompressConfig, Thaw
from theseus_deploy.lesson import Lesson
from theseus_deploy.progress import SILENT
from theseus_deploy.training import Length, train
from theseus_deploy.workspace import Workspace

MAP = ModuleMap.even(4, 2)
CONFIG = CompressConfig(max_steps=24, batch_size=8, lr=1e-3, precision="fp32", seed=3)


class Watch(TrainerCallback):
    """Remember each step's weights and whatever was logged; stop the run hard after a step, as a kill would."""

    def __init__(self, model: nn.Module, crash_after: int | None = None) -> None:
        self.model = model
        self.crash_after = crash_after
        self.weights: list[list[torch.Tensor]] = []
        self.optimized: set[int] = set()

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        self.optimized = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        self.weights.append(
            [torch.cat([weight.detach().flatten().clone() for weight in module.successor.parameters()])
             for module in theseus_modules(self.model)]
        )  # fmt: skip
        if state.global_step == self.crash_after:
            raise KeyboardInterrupt


def run(
    lesson: Lesson, folder: Path, config: CompressConfig = CONFIG, schedule: Schedule | None = None,
    crash_after: int | None = None, dropout: float = 0.1, thaw: Thaw = "none", drops: bool = True,
) -> tuple[TheseusTrainer, Watch]:  # fmt: skip
    length = Length.of(config, len(lesson.train))
    model = assemble(make_bert(dropout=dropout), MAP)
    watch = Watch(model, crash_after)

    def make(**kwargs: Any) -> TheseusTrainer:
        rate = schedule or Schedule("linear", 0.3, length.steps // 2)
        made = TheseusTrainer(schedule=rate, thaw=thaw, dropout=drops, **kwargs)
        made.add_callback(watch)
        return made

    workspace = Workspace.open(folder / "out", {"config": config.to_json()}, overwrite=False)
    return train(make, model, lesson, length, config, workspace, SILENT), watch
