"""`theseus doctor`."""

import typer

from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt


def command(json: opt.Json = False, quiet: opt.Quiet = False) -> None:
    """Tell what this machine can do: versions, CPU features and what they mean, known-bad pairs with the remedy.

    Exits with 0 when compressing, exporting and benchmarking can run here.
    """
    del quiet  # there is nothing but the result
    from theseus_deploy.doctor import diagnose

    raise typer.Exit(console.print_checks(diagnose(), json))
