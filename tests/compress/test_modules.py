"""Properties 1-3, 6-8 and 12 of the paper's list, on tiny random models of every family."""

from copy import deepcopy
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from tests.conftest import make_bert
from theseus_deploy.compress.families import FAMILIES, count_layers, family_of, layers_of
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.compress.modules import (
    assemble,
    set_mask,
    strip,
    successor_parameters,
    theseus_modules,
    truncate,
)
from theseus_deploy.errors import ModelError

LAYERS = 5
SIZE = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64, "num_labels": 3, "initializer_range": 0.2,
}  # fmt: skip
DIFFERENT = {
    "distilbert": {"dim": 32, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 64},
    "electra": {"embedding_size": 32},
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "deberta-v2": {
        "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
    },
}  # fmt: skip
INPUTS = {
    "input_ids": torch.tensor([[5, 9, 7, 21, 8, 6], [11, 12, 13, 1, 1, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A model of each family without dropout, in train mode."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, **{**SIZE, **DIFFERENT.get(request.param, {})})
    made = AutoModelForSequenceClassification.from_config(config)
    for part in made.modules():
        if "Dropout" in type(part).__name__:
            setattr(part, "p" if hasattr(part, "p") else "drop_prob", 0.0)
    return made.train()


def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(**INPUTS).logits


def test_without_replacing_it_is_the_predecessor_bit_for_bit(model: PreTrainedModel) -> None:
    expected = logits(model)
    assembled = assemble(deepcopy(model), ModuleMap.even(LAYERS, 2))
    set_mask(assembled, [False, False])
    assert torch.equal(logits(assembled), expected)


def test_with_all_replaced_it_is_the_successor_and_so_it_is_in_evaluation(model: PreTrainedModel) -> None:
    module_map = ModuleMap.even(LAYERS, 2)
    expected = logits(truncate(deepcopy(model), module_map.sources("bottom")))
    assembled = assemble(model, module_map)
    set_mask(assembled, [True, True])
    assert torch.equal(logits(assembled), expected)
    set_mask(assembled, [False, False])
    assert not torch.equal(logits(assembled), expected)
    assert torch.equal(logits(assembled.eval()), expected)


def test_stripped_saved_and_loaded_without_us_it_answers_the_same(model: PreTrainedModel, tmp_path: Path) -> None:
    assembled = assemble(model, ModuleMap.even(LAYERS, 2))
    expected = logits(assembled.eval())
    stripped = strip(assembled)
    assert torch.equal(logits(stripped), expected)
    assert not theseus_modules(stripped)
    assert count_layers(stripped.config) == len(layers_of(stripped)) == 2
    stripped.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert count_layers(loaded.config) == 2
    assert torch.equal(logits(loaded), expected)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = list(file.keys())
    assert not [name for name in names if "predecessor" in name or "successor" in name]
    assert {name.split("layer.")[1].split(".")[0] for name in names if ".layer." in name} == {"0", "1"}


@pytest.mark.parametrize("mask", list(product([False, True], repeat=3)))
def test_every_mask_is_the_stack_composed_by_hand(mask: tuple[bool, ...]) -> None:
    model = make_bert(layers=6, dropout=0.0).train()
    module_map = ModuleMap.parse("0-1,2,3-5", 6)
    layers = list(layers_of(model))
    stack: list[nn.Module] = []
    for position, (module, replaced) in enumerate(zip(module_map.modules, mask, strict=True)):
        stack += [layers[position]] if replaced else [layers[index] for index in module]
    composed = deepcopy(model)
    composed.bert.encoder.layer = nn.ModuleList(deepcopy(stack))
    assembled = assemble(model, module_map)
    set_mask(assembled, mask)
    assert torch.equal(logits(assembled), logits(composed))


def test_successors_start_as_their_sources_and_share_no_storage() -> None:
    model = make_bert(layers=6)
    module_map = ModuleMap.even(6, 3)
    layers = list(layers_of(model))
    storage = {weight.data_ptr() for weight in model.parameters()}
    assembled = assemble(model, module_map, "last")
    for module, source in zip(theseus_modules(assembled), module_map.sources("last"), strict=True):
        for (name, weight), expected in zip(
            module.successor.named_parameters(), layers[source].parameters(), strict=True
        ):
            assert torch.equal(weight, expected), name
            assert weight.data_ptr() not in storage, name


def test_only_successors_train_and_their_gradient_passes_through_frozen_modules() -> None:
    model = assemble(make_bert(layers=6), ModuleMap.even(6, 3)).train()
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    assert {id(weight) for weight in trainable} == {id(weight) for weight in successor_parameters(model)}
    set_mask(model, [True, False, False])
    model(**INPUTS, labels=torch.tensor([0, 1])).loss.backward()
    first, *others = theseus_modules(model)
    # A key's bias moves every score of a row alike, so that softmax takes its gradient away.
    assert all(
        weight.grad.abs().sum() > 0 for name, weight in first.successor.named_parameters() if "key.bias" not in name
    )
    assert all(weight.grad is None for module in others for weight in module.parameters())
    assert all(weight.grad is None for weight in first.predecessor.parameters())
    assert model.bert.embeddings.word_embeddings.weight.grad is None


def test_bert_base_at_six_layers_trains_as_many_parameters_as_the_paper_says() -> None:
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("bert"))
    assemble(model, ModuleMap.even(12, 6))
    assert sum(weight.numel() for weight in successor_parameters(model)) == 42_527_232


def test_minilm_at_three_layers_counts_as_it_should() -> None:
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536, "num_labels": 3}
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("bert", **shape))
    assemble(model, ModuleMap.even(6, 3))
    assert sum(weight.numel() for weight in successor_parameters(model)) == 5_323_392
    head = 384 * 3 + 3
    assert strip(model).num_parameters() == 17_389_824 + head


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("albert", {}, "share one set of weights"),
        ("modernbert", {}, "local and global attention"),
        ("gpt2", {}, "no encoder we know"),
        ("deberta-v2", {"conv_kernel_size": 3}, "convolution"),
    ],
)
def test_what_cannot_be_divided_is_refused_with_its_reason(kind: str, settings: dict[str, int], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        family_of(AutoConfig.for_model(kind, **settings))
