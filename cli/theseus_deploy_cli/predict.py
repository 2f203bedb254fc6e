"""`theseus predict`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer

from theseus_deploy.errors import ConfigError
from theseus_deploy.tasks import Task
from theseus_deploy_cli import console
from theseus_deploy_cli import options as opt

CHUNK = 512  # inputs answered together


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle that `theseus export` wrote.", metavar="BUNDLE")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to answer.", metavar="[TEXT]...")] = None,
    file: Annotated[
        Path | None, typer.Option(help="A file with one text a line; `-` reads stdin.", metavar="F", allow_dash=True)
    ] = None,
    threads: opt.Threads = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Answer texts with a bundle: one JSON line an input, in order. Loads no torch.

    Where the model reads pairs, a tab divides the two texts of an input. Where it tags words, entities are told by
    their place in the text, in characters.

        theseus predict bundle "what a day" "never again"
    """
    del quiet  # there is nothing but the answers
    from theseus_deploy.predictor import Predictor

    predictor = Predictor(bundle, threads)
    answers = (
        answer for chunk in _chunks(texts or [], file) for answer in predictor.predict(_inputs(chunk, predictor.task))
    )
    if json:
        console.print_json(list(answers))
    else:
        for answer in answers:
            console.print_line(answer)


def _inputs(lines: list[str], task: Task) -> Sequence[str | tuple[str, ...]]:
    """Divide lines at the tab where the task reads pairs; elsewhere a tab is text."""
    return [tuple(line.split("\t", 1)) for line in lines] if len(task.text) == 2 else lines


def _chunks(texts: list[str], file: Path | None) -> Iterator[list[str]]:
    """Yield the inputs, some hundred at a time, so that a long file streams."""
    if not texts and file is None:
        raise ConfigError("no text was given; give some, or a file with one a line: --file F")
    with _open(file) as lines:
        inputs = chain(texts, (line.rstrip("\r\n") for line in lines))
        while chunk := list(islice(inputs, CHUNK)):
            yield chunk


def _open(file: Path | None) -> AbstractContextManager[Iterable[str]]:
    if file is None:
        return nullcontext(())
    if str(file) == "-":
        return nullcontext(sys.stdin)
    try:
        return file.open(encoding="utf-8-sig", newline="\n")
    except OSError as error:
        raise ConfigError(f"--file {file} cannot be read ({error.strerror}); give a text file") from error
