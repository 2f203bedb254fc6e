"""`theseus run`."""

from pathlib import Path
from typing import Annotated

import typer

from theseus_deploy.builtin import RECIPES
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt


def command(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe: model, data, and what each stage is asked. A file, or the name of one that ships with the "
            f"package: {', '.join(RECIPES)}.",
            metavar="RECIPE.yaml",
            parser=opt.name,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write; if not given, beside the recipe's file or, of one that ships, here, by its name.",
            metavar="DIR",
            parser=opt.path,
        ),
    ] = None,
    device: opt.DeviceOfAll = None,
    threads: opt.ThreadsOfAll = None,
    seed: opt.SeedOfAll = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run a whole recipe: fine-tune, compress, export, benchmark.

    A stage whose inputs and configuration have not changed is skipped, and an interrupted one resumes. Exits with 3
    if a gate of the benchmark fails and with 4 if one is inconclusive. The recipes `glue/...` are the paper's, on
    BERT-base: they want the Hub and a GPU.

        theseus run glue/mrpc --out mrpc
    """
    from theseus_deploy.pipeline import Recipe, folder_for, run

    asked = Recipe.open(recipe).overridden({"device": device, "threads": threads, "seed": seed})
    outcome = run(asked, out or folder_for(recipe), console.progress(quiet))
    raise typer.Exit(console.print_outcome(outcome, json))
