"""The stage before the first: pretrained encoder -> fine-tuned predecessor, on objects and on paths."""

from pathlib import Path
from typing import TYPE_CHECKING

from theseus_deploy.artifact import Artifact, Manifest, Source, claim
from theseus_deploy.compress.families import count_layers
from theseus_deploy.configs import FinetuneConfig
from theseus_deploy.data import open_data
from theseus_deploy.distributed import World
from theseus_deploy.execution import torch_device
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.tasks import Task
from theseus_deploy.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from theseus_deploy.lesson import Lesson
    from theseus_deploy.training import Length


def finetune(
    model: "PreTrainedModel",
    lesson: "Lesson",
    length: "Length",
    config: FinetuneConfig,
    workspace: Workspace,
    progress: Progress = SILENT,
) -> "PreTrainedModel":
    """Train all of `model` on the task, in place, and return it at its best on validation."""
    from theseus_deploy.trainer import StageTrainer
    from theseus_deploy.training import train

    train(StageTrainer, model, lesson, length, config, workspace, progress, warmup=config.warmup)
    return model


def finetune_checkpoint(
    ref: str,
    data: str,
    out: Path,
    config: FinetuneConfig,
    *,
    text: tuple[str, ...] | None = None,
    label: str | None = None,
    overwrite: bool = False,
    reuse: bool = False,
    progress: Progress = SILENT,
) -> Artifact:
    """Fine-tune the encoder `ref` on `data` and write the predecessor to `out`, an ordinary Hugging Face folder.

    An `out` that exists is an error, unless `overwrite`; with `reuse` it is kept if the same was asked of it before.

    Raises:
        TheseusError: the model, the data or `out` cannot be used, or no model of its family can be compressed; nothing
            is written then.
    """
    world = World.here()
    progress = progress if world.first else SILENT
    claim(out, overwrite or reuse or Workspace.closing(out))
    checkpoint = open_checkpoint(ref)
    checkpoint.keep_from(out)
    layers = count_layers(checkpoint.config)
    corpus = open_data(data, text, label, kind=config.task)
    splits = corpus.for_training()
    task = Task.infer(
        corpus.splits["train"].labels, corpus.text, corpus.label, checkpoint.longest(config.max_length),
        "tokens" if corpus.words else config.task, corpus.names, corpus.metric,
    ).judged_by(config.metric)  # fmt: skip
    request = Artifact.request("finetune", config, checkpoint.parent, corpus)
    if kept := Workspace.finished(out, request, overwrite, reuse):
        return kept

    from theseus_deploy.training import prepared, publish

    with prepared(
        checkpoint, data, splits, task, config, out, request,
        overwrite=overwrite or reuse, world=world, progress=progress,
    ) as ready:  # fmt: skip
        model = checkpoint.fresh(task, config.seed)
        finetune(model, ready.lesson, ready.length, config, ready.workspace, progress)
        device = torch_device(config.device)
        scores = ready.lesson.score(model, device, progress, "scoring the predecessor")
        progress.say("predecessor: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
        manifest = Manifest(
            kind="checkpoint",
            stage="finetune",
            config=config.to_json(),
            parent=checkpoint.parent,
            data=Source.of(corpus),
            task=task,
            parameters=model.num_parameters(),
            layers=layers,
            scores={"validation": scores},
        )
        return publish(model, ready.lesson, manifest, out, ready.workspace, overwrite or reuse)
