"""One process of a compression that several share: `torchrun ... one_rank.py FOLDER THAW` leaves what it saw there."""

import json
import os
import sys
from pathlib import Path

import torch

from tests.conftest import make_bert, make_lesson
from tests.trainings import CONFIG, MAP, Watch
from theseus_deploy.compress.modules import assemble, theseus_modules
from theseus_deploy.compress.schedule import Schedule
from theseus_deploy.compress.trainer import TheseusTrainer
from theseus_deploy.distributed import World
from theseus_deploy.progress import SILENT
from theseus_deploy.training import Length, train
from theseus_deploy.workspace import Workspace

ROWS = 64  # 8 whole batches of 8 an epoch: what is saved after 10 steps is in the midst of one


class Masks(Watch):
    """Remember which modules were replaced in each step, too."""

    def __init__(self, model: torch.nn.Module, crash_after: int | None) -> None:
        super().__init__(model, crash_after)
        self.masks: list[list[bool]] = []

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self.masks.append([module.replaced for module in theseus_modules(self.model)])
        super().on_step_end(*args, **kwargs)  # type: ignore[arg-type]


def run(folder: Path, thaw: str, crash_after: int | None = None) -> None:
    world = World.here()
    torch.set_num_threads(1)
    world.join(torch.device("cpu"))
    lesson = make_lesson(ROWS, 33, world)
    with world.one_by_one():
        workspace = Workspace.open(folder / "out", {}, overwrite=False)
    model = assemble(make_bert(dropout=0.0), MAP)
    watch = Masks(model, crash_after)

    def make(**kwargs: object) -> TheseusTrainer:
        made = TheseusTrainer(schedule=Schedule("linear", 0.3, 12), thaw=thaw, **kwargs)
        made.add_callback(watch)
        return made

    trainer = train(make, model, lesson, Length.of(CONFIG, ROWS, world), CONFIG, workspace, SILENT)
    torch.save(
        {"weights": model.state_dict(), "masks": watch.masks, "modules": watch.weights},
        folder / f"rank{world.rank}.pt",
    )
    (folder / f"rank{world.rank}.json").write_text(json.dumps(trainer.state.log_history))


if __name__ == "__main__":
    crash_after = int(sys.argv[3]) if len(sys.argv) > 3 else None
    try:
        run(Path(sys.argv[1]), sys.argv[2], crash_after)
    except KeyboardInterrupt:
        os._exit(9)  # as hard as a kill: nothing is cleaned up
