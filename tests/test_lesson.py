"""A lesson is in the tokens of its own tokenizer, and is scored without a trace of training."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.conftest import BAD, GOOD, make_bert, make_tokenizer
from theseus_deploy.errors import DataError
from theseus_deploy.lesson import Lesson, predict
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task


def test_validation_is_scored_in_inference_mode_the_longest_first(lesson: Lesson) -> None:
    model, seen = make_bert(), []

    def watch(module: nn.Module, args: Any, kwargs: dict[str, torch.Tensor]) -> None:
        seen.append((torch.is_inference_mode_enabled(), module.training, kwargs["input_ids"].shape[1]))

    model.register_forward_pre_hook(watch, with_kwargs=True)
    logits = predict(model.train(), lesson.validation, lesson.tokenizer, torch.device("cpu"), batch_size=8)
    assert [flags for *flags, _ in seen] == [[True, False]] * 4
    lengths = [length for *_, length in seen]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > lengths[-1]  # noqa: PT018
    whole = predict(model, lesson.validation, lesson.tokenizer, torch.device("cpu"), batch_size=32)
    assert logits == pytest.approx(whole, abs=1e-5)


def test_rows_in_tokens_are_those_of_the_tokenizer_that_asks() -> None:
    rows = [(" ".join(GOOD), " ".join(BAD)), (GOOD[0], BAD[0])]
    split, task = Split("train", rows, ["a", "b"]), Task("single-label", ("a", "b"), ("one", "other"), "label", 8)
    rows[1] = (f"{GOOD[0]} [SEP]", BAD[0])
    first, second, third, fourth = (make_tokenizer() for _ in range(4))
    second.model_input_names = ["input_ids", "attention_mask"]
    third.truncation_side = "left"
    fourth.split_special_tokens = True
    found = [Lesson.prepare(split, split, task, one, "pairs").train for one in (first, second, third, first, fourth)]
    assert "token_type_ids" in found[0].column_names
    assert "token_type_ids" not in found[1].column_names
    assert found[2]["input_ids"] != found[0]["input_ids"]
    assert found[3][:] == found[0][:]
    assert found[4]["input_ids"][1] != found[0]["input_ids"][1]


def test_words_that_are_no_tokens_teach_nothing_and_are_refused() -> None:
    split = Split("train", [("\u200b",)] * 4, [("O",)] * 4, words=True)
    task = Task("tokens", ("O", "B-x"), ("tokens",), "tags", 16)
    with pytest.raises(DataError, match="made here has no word that the tokenizer knows in train"):
        Lesson.prepare(split, split, task, make_tokenizer(), "made here")
