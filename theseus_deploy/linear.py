"""Linear layers on a CPU by oneDNN, in float32 as torch's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode


class OneDNNLinear(TorchFunctionMode):
    """Compute every linear layer of a model without gradients by oneDNN, as long as this is entered.

    torch itself takes MKL for these, which on a CPU that is not Intel's took twice the time. Only the order of sums
    differs. It is the operator that torch compiles linear layers to.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer a call of `torch.nn.functional.linear`, and let all others through."""
        del types
        call = onednn_linear if func is linear else func
        return call(*args, **(kwargs or {}))


def onednn_linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return what `torch.nn.functional.linear` does, of the same shape and dtype."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or {input.dtype, weight.dtype} != {torch.float32}:
        return linear(input, weight, bias)
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product
