"""`theseus verify`."""

from pathlib import Path
from typing import Annotated

import typer

from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt


def command(
    folder: Annotated[Path, typer.Argument(help="A folder that theseus wrote.", metavar="DIR", parser=opt.path)],
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Check a folder: its manifest, the hash of every file, its graph or weights, and where it came from.

    Works offline. Exits with 2 if anything is not as it was written.
    """
    del quiet  # there is nothing but the result
    from theseus_deploy.verify import verify

    raise typer.Exit(console.print_checks(verify(folder), json))
