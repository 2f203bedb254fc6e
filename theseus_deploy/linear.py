"""Linear layers on a CPU by oneDNN, in float32 as torch's own."""

import torch
from torch.nn.functional import linear

from theseus_deploy.substitute import Substitute


class OneDNNLinear(Substitute):
    """Compute every linear layer of a model without gradients by oneDNN, as long as this is entered.

    torch itself takes MKL for these, which on a CPU that is not Intel's took twice the time. Only the order of sums
    differs. It is the operator that torch compiles linear layers to.
    """

    def __init__(self) -> None:
        super().__init__(linear, onednn_linear)


def onednn_linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return what `torch.nn.functional.linear` does, of the same shape and dtype."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or {input.dtype, weight.dtype} != {torch.float32}:
        return linear(input, weight, bias)
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product
