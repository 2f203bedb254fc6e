"""`theseus predict`."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer

from theseus_deploy.errors import ConfigError
from theseus_deploy.machine import usable_cores
from theseus_deploy.tasks import Task
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt

CHUNK = 512  # inputs answered together
TABLES = (".csv", ".jsonl", ".parquet")  # not .tsv: pairs with a tab between them look the same
Input = str | tuple[str, ...]


def command(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle that `theseus export` wrote.", metavar="BUNDLE", parser=opt.path)
    ],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to answer.", metavar="[TEXT]...")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file with one text a line, no table; `-` reads stdin.", metavar="F", parser=opt.path),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu"],
        typer.Option(help="Bundles are answered with on the CPU.", rich_help_panel=opt.MACHINE),
    ] = "auto",
    threads: opt.Threads = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Taken by every command that runs a model; nothing here is random.", rich_help_panel=opt.MACHINE
        ),
    ] = 1,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Answer texts with a bundle: one JSON line an input, in order. Loads no torch.

    Where the model reads pairs, a tab divides the two texts of an input; so it does where the bundle does not say,
    since it was exported without data. Where words are tagged, entities are told by their place in the text, in
    characters.

        theseus predict bundle "what a day" "never again"
    """
    del quiet, device, seed  # there is nothing but the answers, which depend on neither
    from theseus_deploy.predictor import Predictor

    if threads is not None and not 1 <= threads <= usable_cores():
        raise ConfigError(
            f"--threads {threads} is not between 1 and the {usable_cores()} cores that it may use; change it"
        )
    predictor = Predictor(bundle, threads)
    inputs = (_input(line, predictor.task, number) for number, line in enumerate(_lines(texts or [], file), start=1))
    answers = (answer for first, chunk in _chunks(inputs) for answer in predictor.predict(chunk, first=first))
    if json:
        console.print_json(list(answers))
    else:
        for answer in answers:
            console.print_line(answer)


def _input(line: str, task: Task, number: int) -> Input:
    """Divide a line at its tab where the task reads pairs, or may; elsewhere a tab is text."""
    if len(task.text) == 1 or task.tags_words:
        return line
    texts = tuple(line.split("\t", 1))
    if len(texts) < len(task.text):
        raise ConfigError(f"input {number} has one text, and the model takes two; divide them with a tab")
    return texts


def _chunks(inputs: Iterable[Input]) -> Iterator[tuple[int, list[Input]]]:
    """Yield the inputs, some hundred at a time, so that a long file streams; before them the number of the first."""
    inputs, first = iter(inputs), 1
    while chunk := list(islice(inputs, CHUNK)):
        yield first, chunk
        first += len(chunk)


def _lines(texts: list[str], file: Path | None) -> Iterator[str]:
    if not texts and file is None:
        raise ConfigError("no text was given; give some, or a file with one a line: --file F")
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError as error:  # what the shell gave is no UTF-8
            raise ConfigError(f"text {number} is not UTF-8; convert it") from error
        yield text
    with _open(file) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ConfigError(f"--file {file}, line {number} is not UTF-8; convert the file") from error
            yield text.rstrip("\r\n")


def _open(file: Path | None) -> AbstractContextManager[Iterable[bytes]]:
    if file is None:
        return nullcontext(())
    if file.suffix.lower() in TABLES:
        raise ConfigError(
            f"--file {file} is a table, and one text a line is read; write its texts to a .txt, or pipe it to --file -"
        )
    if str(file) == "-":
        if sys.stdin is None:
            raise ConfigError("--file -, but stdin is closed; give a file, or pipe texts into the command")
        return nullcontext(sys.stdin.buffer)
    try:
        return file.open("rb")
    except OSError as error:
        raise ConfigError(f"--file {file} cannot be read ({error.strerror}); give a text file") from error
