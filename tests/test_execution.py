"""Where torch runs is as asked, or refused."""

import pytest
import torch

from tests.checkpoints import refuse
from theseus_deploy.execution import torch_device


def test_devices_are_as_asked() -> None:
    assert torch_device("cpu").type == "cpu"
    assert torch_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert refuse(lambda: torch_device("cuda")) == (
        "--device cuda, but torch sees no GPU here; use --device cpu, or install a CUDA build of torch"
    )
