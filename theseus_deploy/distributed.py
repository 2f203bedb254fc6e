"""Processes that share one training, on one machine or many: who this one is, and how they keep together.

`torchrun` and `accelerate launch` start the same command in every process and say in the environment who it is.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from theseus_deploy.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # with the first process, which asks the predecessor while the others wait


@dataclass(frozen=True)
class World:
    """This process among those that share a training: `rank` of `size`. The first one writes for all."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> "World":
        """Read off the environment which process this is; without a launcher it is alone."""
        rank, size = (os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
        if not (rank.isdecimal() and size.isdecimal()):
            raise ConfigError(f"RANK={rank} and WORLD_SIZE={size} are no numbers; unset them, or use torchrun")
        return cls(int(rank), int(size))

    @property
    def first(self) -> bool:
        """Tell whether this process writes for all."""
        return self.rank == 0

    def join(self, device: "torch.device") -> None:
        """Meet the other processes: gloo on CPUs, nccl on GPUs."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState(cpu=device.type == "cpu", timeout=PATIENCE)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Let the first process through before the others, who then find what it made."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def gather(self, items: Sequence[T]) -> list[T]:
        """Return what all processes hold, in the order of their ranks."""
        if self.size == 1:
            return list(items)
        from accelerate.utils import gather_object

        gathered: list[T] = gather_object(list(items))
        return gathered

    def require_equal(self, value: Any, what: str, remedy: str) -> None:
        """Make sure that all processes hold the same value.

        Raises:
            TrainingError: they do not.
        """
        values = self.gather([value])
        if len(set(values)) > 1:
            raise TrainingError(f"{what} differs between processes ({', '.join(map(str, values))}); {remedy}")


ALONE = World()
