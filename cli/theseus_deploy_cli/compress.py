"""`theseus compress`."""

from typing import Annotated

import typer

from theseus_deploy.configs import CompressConfig, Decay, Init, Keep, Method, ScheduleKind, Thaw
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt

REPLACING, DISTILLING = "Module replacing", "Distillation"


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="The predecessor: a fine-tuned model's folder or Hub id.", metavar="MODEL", parser=opt.name
        ),
    ],
    data: opt.Data,
    out: opt.Out,
    text: opt.Text = None,
    label: opt.Label = None,
    method: Annotated[
        Method,
        typer.Option(
            help="theseus, with nothing but the task's loss as in the paper, or with the predecessor's logits as a "
            "second target; or a rival at the same budget: truncation, knowledge distillation."
        ),
    ] = CompressConfig.method,
    layers: Annotated[
        int | None,
        typer.Option(help="Layers of the successor, modules divided evenly; half of the predecessor's by default."),
    ] = CompressConfig.layers,
    map: Annotated[
        str | None, typer.Option(help="Which predecessor layers each successor layer replaces: `0-1,2-3,4-8,9-11`.")
    ] = CompressConfig.map,
    init: Annotated[
        Init,
        typer.Option(
            help="Where successor layers start: the predecessor's bottom layers, as in the paper's code; the first "
            "or last of each module; or layers at equal distances. auto: last where these, untrained, agree with the "
            "predecessor on 70 % of the labels beyond chance, and no less than the bottom ones do, else bottom."
        ),
    ] = CompressConfig.init,
    schedule: Annotated[
        ScheduleKind,
        typer.Option(help="How the replacing rate moves; linear is the paper's curriculum.", rich_help_panel=REPLACING),
    ] = CompressConfig.schedule,
    base_rate: Annotated[
        float,
        typer.Option(
            help="b: the rate at step 0 of linear, at every step of constant; anti begins at 1 - b.",
            rich_help_panel=REPLACING,
        ),
    ] = CompressConfig.base_rate,
    replace_until: Annotated[
        float, typer.Option(help="Fraction of training at which the rate reaches 1.", rich_help_panel=REPLACING)
    ] = CompressConfig.replace_until,
    k: Annotated[
        float | None,
        typer.Option(
            help="The paper's slope of the rate per step, instead: replacing ends where k t + b reaches 1.",
            rich_help_panel=REPLACING,
        ),
    ] = CompressConfig.k,
    thaw: Annotated[
        Thaw | None,
        typer.Option(
            help="What trains beside the successor's layers once the rate is 1 (rivals: from the start): nothing, "
            "pooler and head, or embeddings too. By default all where the predecessor's logits are learned from, "
            "else none.",
            rich_help_panel=REPLACING,
        ),
    ] = CompressConfig.thaw,
    temperature: Annotated[
        float, typer.Option(help="Softens both distributions.", rich_help_panel=DISTILLING)
    ] = CompressConfig.temperature,
    alpha: Annotated[
        float, typer.Option(help="Weight of the teacher against the labels.", rich_help_panel=DISTILLING)
    ] = CompressConfig.alpha,
    epochs: Annotated[
        float | None,
        typer.Option(
            help="Passes over the training rows; 3 by default, and as many as make 1,000 optimizer steps where the "
            "rows are few.",
            rich_help_panel=opt.TRAINING,
        ),
    ] = CompressConfig.epochs,
    max_steps: opt.MaxSteps = CompressConfig.max_steps,
    lr: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=opt.TRAINING)] = CompressConfig.lr,
    decay: Annotated[
        Decay,
        typer.Option(
            help="How the learning rate falls: linearly to 0 over the whole training, or only over the part in which "
            "the successor trains whole; or not at all.",
            rich_help_panel=opt.TRAINING,
        ),
    ] = CompressConfig.decay,
    dropout: Annotated[
        bool | None,
        typer.Option(
            "--dropout/--no-dropout",
            help="Drop activations at random in training, as in the paper; by default only where words are tagged, or "
            "the predecessor's logits are not learned from.",
            rich_help_panel=opt.TRAINING,
            show_default=False,
        ),
    ] = CompressConfig.dropout,
    batch_size: opt.BatchSize = CompressConfig.batch_size,
    accumulate: opt.Accumulate = CompressConfig.accumulate,
    max_length: opt.MaxLength = CompressConfig.max_length,
    precision: opt.PrecisionOption = CompressConfig.precision,
    metric: opt.Metric = CompressConfig.metric,
    patience: opt.Patience = CompressConfig.patience,
    keep: Annotated[
        Keep,
        typer.Option(
            help="The successor of the best evaluation, or of the last step, where few validation rows make the best "
            "one a matter of luck.",
            rich_help_panel=opt.TRAINING,
        ),
    ] = CompressConfig.keep,
    report_to: opt.ReportTo = "",
    overwrite: opt.Overwrite = False,
    device: opt.DeviceOption = CompressConfig.device,
    threads: opt.Threads = CompressConfig.threads,
    seed: opt.Seed = CompressConfig.seed,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Compress a predecessor into its successor by progressive module replacing (BERT-of-Theseus).

    Modules of the predecessor are replaced at random by compact successors, at a rate that rises to 1. The successors
    learn from the labels and from what the predecessor answers, and with them, once the rate is 1, embeddings and head
    (--method theseus: the successors alone, from the labels). DIR is an ordinary Hugging Face folder. An unfinished run
    resumes.

        theseus compress predecessor --data reviews/ --layers 3 --out successor
    """
    config = opt.config_from(CompressConfig, {**locals(), "report_to": opt.words(report_to)})
    from theseus_deploy.compress.stage import compress_checkpoint

    artifact = compress_checkpoint(
        model, data, out, config,
        text=opt.words(text), label=label, overwrite=overwrite, progress=console.progress(quiet),
    )  # fmt: skip
    console.print_artifact(artifact, json)
