import pytest
import torch
from torch.nn.functional import linear
from torch.profiler import ProfilerActivity, profile

from theseus_deploy.linear import OneDNNLinear


@pytest.mark.parametrize("shape", [(3, 5, 8), (1, 8), (8,)])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_computes_what_torch_does(shape: tuple[int, ...], biased: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(size, dtype=dtype) for size in (shape, (6, 8), (6,)))
    arguments = (x, weight, bias) if biased else (x, weight)
    with torch.inference_mode(), OneDNNLinear():
        found = linear(*arguments)
    torch.testing.assert_close(found, linear(*arguments), atol=1e-6, rtol=1e-6)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")
def test_it_is_onednn_that_computes() -> None:
    layer = torch.nn.Linear(8, 6)
    with torch.inference_mode(), OneDNNLinear(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        layer(torch.randn(2, 8))
    names = {event.key for event in profiled.key_averages()}
    assert "mkldnn::_linear_pointwise" in names
    assert "aten::addmm" not in names
