"""A request whose values are checked against their types and limits when it is made, from Python or from YAML."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from math import isfinite
from types import NoneType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from theseus_deploy.errors import ConfigError, suggest


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A request: every value is of its kind and within its limits, or there is none."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not _fits(value, hint):
                shown = list(value) if isinstance(value, tuple) else value
                raise ConfigError(f"{flag(name)} {shown!r} is not {_describe(hint)}; correct it")

    def _at_least(self, name: str, limit: float) -> None:
        value = getattr(self, name)
        if value is not None and value < limit:
            raise ConfigError(f"{flag(name)} {value} is below {limit}; raise it")

    def _at_most(self, name: str, limit: float) -> None:
        value = getattr(self, name)
        if value is not None and value > limit:
            raise ConfigError(f"{flag(name)} {value} is above {limit}; lower it")

    def _within(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if value is not None and not low <= value <= high:
            raise ConfigError(f"{flag(name)} {value} is outside {low:g}..{high:g}; move it inside")

    def to_json(self) -> dict[str, Any]:
        """Return the `config` object of `theseus.json`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], where: str) -> Self:
        """Read a recipe's section.

        Raises:
            ConfigError: a key that is not known (the nearest is suggested), or a value of the wrong kind.
        """
        known = {field.name.replace("_", "-"): field.name for field in fields(cls)}
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for key, value in data.items():
            name = known.get(str(key).replace("_", "-"))
            if name is None:
                raise ConfigError(f"{where}: key {key!r} is unknown; {suggest(str(key), list(known))}")
            if name in values:
                raise ConfigError(f"{where}: key {key!r} is there twice, with - and with _; keep one of them")
            values[name] = _from_yaml(value, hints[name])
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error


def flag(name: str) -> str:
    """Name a field as the command line does."""
    return "--" + name.replace("_", "-")


def _from_yaml(value: Any, hint: Any) -> Any:
    if get_origin(hint) is tuple and isinstance(value, (str, int)):  # a list of one, or as the command line has it
        if not isinstance(value, str):
            return (value,)
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        whole = get_args(hint)[0] is int and all(map(str.isdecimal, parts))
        return tuple(map(int, parts)) if whole else parts
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and float in (hint, *get_args(hint)):  # YAML reads 1e-4 as a text, 1.0e-4 as a number
        with suppress(ValueError):
            return float(value)
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if arguments:  # a union such as `int | None`
        return any(_fits(value, argument) for argument in arguments)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float)) and isfinite(value) if hint is float else isinstance(value, hint)


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"a list, each of it {_describe(arguments[0])}"
    if arguments:
        return _describe(next(argument for argument in arguments if argument is not NoneType))
    return {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}[hint]
