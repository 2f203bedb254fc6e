"""Another function in the place of one of torch's, for a while."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode


class Substitute(TorchFunctionMode):
    """Answer calls of one of torch's functions with another of the same signature, as long as this is entered."""

    def __init__(self, function: Callable[..., Any], other: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.other = other

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer a call of the function, and let all others through."""
        del types
        call = self.other if func is self.function else func
        return call(*args, **(kwargs or {}))
