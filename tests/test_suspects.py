"""What the suspects of `benchmarks/suspects.py` change in a training, on the true trainer and a tiny model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from benchmarks.suspects import DECAY, HORIZON, SUSPECTS, Average, Blend, BlendedModule, LastFirst, LayerWise
from tests.conftest import make_bert
from tests.trainings import CONFIG, MAP
from theseus_deploy.compress.distillation import DistilledTheseusTrainer, taught
from theseus_deploy.compress.modules import assemble, theseus_modules
from theseus_deploy.compress.schedule import Schedule
from theseus_deploy.lesson import Lesson
from theseus_deploy.progress import SILENT
from theseus_deploy.training import Length, train
from theseus_deploy.workspace import Workspace

SCHEDULE = Schedule("linear", 0.3, 12)


class Remember(TrainerCallback):
    """Call back with the trainer after every step."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.seen: list[Any] = []

    def look(self) -> Any:
        raise NotImplementedError

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(self.look())


def trained(
    suspect: type[DistilledTheseusTrainer], lesson: Lesson, folder: Path, watch: Remember | None = None
) -> DistilledTheseusTrainer:
    model = make_bert(dropout=0.0)
    lesson = taught(lesson, make_bert(dropout=0.0), torch.device("cpu"), SILENT)
    model = assemble(model, MAP)

    def make(**kwargs: Any) -> DistilledTheseusTrainer:
        made = suspect(schedule=SCHEDULE, thaw="all", dropout=False, temperature=4.0, alpha=0.5, **kwargs)
        if watch:
            watch.trainer = made
            made.add_callback(watch)
        return made

    workspace = Workspace.open(folder / "out", {}, overwrite=False)
    found = train(make, model, lesson, Length.of(CONFIG, len(lesson.train)), CONFIG, workspace, SILENT, decay_from=12)
    assert isinstance(found, suspect)
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_a_blended_module_weighs_both_branches(alpha: float) -> None:
    model = assemble(make_bert(dropout=0.0), MAP).train()
    states = torch.randn(2, 5, model.config.hidden_size)
    module = theseus_modules(model)[1]
    module.__class__ = BlendedModule
    module.alpha = alpha
    with torch.no_grad():
        [mixed] = module.chosen
        kept = module.predecessor[1](module.predecessor[0](states))
        torch.testing.assert_close(mixed(states), alpha * module.successor(states) + (1 - alpha) * kept)
    assert list(module.eval().chosen) == [module.successor]


class Alphas(Remember):
    def look(self) -> tuple[float, int]:
        return theseus_modules(self.trainer.network)[0].alpha, self.trainer.replaced


def test_a_blend_follows_the_replacing_rate(lesson: Lesson, tmp_path: Path) -> None:
    watch = Alphas()
    trained(Blend, lesson, tmp_path, watch)
    assert watch.seen == [(SCHEDULE.rate(step), len(MAP.modules)) for step in range(24)]


class Weights(Remember):
    def look(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in self.trainer.network.named_parameters()}


def test_of_weights_since_rate_1_the_mean_is_kept(lesson: Lesson, tmp_path: Path) -> None:
    watch = Weights()
    trained(Average, lesson, tmp_path, watch)
    [kept] = [load_file(path) for path in tmp_path.rglob("checkpoint-20/model.safetensors")]
    for name in ("classifier.weight", "bert.encoder.layer.1.successor.output.dense.weight"):
        mean = watch.seen[12][name]
        for place, after in enumerate(watch.seen[13:20], start=2):
            mean = torch.lerp(mean, after[name], 1 / min(place, HORIZON * 24))
        torch.testing.assert_close(kept[name], mean)
        assert not torch.equal(kept[name], watch.seen[19][name])


class Rates(Remember):
    def look(self) -> dict[str, float]:
        rates = {id(weight): group["lr"] for group in self.trainer.optimizer.param_groups for weight in group["params"]}
        named = self.trainer.network.named_parameters()
        return {name: rates[id(weight)] for name, weight in named if id(weight) in rates}


def test_lower_layers_train_at_a_lower_rate(lesson: Lesson, tmp_path: Path) -> None:
    watch = Rates()
    trained(LayerWise, lesson, tmp_path, watch)
    first = watch.seen[0]
    below = {"encoder.layer.1.": 0, "classifier.": 0, "pooler.": 0, "encoder.layer.0.": 1, "embeddings.": 2}
    for part, depth in below.items():
        [rate] = {rate for name, rate in first.items() if part in name}
        assert rate == pytest.approx(CONFIG.lr * DECAY**depth), part


class Drawn(Remember):
    def look(self) -> tuple[bool, ...]:
        return tuple(module.replaced for module in self.trainer.modules)


def test_the_last_module_is_whole_first(lesson: Lesson, tmp_path: Path) -> None:
    watch = Drawn()
    trained(LastFirst, lesson, tmp_path, watch)
    assert all(last for _, last in watch.seen[6:])
    assert not all(first for first, _ in watch.seen[:12])
    assert all(first for first, _ in watch.seen[12:])


def test_every_suspect_is_an_arm() -> None:
    from benchmarks.accuracy import ARMS

    assert {arm.suspect for arm in ARMS.values() if arm.suspect} == set(SUSPECTS)
