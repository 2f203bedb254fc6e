"""The program `theseus`: its commands, and what its exit codes mean."""

import errno
import os
import signal
import sys
import threading
import warnings
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from theseus_deploy import __version__
from theseus_deploy.errors import TheseusError

COMMANDS = ("demo", "finetune", "compress", "export", "benchmark", "plan", "predict", "run", "verify", "doctor")
AGAIN_SECONDS = 0.1
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what our output is written to
UNUSABLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)  # of a path that was asked for
PIPE_CLOSED = 128 + 13  # what a shell says of a program that SIGPIPE ended
RESUMED = "what was finished is kept: repeat the command to go on from there"
KEPT: dict[str | None, str] = {  # of an interrupted command
    **dict.fromkeys(("demo", "finetune", "compress", "run"), RESUMED),
    "predict": "the answers that were written are whole",
}

app = typer.Typer(
    name="theseus",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 a bug, 2 bad request or input, 3 a gate failed, 4 a gate is inconclusive, "
    "130 interrupted.",
)
for name in COMMANDS:
    app.command(name)(import_module(f"theseus_deploy_cli.{name}").command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"theseus-deploy {__version__}")
        raise typer.Exit


@app.callback()
def theseus(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Take a fine-tuned BERT to production: compress it with BERT-of-Theseus, export it to int8 ONNX, prove the result.

    Begin with `theseus demo`. On your own model: `finetune` if it has no task yet, then `compress`, `export`,
    `benchmark` and, for the number of cores, `plan`.
    """
    del version


def run() -> None:
    """Run the program: errors become one line on stderr and an exit code, bugs keep their traceback."""
    # The libraries below us talk to stderr by default. What is worth saying, we say.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    warnings.showwarning = _warn
    if sys.stderr is None:  # closed, as daemons have it: the next file that is opened would be what libraries write to
        while (nowhere := os.open(os.devnull, os.O_RDWR)) < 2:
            pass
        sys.stderr = os.fdopen(nowhere, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a sign that an old console lacks is no bug
            stream.reconfigure(errors="replace")
    obey_signals()
    try:
        code = app(standalone_mode=False)
    except SystemExit as left:  # how typer ends where whoever read our output has left, as `head` does
        sys.exit(PIPE_CLOSED if isinstance(left.__context__, BrokenPipeError) else left.code)
    except TheseusError as error:
        sys.exit(_fail(str(error), error.exit_code))
    except OSError as error:
        if error.errno in FULL and not error.filename:
            sys.exit(_fail(f"the output cannot be written ({error.strerror}); free space, or write it elsewhere", 2))
        if error.errno not in UNUSABLE or not error.filename:
            raise
        sys.exit(_fail(f"{error.filename} cannot be used ({error.strerror}); name another, or change its rights", 2))
    except typer.Abort:
        sys.exit(_fail("interrupted", 130))
    except typer.TyperException as error:
        message = error.format_message().rstrip(".")
        sys.exit(_fail(f"{message}; see `{_help()}`", 2) if message else 2)  # 2 alone: the help was all that was asked
    sys.exit(_interrupted() if code == 130 else code or 0)


def obey_signals() -> None:
    """End at SIGTERM and SIGHUP as at Ctrl-C: a cancelled CI job, or a closed terminal, leaves as little behind.

    An interrupt that arrives while the garbage collector calls back is lost to Python, so it is sent once more.
    """
    for name in ("SIGTERM", "SIGHUP"):  # the latter not on Windows, and not where nohup wants it ignored
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)

    others = sys.unraisablehook

    def report(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(AGAIN_SECONDS, _end_main_thread).start()
        else:
            others(unraisable)

    sys.unraisablehook = report


def _end_main_thread() -> None:
    """Send SIGTERM to where it ends what waits: raised in another thread, it would end no sleep of the main one."""
    main = threading.main_thread().ident
    if os.name == "posix" and main:
        signal.pthread_kill(main, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Show a warning as one line, without the line of code that is to blame."""
    del category, filename, lineno, file, line
    print(f"theseus: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _help() -> str:
    command = _command()
    return f"theseus {command} --help" if command else "theseus --help"


def _command() -> str | None:
    return next((word for word in sys.argv[1:2] if word in COMMANDS), None)


def _interrupted() -> int:
    return _fail(f"interrupted; {KEPT.get(_command(), 'nothing was written')}", 130)


def _fail(message: str, code: int) -> int:
    print(f"theseus: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    run()
