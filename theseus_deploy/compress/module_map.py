"""Which predecessor layers each successor layer stands for."""

from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Self

from theseus_deploy.errors import ConfigError

MOST_LAYERS = 10_000  # that anybody means


@dataclass(frozen=True)
class ModuleMap:
    """An ordered partition of the predecessor's layers: `modules[i]` are the layers that successor layer i replaces.

    Raises:
        ConfigError: the modules are not an ordered partition of 0, 1, 2, ...
    """

    modules: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        flat = list(chain.from_iterable(self.modules))
        if not flat or not all(self.modules) or flat != list(range(len(flat))):
            raise ConfigError(
                f"--map {self} is no ordered partition of the layers 0..{max(flat, default=0)}; "
                "write every layer once, in order, for instance 0-1,2-3,4-5"
            )

    def __str__(self) -> str:
        return ",".join(
            f"{module[0]}-{module[-1]}" if len(module) > 1 else str(module[0]) for module in self.modules if module
        )

    @classmethod
    def even(cls, predecessor_layers: int, successor_layers: int) -> Self:
        """Divide the layers as evenly as they go; where they do not, the larger modules are spread, not piled up.

        Raises:
            ConfigError: more successor layers than predecessor layers, or none.
        """
        if not 1 <= successor_layers <= predecessor_layers:
            raise ConfigError(
                f"--layers {successor_layers} is outside 1..{predecessor_layers}, what the predecessor has; change it"
            )
        bounds = [index * predecessor_layers // successor_layers for index in range(successor_layers + 1)]
        return cls(tuple(tuple(range(start, stop)) for start, stop in pairwise(bounds)))

    @classmethod
    def parse(cls, text: str, predecessor_layers: int) -> Self:
        """Read `0-1,2-3,4-8,9-11`.

        Raises:
            ConfigError: the text is not of that form, or is no ordered partition of just the predecessor's layers.
        """
        try:
            bounds = [[int(bound) for bound in part.split("-")] for part in text.split(",")]
            if max(map(max, bounds)) > MOST_LAYERS:
                raise ValueError(text)
            modules = tuple(tuple(range(part[0], part[-1] + 1)) for part in bounds if len(part) <= 2)
        except ValueError:
            modules, bounds = (), []
        if not modules or len(modules) != len(bounds):
            raise ConfigError(f"--map {text!r} cannot be read; write ranges of layers, for instance 0-1,2-3,4-5")
        result = cls(modules)
        if result.predecessor_layers != predecessor_layers:
            raise ConfigError(
                f"--map {text} covers {result.predecessor_layers} layers, the predecessor has {predecessor_layers}; "
                f"cover 0..{predecessor_layers - 1}"
            )
        return result

    @property
    def predecessor_layers(self) -> int:
        """Count the predecessor's layers."""
        return sum(map(len, self.modules))

    @property
    def successor_layers(self) -> int:
        """Count the successor's layers: the modules, n in the paper."""
        return len(self.modules)

    def sources(self, init: str) -> tuple[int, ...]:
        """Name the predecessor layer that each successor layer starts as a copy of.

        `bottom`: the lowest n layers, as the official code does. `first` / `last`: the first or last layer of the
        module replaced. `every-other`: n layers at equal distances, the top one among them.
        """
        layers, n = self.predecessor_layers, self.successor_layers
        return {
            "bottom": tuple(range(n)),
            "first": tuple(module[0] for module in self.modules),
            "last": tuple(module[-1] for module in self.modules),
            "every-other": tuple((index + 1) * layers // n - 1 for index in range(n)),
        }[init]
