"""`theseus export`."""

from pathlib import Path
from typing import Annotated

import typer

from theseus_deploy.configs import Device, ExportConfig, Quantize
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt

DELIVERY = "Delivery"
INT8 = "int8"  # the panel of its options


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="The successor, or any fine-tuned model: a folder or Hub id.", metavar="CHECKPOINT", parser=opt.name
        ),
    ],
    out: opt.Out,
    quantize: Annotated[Quantize, typer.Option(help="How the numbers are stored and multiplied: see above.")] = (
        ExportConfig.quantize
    ),
    data: Annotated[
        str | None,
        typer.Option(
            help="Texts and labels to check the graph on, built-in texts without it; static is calibrated on them.",
            metavar="DATA",
            parser=opt.name,
        ),
    ] = None,
    text: opt.Text = None,
    label: opt.Label = None,
    quantize_embeddings: Annotated[
        bool,
        typer.Option(
            help="Store the embeddings as int8 too. They are most of a small model's bytes, and their rounding changes "
            "few answers.",
            rich_help_panel=INT8,
        ),
    ] = ExportConfig.quantize_embeddings,
    per_channel: Annotated[
        bool,
        typer.Option(
            "--per-channel/--per-tensor",
            help="One scale for each column of a weight, or one for all of it, which is coarser and for readers that "
            "know no other.",
            rich_help_panel=INT8,
        ),
    ] = ExportConfig.per_channel,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            help="Leave the blocks that int8 hurts most in fp32, until this share of the check's labels is the "
            "checkpoint's: 0.99.",
            rich_help_panel=INT8,
        ),
    ] = ExportConfig.min_agreement,
    max_metric_drop: Annotated[
        float | None,
        typer.Option(
            help="The same, until the metric on --data is at most so much below the checkpoint's: 0.01.",
            rich_help_panel=INT8,
        ),
    ] = ExportConfig.max_metric_drop,
    max_length: Annotated[
        int | None, typer.Option(help="Where inputs are cut, in tokens; as the model was trained, or 128.")
    ] = ExportConfig.max_length,
    atol: Annotated[
        float, typer.Option(help="Largest difference of any logit between checkpoint and fp32 graph.")
    ] = ExportConfig.atol,
    opset: Annotated[int, typer.Option(help="ONNX operator set.")] = ExportConfig.opset,
    triton: Annotated[
        Path | None,
        typer.Option(
            help="Also write a model of the bundle's name into this model repository of Triton Inference Server.",
            metavar="REPOSITORY",
            parser=opt.path,
            rich_help_panel=DELIVERY,
        ),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            help="Also upload the bundle with its card to this repository of the Hugging Face Hub; a new one is "
            "private. Log in first: `hf auth login`.",
            metavar="OWNER/NAME",
            parser=opt.name,
            rich_help_panel=DELIVERY,
        ),
    ] = None,
    overwrite: opt.Overwrite = False,
    device: Annotated[
        Device, typer.Option(help="Where to compute; an export does so on the CPU.", rich_help_panel=opt.MACHINE)
    ] = ExportConfig.device,
    threads: opt.Threads = ExportConfig.threads,
    seed: opt.Seed = ExportConfig.seed,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Export a checkpoint to a production bundle: one ONNX file, its tokenizer, and the proof that it answers alike.

    Nothing is written unless the fp32 graph gives the checkpoint's logits on padded texts, rows of --data where it is
    given; how far a quantised one is from them is in the manifest. What to ask of --quantize:

    none: fp32, the checkpoint's own answers. The default.

    dynamic: int8, for CPUs. Activations are quantised as they come, so that it suits any text. Try it first.

    static: int8, for CPUs and for runtimes that want fixed ranges (OpenVINO, TensorRT): calibrated on rows of --data,
    which should be like those of production.

    fp16: for CUDA, with onnxruntime-gpu. Its authors had no GPU to run it on.

    auto: a tournament for this machine. fp32, dynamic and, with --data, static int8, per channel and per tensor, are
    judged by the budget (99 % of the labels, unless you give another), those within it are timed as `theseus
    benchmark` does, and the fastest ships with the settings of onnxruntime that were best for it. It takes minutes; the
    table is printed.

        theseus export successor --quantize dynamic --data reviews/ --out bundle
        theseus export successor --quantize auto --data reviews/ --out bundle
        theseus export successor --quantize dynamic --min-agreement 0.99 --data reviews/ --out bundle
    """
    config = opt.config_from(ExportConfig, locals())
    from theseus_deploy.delivery import delivered
    from theseus_deploy.export.stage import export_checkpoint
    from theseus_deploy.race import race

    progress = console.progress(quiet)
    artifact = delivered(
        lambda: export_checkpoint(
            checkpoint, out, config,
            data=data, text=opt.words(text), label=label, overwrite=overwrite, progress=progress, timer=race,
        ),
        out, triton=triton, push_to_hub=push_to_hub, overwrite=overwrite, progress=progress,
    )  # fmt: skip
    console.print_artifact(artifact, json)
