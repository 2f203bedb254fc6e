"""The dropout of training on a CPU: the law of torch's own, from fewer draws."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tests.families import FAMILIES, save_tiny
from theseus_deploy.dropout import PackedDropout, packed_dropout
from theseus_deploy.execution import eager_attention

SHAPE = (40, 41, 61)  # no multiple of the four elements that a draw serves


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_so_many_are_dropped_and_the_mean_stays(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ones = torch.ones(SHAPE, dtype=dtype)
    left = packed_dropout(ones, p)
    assert (left.shape, left.dtype) == (ones.shape, dtype)
    kept = left[left != 0]
    torch.testing.assert_close(
        kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-2 if dtype == torch.bfloat16 else 1e-3, atol=0
    )
    standard_error = (p * (1 - p) / ones.numel()) ** 0.5
    assert kept.numel() / ones.numel() == pytest.approx(1 - p, abs=4 * standard_error)
    if dtype == torch.float32:
        assert left.mean().item() == pytest.approx(1, abs=4 * standard_error / (1 - p))


def test_elements_of_one_draw_are_independent() -> None:
    torch.manual_seed(0)
    dropped = (packed_dropout(torch.ones(400_000), 0.3) == 0).view(-1, 4).float()
    torch.testing.assert_close(torch.corrcoef(dropped.T), torch.eye(4), rtol=0, atol=4 / 100_000**0.5)
    torch.testing.assert_close(dropped.mean(0), torch.full((4,), 0.3), rtol=0, atol=4 * (0.21 / 100_000) ** 0.5)


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(0)
    values = torch.randn(SHAPE, requires_grad=True)
    left = packed_dropout(values, 0.25)
    left.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad * values, left)
    assert 0 < (values.grad == 0).sum() < values.numel()


def test_a_seed_decides_and_a_state_restores() -> None:
    ones = torch.ones(SHAPE)
    torch.manual_seed(5)
    first, state, second = packed_dropout(ones), torch.get_rng_state(), packed_dropout(ones)
    torch.manual_seed(5)
    assert torch.equal(packed_dropout(ones), first)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(packed_dropout(ones), second)


@pytest.mark.parametrize(("p", "training", "left"), [(0.0, True, 1.0), (1.0, True, 0.0), (0.7, False, 1.0)])
def test_nothing_is_drawn_where_nothing_is_random(p: float, training: bool, left: float) -> None:
    before = torch.get_rng_state()
    assert torch.equal(packed_dropout(torch.ones(SHAPE), p, training), torch.full(SHAPE, left))
    assert torch.equal(torch.get_rng_state(), before)


def test_it_ends_with_its_block() -> None:
    ones, module = torch.ones(SHAPE), nn.Dropout(0.5)
    torch.manual_seed(1)
    own = module(ones)
    torch.manual_seed(1)
    with PackedDropout():
        packed = module(ones)
    torch.manual_seed(1)
    assert torch.equal(module(ones), own)
    torch.manual_seed(1)
    assert torch.equal(packed_dropout(ones, 0.5), packed)
    assert not torch.equal(packed, own)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_dropout_of_a_family_is_drawn_so(family: str, tmp_path: Path) -> None:
    folder = save_tiny(family, "single-label", tmp_path)
    rates = dict.fromkeys(("attention_dropout", "mlp_dropout", "embedding_dropout", "classifier_dropout"), 0.1)
    config = transformers.AutoConfig.from_pretrained(folder, **(rates if family == "modernbert" else {}))
    model = transformers.AutoModelForSequenceClassification.from_config(config).train()
    words = torch.tensor([[1, 5, 6, 2]])

    def drawn(packed: bool) -> tuple[int, int]:
        with eager_attention(model), profile(activities=[ProfilerActivity.CPU]) as recorded:
            if packed:
                with PackedDropout():
                    model(input_ids=words)
            else:
                model(input_ids=words)
        found = {event.key: event.count for event in recorded.key_averages()}
        return found.get("aten::bernoulli_", 0) + found.get("aten::native_dropout", 0), found.get("aten::random_", 0)

    ours, theirs = drawn(packed=True), drawn(packed=False)
    assert theirs[0] > 2
    assert ours == (0, theirs[0])
