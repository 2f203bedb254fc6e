"""`theseus export`."""

from typing import Annotated

import typer

from theseus_deploy.configs import ExportConfig, Quantize
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt


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
    from theseus_deploy.export.stage import export_checkpoint

    artifact = export_checkpoint(
        checkpoint, out, config,
        data=data, text=opt.words(text), label=label, overwrite=overwrite, progress=console.progress(quiet),
    )  # fmt: skip
    console.print_artifact(artifact, json)
