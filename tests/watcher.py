"""A progress that remembers what it was told, and interrupts where that is asked."""

from collections.abc import Iterator
from contextlib import contextmanager


class Watcher:
    """Remembers what it was told."""

    def __init__(self, interrupt_at: str = "never") -> None:
        self.told: list[str] = []
        self.steps = 0
        self._interrupt_at = interrupt_at

    def say(self, message: str) -> None:
        self.told.append(message)
        if self._interrupt_at in message:
            raise KeyboardInterrupt

    @contextmanager
    def track(self, title: str, total: int) -> Iterator["Watcher"]:
        self.say(title)
        yield self

    def advance(self, steps: int = 1, **facts: float | str) -> None:
        self.steps += steps
