"""Say what went wrong, once, in one line.

    TheseusError        the request or its input is wrong: exit code 2
    ├── ConfigError     a flag, a recipe key, a module map
    ├── DataError       a data set, its columns, splits and labels
    ├── ModelError      a model folder or Hub id
    ├── TrainingError   a training that cannot go on
    ├── ArtifactError   a folder this package wrote, or should write
    ├── ExportError     a graph that does not answer as its checkpoint does
    ├── HubError        an upload that was refused
    └── DeliveryError   a delivery that somebody ended: exit code 130, as of every interrupt

Every message names the value, the limit and the remedy. Anything that is not a `TheseusError` is a bug and keeps
its traceback (exit code 1). A failed or inconclusive gate is a result, not an error: see `benchmark.report.Verdict`.
"""

from typing import ClassVar


class TheseusError(Exception):
    """The request or its input is wrong."""

    exit_code: ClassVar[int] = 2


class ConfigError(TheseusError):
    """A configuration value is out of its limits."""


class DataError(TheseusError):
    """A data set is missing something, or holds something the model does not know."""


class ModelError(TheseusError):
    """A model cannot be found, read, or used for what was asked."""


class TrainingError(TheseusError):
    """A training cannot go on; what it had saved is kept."""


class ArtifactError(TheseusError):
    """A folder of ours is damaged, of another kind, or in the way."""


class ExportError(TheseusError):
    """An exported graph cannot be made, or does not answer as its checkpoint does."""


class HubError(TheseusError):
    """A folder cannot be uploaded; it stays where it is."""


class DeliveryError(TheseusError):
    """A delivery was ended by whoever began it; what was to be delivered is kept."""

    exit_code = 130


def brief(error: Exception, most: int = 200) -> str:
    """Say in one line, of so many characters at most, what a library's error says; its name where it says nothing."""
    return " ".join(str(error).split())[:most].rstrip(".:") or type(error).__name__


def suggest(value: str, known: list[str] | tuple[str, ...]) -> str:
    """Name the known value nearest to a mistyped one, or list them all."""
    from difflib import get_close_matches

    near = get_close_matches(value, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
