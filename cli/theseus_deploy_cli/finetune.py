"""`theseus finetune`."""

from typing import Annotated

import typer

from theseus_deploy.configs import FinetuneConfig, TaskKind
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="A pretrained encoder: a folder, a Hub id, or the built-in `demo:minilm`.",
            metavar="MODEL",
            parser=opt.name,
        ),
    ],
    data: opt.Data,
    out: opt.Out,
    text: opt.Text = None,
    label: opt.Label = None,
    task: Annotated[
        TaskKind,
        typer.Option(
            help="How the labels are to be understood. auto: lists beside lists of words are tokens (one tag a word), "
            "other lists multi-label, fractions a regression, all else single-label. Say regression for stars from 1 "
            "to 5, multi-label for cells such as `a|b`.",
            metavar="KIND",
        ),
    ] = FinetuneConfig.task,
    epochs: opt.Epochs = FinetuneConfig.epochs,
    max_steps: opt.MaxSteps = FinetuneConfig.max_steps,
    lr: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=opt.TRAINING)] = FinetuneConfig.lr,
    warmup: Annotated[
        float, typer.Option(help="Share of training in which the learning rate rises.", rich_help_panel=opt.TRAINING)
    ] = FinetuneConfig.warmup,
    batch_size: opt.BatchSize = FinetuneConfig.batch_size,
    accumulate: opt.Accumulate = FinetuneConfig.accumulate,
    max_length: opt.MaxLength = FinetuneConfig.max_length,
    metric: opt.Metric = FinetuneConfig.metric,
    patience: opt.Patience = FinetuneConfig.patience,
    precision: opt.PrecisionOption = FinetuneConfig.precision,
    report_to: opt.ReportTo = "",
    overwrite: opt.Overwrite = False,
    device: opt.DeviceOption = FinetuneConfig.device,
    threads: opt.Threads = FinetuneConfig.threads,
    seed: opt.Seed = FinetuneConfig.seed,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Make a predecessor: fine-tune a pretrained encoder on your task.

    What the task is, and its labels, are read off the training rows unless `--task` says it. The best evaluation on
    validation is kept; an unfinished run resumes.

        theseus finetune demo:minilm --data reviews/ --out predecessor
    """
    config = opt.config_from(FinetuneConfig, {**locals(), "report_to": opt.words(report_to)})
    from theseus_deploy.finetune import finetune_checkpoint

    artifact = finetune_checkpoint(
        model, data, out, config,
        text=opt.words(text), label=label, overwrite=overwrite, progress=console.progress(quiet),
    )  # fmt: skip
    console.print_artifact(artifact, json)
