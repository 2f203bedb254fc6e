"""The stage: predecessor -> successor, on objects and on paths."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.artifact import Artifact, Manifest, Source, claim, ledger_entry
from theseus_deploy.compress.families import check_sources, count_layers
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.compress.schedule import Schedule
from theseus_deploy.compress.start import choose_start
from theseus_deploy.configs import CompressConfig, Thaw
from theseus_deploy.data import open_data
from theseus_deploy.distributed import World
from theseus_deploy.execution import torch_device
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from theseus_deploy.lesson import Lesson
    from theseus_deploy.trainer import StageTrainer
    from theseus_deploy.training import Length


def compress(
    model: "PreTrainedModel",
    lesson: "Lesson",
    length: "Length",
    module_map: ModuleMap,
    config: CompressConfig,
    workspace: Workspace,
    progress: Progress = SILENT,
    teacher: "PreTrainedModel | None" = None,
    trainer: "type[StageTrainer] | None" = None,
) -> "PreTrainedModel":
    """Turn a fine-tuned predecessor into its successor, in place, and return it: a plain model with n layers.

    The training resumes from the workspace's last checkpoint where there is one. A method with a teacher learns from
    the predecessor, unless another `teacher` is given; and by its own trainer, unless a variant of that is given, a
    subclass of `TheseusTrainer` for instance.
    """
    from theseus_deploy.compress.distillation import DistillationTrainer, DistilledTheseusTrainer, taught
    from theseus_deploy.compress.modules import assemble, strip
    from theseus_deploy.compress.trainer import TheseusTrainer
    from theseus_deploy.trainer import StageTrainer
    from theseus_deploy.training import train

    decay_from = decay_start(config, length)
    trainers: dict[str, type[StageTrainer]] = {
        "theseus": TheseusTrainer,
        "truncate": StageTrainer,
        "distill": DistillationTrainer,
        "theseus+distill": DistilledTheseusTrainer,
    }
    asked: dict[str, Any] = {"dropout": config.drops(lesson.task.tags_words)}
    if config.has_teacher:
        lesson = taught(lesson, teacher or model, torch_device(config.device), progress, _seen(length, lesson, config))
        asked |= {"temperature": config.temperature, "alpha": config.alpha}
    if config.replaces:
        schedule = schedule_of(config, length)
        told = {"none": "", "head": ", then with the head", "all": ", then with embeddings and head"}[config.thaws]
        progress.say(
            f"replacing modules {module_map}: {config.schedule} rate from {schedule.rate(0):.2f}, "
            f"1 from step {schedule.replacing_steps} of {length.steps}; training the successors{told}"
        )
        asked |= {"schedule": schedule, "thaw": config.thaws}
    init = config.init
    if init == "auto":
        init = choose_start(model, lesson, module_map, torch_device(config.device), progress).init
    model = assemble(model, module_map, init) if config.replaces else _truncated(model, module_map, init, config.thaws)
    make = partial(trainer or trainers[config.method], **asked)
    train(make, model, lesson, length, config, workspace, progress, decay_from=decay_from, keep=config.keep)
    return strip(model) if config.replaces else model.requires_grad_(True)


def compress_checkpoint(
    ref: str,
    data: str,
    out: Path,
    config: CompressConfig,
    *,
    text: tuple[str, ...] | None = None,
    label: str | None = None,
    overwrite: bool = False,
    reuse: bool = False,
    progress: Progress = SILENT,
) -> Artifact:
    """Compress the checkpoint `ref` on `data` and write the successor to `out`, an ordinary Hugging Face folder.

    An `out` that exists is an error, unless `overwrite`; with `reuse` it is kept if the same was asked of it before.

    Raises:
        TheseusError: the predecessor, the data, the map or `out` cannot be used; nothing is written then.
    """
    world = World.here()
    progress = progress if world.first else SILENT
    claim(out, overwrite or reuse or Workspace.closing(out))
    checkpoint = open_checkpoint(ref)
    checkpoint.keep_from(out)
    module_map = map_of(config, count_layers(checkpoint.config))
    if config.init != "auto":
        check_sources(checkpoint.config, module_map.sources(config.init))
    corpus = open_data(data, text, label, checkpoint.task)
    task = checkpoint.task.reading(corpus.text, corpus.label, corpus.metric).judged_by(config.metric)
    task = replace(task, max_length=checkpoint.longest(config.max_length))
    splits = corpus.for_training()
    request = Artifact.request("compress", config, checkpoint.parent, corpus)
    if kept := Workspace.finished(out, request, overwrite, reuse):
        return kept

    from theseus_deploy.training import prepared, publish

    checkpoint.check_trained()
    with prepared(
        checkpoint, data, splits, task, config, out, request,
        overwrite=overwrite or reuse, world=world, progress=progress,
        check=partial(schedule_of, config) if config.scheduled else None,
    ) as ready:  # fmt: skip
        model, device = checkpoint.trained(), torch_device(config.device)
        before = ready.lesson.score(model, device, progress, "scoring the predecessor")
        progress.say(f"predecessor, {count_layers(model.config)} layers, on validation: {_show(before)}")
        size = sum(weight.nbytes for weight in model.parameters())
        ledger = [ledger_entry("predecessor", model.num_parameters(), size)]
        start = choose_start(model, ready.lesson, module_map, device, progress) if config.init == "auto" else None
        chosen = replace(config, init=start.init) if start else config
        successor = compress(model, ready.lesson, ready.length, module_map, chosen, ready.workspace, progress)
        after = ready.lesson.score(successor, device, progress, "scoring the successor")
        share = {task.primary: after[task.primary] / before[task.primary]} if before[task.primary] > 0 else {}
        shown = "".join(f" ({value:.1%} of the predecessor's {task.primary})" for value in share.values())
        progress.say(f"successor, {module_map.successor_layers} layers, on validation: {_show(after)}{shown}")
        manifest = Manifest(
            kind="checkpoint",
            stage="compress",
            config=config.to_json(),
            parent=checkpoint.parent,
            data=Source.of(corpus),
            task=task,
            parameters=successor.num_parameters(),
            layers=module_map.successor_layers,
            module_map=[list(module) for module in module_map.modules],
            scores={"predecessor": before, "validation": after, **({"retained": share} if share else {})},
            receipt={"ledger": ledger, **({"start": start.to_json()} if start else {})},
        )
        return publish(successor, ready.lesson, manifest, out, ready.workspace, overwrite or reuse)


def map_of(config: CompressConfig, layers: int) -> ModuleMap:
    """Return the module map asked for; without one, modules of two layers as in the paper.

    Raises:
        ConfigError: the map or the number of layers does not fit a predecessor of `layers` layers.
    """
    if config.map is not None:
        return ModuleMap.parse(config.map, layers)
    return ModuleMap.even(layers, max(1, layers // 2) if config.layers is None else config.layers)


def schedule_of(config: CompressConfig, length: "Length") -> Schedule:
    """Return the replacement schedule asked for.

    Raises:
        ConfigError: it leaves no step at rate 1.
    """
    return Schedule.of(config.schedule, config.base_rate, length.steps, config.replace_until, config.k)


def decay_start(config: CompressConfig, length: "Length") -> int:
    """Return the step from which the learning rate falls to 0: by default the first of the successor fine-tuning phase.

    Raises:
        ConfigError: there is no such phase.
    """
    if config.decay == "successor":
        return schedule_of(config, length).replacing_steps
    return 0 if config.decay == "linear" else length.steps


def _seen(length: "Length", lesson: "Lesson", config: CompressConfig) -> list[int] | None:
    """Return the rows that a training shorter than an epoch learns from; None where it learns from all."""
    from theseus_deploy.trainer import EpochSampler

    if length.steps >= length.steps_per_epoch:
        return None
    batch = config.batch_size * config.accumulate
    return sorted(list(EpochSampler.of(lesson, batch, config.seed))[: length.steps * batch])


def _truncated(model: "PreTrainedModel", module_map: ModuleMap, init: str, thaw: Thaw) -> "PreTrainedModel":
    """Leave only the layers that successors start from, and of the rest train what `thaw` says."""
    from theseus_deploy.compress.modules import trainable_parameters, truncate

    truncate(model, module_map.sources(init)).requires_grad_(False)
    for weight in trainable_parameters(model, thaw):
        weight.requires_grad_(True)
    return model


def _show(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
