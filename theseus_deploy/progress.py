"""How the library tells its caller that it is alive, without printing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Tracker(Protocol):
    """A piece of long work under way."""

    def advance(self, steps: int = 1, **facts: float | str) -> None:
        """Move on by `steps`; `facts` are shown beside the bar (`loss=0.31`, `rate=0.5`)."""


class Progress(Protocol):
    """Whoever watches: a terminal, a log, a notebook, nobody."""

    def say(self, message: str) -> None:
        """Tell one thing that a person wants to know now."""

    def track(self, title: str, total: int) -> AbstractContextManager[Tracker]:
        """Begin a piece of work of `total` steps; leaving the context ends it."""


class Silent:
    """Nobody watches."""

    def say(self, message: str) -> None:
        """Drop the message."""

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Tracker]:
        """Count for nobody."""
        del title, total
        yield self

    def advance(self, steps: int = 1, **facts: float | str) -> None:
        """Drop the step."""


SILENT = Silent()
