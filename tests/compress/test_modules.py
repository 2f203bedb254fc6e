"""Properties 1-3, 6-8 and 12 of the paper's list, on tiny random models of every family under both heads."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from tests.conftest import make_bert
from theseus_deploy.compress.families import FAMILIES, count_layers, family_of, layers_of
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.compress.modules import (
    assemble,
    set_mask,
    strip,
    successor_parameters,
    theseus_modules,
    trainable_parameters,
    truncate,
)
from theseus_deploy.configs import Thaw
from theseus_deploy.errors import ConfigError

MAP = ModuleMap.parse("0-1,2,3-5", 6)
SOURCES = {"bottom": (0, 1, 2), "first": (0, 2, 3)}
# From the bottom, layer 2 alone is replaced by a layer of the other kind; from the first of each module, the kinds are
# not those of the three lowest layers.
TYPES = [{"S": "sliding_attention", "F": "full_attention"}[letter] for letter in "FSFSSF"]

SIZE = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64, "num_labels": 3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.2,
}  # fmt: skip
DISENTANGLED = {
    "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in FAMILIES},
    "distilbert": {"dim": 32, "n_layers": 6, "n_heads": 4, "hidden_dim": 64, "dropout": 0.0, "attention_dropout": 0.0,
                   "seq_classif_dropout": 0.0},
    "electra": {"embedding_size": 16},
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "deberta-v2": DISENTANGLED,
    "deberta-v2 with convolution": {**DISENTANGLED, "conv_kernel_size": 3, "conv_act": "gelu"},
    "modernbert": {"layer_types": TYPES, "local_attention": 4, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3,
                   "cls_token_id": 2, "sep_token_id": 3},
}  # fmt: skip
# Where the head lies, beside `classifier`; written down here a second time, by hand.
HEADS = {
    "bert": "bert.pooler.", "distilbert": "pre_classifier.", "deberta": "pooler.", "deberta-v2": "pooler.",
    "modernbert": "head.",
}  # fmt: skip
HALF = [case for case in SETTINGS if case != "deberta"]  # that overflows on its own: huggingface/transformers #35332
TASKS = {"sequences": AutoModelForSequenceClassification, "tokens": AutoModelForTokenClassification}
Stack = Sequence[tuple[int, nn.Module]]  # layers, each beside the number of the layer that it was or started as

torch.manual_seed(0)
INPUTS = {
    "input_ids": torch.randint(4, 29, (3, 16)),
    "attention_mask": torch.tensor([[1] * length + [0] * (16 - length) for length in (16, 9, 3)]),
}
INPUTS["input_ids"][INPUTS["attention_mask"] == 0] = 1


def shuffle(model: nn.Module) -> None:
    """Move every tensor, those of ones and zeros too: no two are alike, and none can be mistaken for another."""
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight), alpha=0.1)


def build(case: str, task: str) -> PreTrainedModel:
    """A model without dropout, in train mode."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(case.split()[0], **{**SIZE, **SETTINGS[case]})
    model = TASKS[task].from_config(config)
    shuffle(model)
    return model.train()


@pytest.fixture(params=SETTINGS)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sequences", pytest.param("tokens", marks=pytest.mark.slow)])
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(**INPUTS).logits


def layers_path(model: PreTrainedModel) -> str:
    return f"{model.base_model_prefix}.{family_of(model.config).layers}."


def compose(model: PreTrainedModel, stack: Stack) -> PreTrainedModel:
    """A plain model, made from its configuration, with the layers of `stack`."""
    count = "n_layers" if model.config.model_type == "distilbert" else "num_hidden_layers"
    changes = {count: len(stack)}
    if model.config.model_type == "modernbert":
        changes["layer_types"] = [TYPES[source] for source, _ in stack]
    composed = type(model)(type(model.config).from_dict({**model.config.to_dict(), **changes}))
    path = layers_path(model)
    weights = {name: weight for name, weight in model.state_dict().items() if not name.startswith(path)}
    for position, (_, layer) in enumerate(stack):
        weights |= {f"{path}{position}.{name}": weight for name, weight in layer.state_dict().items()}
    composed.load_state_dict(weights, strict=True)
    return composed.train(model.training)


def assemble_trained(model: PreTrainedModel, init: str) -> tuple[PreTrainedModel, Stack, Stack]:
    """Assemble a copy of a model; return it with both stacks, once the successors are no longer as they started."""
    assembled = assemble(deepcopy(model), MAP, init)
    successors = [module.successor for module in theseus_modules(assembled)]
    for successor in successors:
        shuffle(successor)
    return assembled, list(enumerate(layers_of(model))), list(zip(SOURCES[init], successors, strict=True))


def test_the_kind_of_attention_matters_to_the_modernbert_tested_here() -> None:
    model = build("modernbert", "tokens")
    expected = logits(model)
    for index in (1, 3, 4):
        attending_to_all = deepcopy(model)
        attending_to_all.model.layers[index].attention_type = "full_attention"
        assert not torch.allclose(logits(attending_to_all), expected, atol=1e-2)


def test_without_replacing_it_is_the_predecessor_bit_for_bit(case: str, task: str) -> None:
    model = build(case, task)
    assembled, *_ = assemble_trained(model, "bottom")
    set_mask(theseus_modules(assembled), [False, False, False])
    assert torch.equal(logits(assembled), logits(model))


def test_every_mask_is_the_stack_composed_by_hand(case: str, task: str) -> None:
    model = build(case, task)
    assembled, predecessor, successor = assemble_trained(model, "bottom")
    answers = []
    for mask in product([False, True], repeat=3):
        set_mask(theseus_modules(assembled), mask)
        stack = [
            layer
            for position, module in enumerate(MAP.modules)
            for layer in ([successor[position]] if mask[position] else [predecessor[index] for index in module])
        ]
        answers.append(logits(assembled))
        assert torch.equal(answers[-1], logits(compose(model, stack))), mask
    assert len({answer.detach().numpy().tobytes() for answer in answers}) == 8


def test_in_evaluation_it_is_the_successor_whatever_the_mask(case: str, task: str) -> None:
    model = build(case, task).eval()
    assembled, _, successor = assemble_trained(model, "bottom")
    expected = logits(compose(model, successor))
    for mask in product([False, True], repeat=3):
        set_mask(theseus_modules(assembled), mask)
        assert torch.equal(logits(assembled), expected)


def test_stripped_saved_and_loaded_without_us_it_answers_the_same(case: str, task: str, tmp_path: Path) -> None:
    model = build(case, task)
    assembled, predecessor, successor = assemble_trained(model, "first")
    expected = logits(compose(model.eval(), successor))
    stripped = strip(assembled).eval()
    assert torch.equal(logits(stripped), expected)
    assert not theseus_modules(stripped)
    assert type(layers_of(stripped)) is nn.ModuleList
    assert count_layers(stripped.config) == len(layers_of(stripped)) == 3
    assert all(weight.requires_grad for weight in stripped.parameters())
    for index, layer in enumerate(layers_of(stripped)):
        assert {part.layer_idx for part in layer.modules() if hasattr(part, "layer_idx")} <= {index}

    stripped.save_pretrained(tmp_path)
    loaded, report = TASKS[task].from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert count_layers(loaded.config) == 3
    assert torch.equal(logits(loaded.eval()), expected)
    saved = load_file(tmp_path / "model.safetensors")
    path = layers_path(stripped)
    assert not [name for name in saved if "predecessor" in name or "successor" in name]
    assert {name.removeprefix(path).split(".")[0] for name in saved if name.startswith(path)} == {"0", "1", "2"}
    replaced = {weight.detach().numpy().tobytes() for _, layer in predecessor for weight in layer.parameters()}
    assert not [name for name, weight in saved.items() if weight.numpy().tobytes() in replaced]


def test_truncated_saved_and_loaded_it_is_the_layers_that_were_kept(case: str, tmp_path: Path) -> None:
    model = build(case, "tokens").eval()
    layers = list(layers_of(model))
    expected = logits(compose(model, [(index, layers[index]) for index in (0, 3, 4)]))
    truncated = truncate(model, (0, 3, 4))
    assert torch.equal(logits(truncated), expected)
    truncated.save_pretrained(tmp_path)
    assert torch.equal(logits(TASKS["tokens"].from_pretrained(tmp_path).eval()), expected)


@pytest.mark.parametrize("init", ["last", "every-other"])
def test_a_modernbert_that_could_not_be_loaded_is_not_made(init: str) -> None:
    model = build("modernbert", "sequences")
    before = logits(model)
    for make in (lambda: assemble(model, MAP, init), lambda: truncate(model, MAP.sources(init))):
        with pytest.raises(ConfigError, match="successor layer 0 would start as layer 1"):
            make()
    assert torch.equal(logits(model), before)
    assert all(weight.requires_grad for weight in model.parameters())


def test_only_the_chosen_branches_run_and_nothing_is_remembered_below_the_lowest_successor_drawn(case: str) -> None:
    assembled = assemble(build(case, "sequences"), MAP)
    ran: list[tuple[str, bool]] = []

    def watch(name: str, layer: nn.Module) -> None:
        layer.register_forward_pre_hook(lambda _, inputs: ran.append((name, inputs[0].requires_grad)))

    for position, module in enumerate(theseus_modules(assembled)):
        watch(f"scc{position}", module.successor)
        for layer in module.predecessor:
            watch(f"prd{position}", layer)
    for mask in product([False, True], repeat=3):
        set_mask(theseus_modules(assembled), mask)
        ran.clear()
        assert logits(assembled).requires_grad == any(mask)
        assert ran == [
            (name, any(mask[:position]))
            for position, module in enumerate(MAP.modules)
            for name in ([f"scc{position}"] if mask[position] else [f"prd{position}"] * len(module))
        ]


@pytest.mark.parametrize("case", HALF)
def test_in_bf16_it_is_the_stack_composed_by_hand_and_learns(case: str) -> None:
    model = build(case, "sequences")
    assembled, predecessor, successor = assemble_trained(model, "bottom")
    plain = compose(model, [successor[0], predecessor[2], successor[2]])
    set_mask(theseus_modules(assembled), [True, False, True])
    with torch.autocast("cpu", torch.bfloat16):
        answer = assembled(**INPUTS, labels=torch.tensor([0, 1, 2]))
        assert torch.equal(answer.logits, logits(plain))
    answer.loss.backward()
    learned = [any(weight.grad is not None for weight in layer.parameters()) for _, layer in successor]
    assert learned == [True, False, True]


@pytest.mark.parametrize("thaw", get_args(Thaw))
def test_what_thaws_is_what_was_asked_for_and_never_the_predecessor(case: str, task: str, thaw: Thaw) -> None:
    def names(model: PreTrainedModel) -> set[str]:
        trained = trainable_parameters(model, thaw)
        found = [name for name, weight in model.named_parameters() if any(weight is other for other in trained)]
        assert len(found) == len(trained)
        return set(found)

    heads = ("classifier.", HEADS.get(case.split()[0], "classifier."))
    plain = build(case, task)
    path = layers_path(plain)
    everything = {name for name, _ in plain.named_parameters()}
    layers, head = ({name for name in everything if name.startswith(prefix)} for prefix in (path, heads))
    assert names(plain) == {"none": layers, "head": layers | head, "all": everything}[thaw]
    assembled = assemble(plain, MAP)
    everything = {name for name, _ in assembled.named_parameters()}
    layers = {name for name in everything if name.startswith(path) and ".successor." in name}
    replaced = {name for name in everything if name.startswith(path) and ".predecessor." in name}
    assert names(assembled) == {"none": layers, "head": layers | head, "all": everything - replaced}[thaw]
    assert len(everything) == len({weight.data_ptr() for weight in assembled.parameters()})
    assert {name for name in everything if "successor" in name} == layers
    assert {name for name, weight in assembled.named_parameters() if weight.requires_grad} == layers


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
    set_mask(theseus_modules(model), [True, False, False])
    model(**INPUTS, labels=torch.tensor([0, 1, 1])).loss.backward()
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
