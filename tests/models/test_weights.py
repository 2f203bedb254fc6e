"""Weights are those of the folder, but for a head that is asked for anew: nothing else is ever made up."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from tests.checkpoints import MOODS, Save, configure, refuse
from tests.conftest import make_bert
from theseus_deploy.models.checkpoint import Checkpoint, open_checkpoint
from theseus_deploy.tasks import Task


def test_half_precision_weights_are_read_as_fp32(save_model: Save) -> None:
    model = open_checkpoint(str(save_model(make_bert().half()))).trained()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"x" * 1000])
def test_damaged_weights_are_refused(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    for work in (open_checkpoint(str(folder)).trained, lambda: open_checkpoint(str(folder)).fresh(MOODS, 1)):
        message = refuse(work)
        assert f"{folder} holds damaged weights (" in message
        assert message.endswith("fetch or train it again")


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    message = refuse(open_checkpoint(str(folder)).trained)
    assert "is no text classifier that can be loaded (Error no file named model.safetensors" in message


@pytest.mark.parametrize("work", [Checkpoint.trained, Checkpoint.check_trained])
def test_a_model_whose_head_was_never_trained_is_sent_to_finetune(
    encoder_only: Path, work: Callable[[Checkpoint], object]
) -> None:
    assert refuse(lambda: work(open_checkpoint(str(encoder_only)))) == (
        f"{encoder_only} has no trained weights for classifier.bias, classifier.weight; a predecessor must be "
        "fine-tuned on the task first: run `theseus finetune`"
    )


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_trained_model_is_known_by_the_names_of_its_weights(folder: Path, weights: str) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (save_file if weights.endswith("safetensors") else torch.save)(state, folder / weights)
    open_checkpoint(str(folder)).check_trained()


def test_the_head_of_another_task_is_no_head(save_model: Save) -> None:
    message = refuse(open_checkpoint(str(save_model(BertForMaskedLM(make_bert().config)))).trained)
    assert "has no trained weights for bert.pooler.dense.bias" in message
    assert message.endswith("run `theseus finetune`")


def test_a_head_of_another_shape_than_the_config_has_is_not_sent_to_finetune(folder: Path) -> None:
    checkpoint = configure(folder, id2label={"0": "a", "1": "b", "2": "c"})
    assert refuse(checkpoint.trained) == (
        f"{folder} has a classifier.bias of 2 outputs, and its config.json has 3 labels; name as many in its id2label"
    )
    assert checkpoint.fresh(replace(MOODS, labels=("a", "b", "c", "d")), 1).num_labels == 4


@pytest.mark.parametrize("work", [Checkpoint.trained, lambda checkpoint: checkpoint.fresh(MOODS, 1)])
def test_weights_of_layers_that_the_config_has_no_place_for_are_not_dropped(
    folder: Path, work: Callable[[Checkpoint], object]
) -> None:
    weights = load_file(folder / "model.safetensors")
    relative = "bert.encoder.layer.1.attention.self.distance_embedding.weight"
    save_file({**weights, relative: torch.zeros(3, 4)}, folder / "model.safetensors")
    reason = f"has weights of layers that have no place in the model ({relative}); correct num_hidden_layers"
    assert reason in refuse(lambda: work(open_checkpoint(str(folder))))
    known = ("bert.embeddings.position_ids", "bert.encoder.layer.0.inv_freq", "cls.bias", "cls.layers.0.weight")
    save_file({**weights, **{name: torch.zeros(2) for name in known}}, folder / "model.safetensors")
    work(open_checkpoint(str(folder)))
    for prefix in ("bert.", ""):  # as BertModel alone is saved
        renamed = {name.replace("bert.", prefix): weight for name, weight in weights.items()}
        save_file(renamed, folder / "model.safetensors")
        shorter = partial(work, configure(folder, num_hidden_layers=2))
        assert f"no place in the model ({prefix}encoder.layer.2." in refuse(shorter)
        configure(folder, num_hidden_layers=4)


def test_a_pooler_of_another_shape_is_said_to_be_that(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "bert.pooler.dense.bias": torch.zeros(3)}, folder / "model.safetensors")
    message = refuse(open_checkpoint(str(folder)).trained)
    assert message.startswith(f"{folder} has a bert.pooler.dense.bias of shape [3], not [")


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 6}, {"hidden_size": 64}, {"vocab_size": 100}, {"intermediate_size": 8}]
)
def test_an_encoder_that_is_not_in_the_weights_is_never_made_up(folder: Path, change: dict[str, int]) -> None:
    checkpoint = configure(folder, **change)
    for work in (checkpoint.trained, lambda: checkpoint.fresh(MOODS, 1)):
        message = refuse(work)
        assert "has no weights, or none of the shape in its config.json, for bert." in message
        assert "theseus finetune" not in message


def test_an_encoder_of_another_family_is_never_made_up(folder: Path) -> None:
    checkpoint = configure(folder, model_type="roberta")
    assert "has no weights, or none of the shape" in refuse(lambda: checkpoint.fresh(MOODS, 1))


def test_a_fresh_head_is_drawn_from_the_seed_over_the_same_encoder(encoder_only: Path, tiny_bert: Path) -> None:
    one, same, other = (open_checkpoint(str(encoder_only)).fresh(MOODS, seed) for seed in (1, 1, 2))
    assert one.config.id2label == {0: "bad", 1: "fine", 2: "good"}
    assert one.config.problem_type == "single_label_classification"
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    encoder = make_bert().bert.state_dict()
    assert all(torch.equal(weight, encoder[name]) for name, weight in one.bert.state_dict().items())
    replaced = open_checkpoint(str(tiny_bert)).fresh(MOODS, 1)
    assert torch.equal(replaced.classifier.weight, one.classifier.weight)


def test_a_fresh_head_of_a_regression_has_one_output(encoder_only: Path) -> None:
    model = open_checkpoint(str(encoder_only)).fresh(Task("regression", (), ("text",), "score"), 1)
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
    assert model.classifier.weight.shape == (1, 32)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=29, n_positions=32, n_embd=8, n_layer=1, n_head=1,
                                            bos_token_id=2, eos_token_id=3)), "trained weights for score.weight"),
        (lambda: T5ForConditionalGeneration(T5Config(vocab_size=29, d_model=8, d_kv=8, d_ff=8, num_layers=1,
                                                     num_heads=1)), "trained weights for classification_head.dense"),
        (lambda: ViTForImageClassification(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                                                     intermediate_size=8, image_size=8, patch_size=8)),
         "is no text classifier that can be loaded (Unrecognized configuration class"),
    ],
)  # fmt: skip
def test_a_model_that_is_no_text_classifier_is_refused(save_model: Save, make: Callable[[], Any], reason: str) -> None:
    assert reason in refuse(open_checkpoint(str(save_model(make()))).trained)
