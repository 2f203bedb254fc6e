"""The options that several commands share, and how a command line becomes a configuration."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from theseus_deploy.config_base import Checked
from theseus_deploy.configs import Device, Precision
from theseus_deploy.errors import ConfigError

C = TypeVar("C", bound=Checked)

MACHINE, TRAINING = "This machine", "Training"


def name(value: str) -> str:
    """Return a value that names something; an empty one, as of a variable that is not set, would be the current folder.

    Raises:
        BadParameter: it is empty.
    """
    if not value:
        raise typer.BadParameter("it is empty; give a name, or set the variable that it comes from")
    return value


def path(value: str) -> Path:
    """Return the path that a value names, which no empty one does."""
    return Path(name(value))


Data = Annotated[
    str,
    typer.Option(
        help="A folder with train/validation/test files, one file (csv, tsv, jsonl, parquet), a Hub id "
        "(`owner/name:config`), a task of GLUE (`glue/mrpc`), or the built-in `demo:tweets`.",
        metavar="DATA",
        parser=name,
    ),
]
Out = Annotated[Path, typer.Option(help="The folder to write. It is complete or absent.", metavar="DIR", parser=path)]
Text = Annotated[
    str | None,
    typer.Option(
        help="The column that holds the text, or two of them: `premise,hypothesis`. Lists of words are tagged word by "
        "word if the label is a list too, and joined if not.",
        metavar="A[,B]",
        parser=name,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        help="The column that holds the label, or several columns of 0 and 1, one for each label that an input may "
        "have: `toxic,obscene`.",
        metavar="C[,D...]",
        parser=name,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace DIR, or discard an unfinished run of another configuration.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Seed = Annotated[int, typer.Option(help="All randomness follows from it.", rich_help_panel=MACHINE)]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute.", rich_help_panel=MACHINE)]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads; all that this process may use by default.", rich_help_panel=MACHINE)
]
SeedOfAll = Annotated[
    int | None, typer.Option("--seed", help="That of every stage, instead of the recipe's.", rich_help_panel=MACHINE)
]
DeviceOfAll = Annotated[
    Device | None,
    typer.Option("--device", help="Where all but exports compute, instead of the recipe's.", rich_help_panel=MACHINE),
]
ThreadsOfAll = Annotated[
    int | None,
    typer.Option("--threads", help="CPU threads of every stage, instead of the recipe's.", rich_help_panel=MACHINE),
]
Epochs = Annotated[
    float | None, typer.Option(help="Passes over the training rows; 3 by default.", rich_help_panel=TRAINING)
]
MaxSteps = Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.", rich_help_panel=TRAINING)]
BatchSize = Annotated[
    int, typer.Option(help="Rows in a batch; several processes share them.", rich_help_panel=TRAINING)
]
Accumulate = Annotated[int, typer.Option(help="Batches that one optimizer step learns from.", rich_help_panel=TRAINING)]
MaxLength = Annotated[
    int | None,
    typer.Option(help="Longest input in tokens; as the model was trained, or 128.", rich_help_panel=TRAINING),
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="What the best evaluation is chosen by, and later stages judge by: accuracy, matthews, macro_f1, ... By "
        "default what the data is usually judged by (README). Where one label is rare, accuracy may prefer a model "
        "that never says it.",
        rich_help_panel=TRAINING,
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(
        help="Stop after so many evaluations in a row without a better score. compress counts only those after the "
        "replacing rate reached 1.",
        rich_help_panel=TRAINING,
    ),
]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="auto: bf16 where the hardware has it.", rich_help_panel=TRAINING)
]
ReportTo = Annotated[
    str, typer.Option(help="Trackers of transformers.Trainer: `tensorboard,wandb,mlflow`.", rich_help_panel=TRAINING)
]


def config_from(kind: type[C], flags: Mapping[str, Any]) -> C:
    """Build a configuration from a command's parameters, which bear the names of its fields."""
    names = {field.name for field in fields(kind)}
    return kind(**{flag: value for flag, value in flags.items() if flag in names})


def words(value: str | None) -> tuple[str, ...] | None:
    """Split `a,b` into its parts."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


def numbers(value: str, flag: str) -> tuple[int, ...]:
    """Split `1,8` into whole numbers.

    Raises:
        ConfigError: a part is no whole number.
    """
    try:
        return tuple(int(part) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"{flag} {value!r} is no list of whole numbers; write for instance 1,8") from error
