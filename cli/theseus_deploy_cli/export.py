"""`theseus export`."""

from pathlib import Path
from typing import Annotated

import typer

from theseus_deploy.configs import ExportConfig, Quantize
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt

DELIVERY = "Delivery"


def command(
    checkpoint: Annotated[
        str, typer.Argument(help="The successor, or any fine-tuned model: a folder or Hub id.", metavar="CHECKPOINT")
    ],
    out: opt.Out,
    quantize: Annotated[
        Quantize, typer.Option(help="dynamic: int8 weights, activations quantised as they come.")
    ] = ExportConfig.quantize,
    data: Annotated[
        str | None, typer.Option(help="Texts to check the graph on; built-in ones without it.", metavar="DATA")
    ] = None,
    text: opt.Text = None,
    label: opt.Label = None,
    atol: Annotated[
        float, typer.Option(help="Largest difference of any logit between checkpoint and fp32 graph.")
    ] = ExportConfig.atol,
    opset: Annotated[int, typer.Option(help="ONNX operator set.")] = ExportConfig.opset,
    triton: Annotated[
        Path | None,
        typer.Option(
            help="Also write a model of the bundle's name into this model repository of Triton Inference Server.",
            metavar="REPOSITORY",
            rich_help_panel=DELIVERY,
        ),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            help="Also upload the bundle with its card to this repository of the Hugging Face Hub; a new one is "
            "private. Log in first: `hf auth login`.",
            metavar="OWNER/NAME",
            rich_help_panel=DELIVERY,
        ),
    ] = None,
    overwrite: opt.Overwrite = False,
    device: opt.DeviceOption = ExportConfig.device,
    threads: opt.Threads = ExportConfig.threads,
    seed: opt.Seed = ExportConfig.seed,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Export a checkpoint to a production bundle: one ONNX file, its tokenizer, and the proof that it answers alike.

    Nothing is written unless the graph gives the checkpoint's logits on real, padded text.

        theseus export successor --quantize dynamic --data reviews/ --out bundle
    """
    config = opt.config_from(ExportConfig, locals())
    from theseus_deploy.delivery import delivered
    from theseus_deploy.export.stage import export_checkpoint

    progress = console.progress(quiet)
    artifact = delivered(
        lambda: export_checkpoint(
            checkpoint, out, config,
            data=data, text=opt.words(text), label=label, overwrite=overwrite, progress=progress,
        ),
        out, triton=triton, push_to_hub=push_to_hub, overwrite=overwrite, progress=progress,
    )  # fmt: skip
    console.print_artifact(artifact, json)
