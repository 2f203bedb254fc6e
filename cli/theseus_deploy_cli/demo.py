"""`theseus demo`."""

from pathlib import Path
from typing import Annotated

import typer

from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt


def command(
    out: Annotated[Path, typer.Option(help="Where to write.", metavar="DIR", parser=opt.path)] = Path("theseus-demo"),
    device: opt.DeviceOfAll = None,
    threads: opt.ThreadsOfAll = None,
    seed: opt.SeedOfAll = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """See all of it in minutes, offline: MiniLM learns to read tweets, loses half its layers, and goes to int8.

    Runs the recipe that ships with the package on the model and the tweets of the `demo` extra, and leaves every
    folder and the report (JSON, markdown, HTML) in DIR.
    """
    from theseus_deploy.pipeline import Recipe, run

    asked = Recipe.shipped("demo").overridden({"device": device, "threads": threads, "seed": seed})
    outcome = run(asked, out, console.progress(quiet))
    raise typer.Exit(console.print_outcome(outcome, json))
