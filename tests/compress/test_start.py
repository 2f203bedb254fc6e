"""Where successors start follows from what the predecessor's layers answer untrained."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from tests.conftest import make_bert, make_lesson
from theseus_deploy.compress.families import layers_of
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.compress.start import better_start, beyond_chance, choose_start
from theseus_deploy.lesson import Lesson, predict
from theseus_deploy.tasks import Task

CPU = torch.device("cpu")
MAP = ModuleMap.even(4, 2)  # bottom: layers 0 and 1, last: 1 and 3


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return make_lesson(96, 8)


def idle(model: PreTrainedModel, places: tuple[int, ...]) -> PreTrainedModel:
    """Make layers hand on what they get: nothing is added before either of their normalisations."""
    for place in places:
        for name, part in layers_of(model)[place].named_modules():
            if name.endswith("output.dense"):
                assert isinstance(part, nn.Linear)
                nn.init.zeros_(part.weight)
                nn.init.zeros_(part.bias)
    return model


def balance(model: PreTrainedModel, lesson: Lesson) -> PreTrainedModel:
    """Have a model say each of two labels half of the time."""
    logits = torch.tensor(predict(model, lesson.train, lesson.tokenizer, CPU))
    head = model.classifier
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.bias.sub_(logits.median(dim=0).values)
    return model


@pytest.mark.parametrize(("idling", "chosen"), [((0, 2), "last"), ((2, 3), "bottom")])
def test_successors_start_as_the_layers_that_answer(lesson: Lesson, idling: tuple[int, ...], chosen: str) -> None:
    model = balance(idle(make_bert(spread=1.0), idling), lesson)
    before = predict(model, lesson.train, lesson.tokenizer, CPU)
    start = choose_start(model, lesson, MAP, CPU)
    assert start.init == chosen
    assert start.agreement[chosen] > 0.95
    assert (predict(model, lesson.train, lesson.tokenizer, CPU) == before).all()
    assert model.config.num_hidden_layers == len(layers_of(model)) == 4
    assert choose_start(model, lesson, MAP, CPU) == start


@pytest.mark.parametrize(
    ("bottom", "last", "chosen"),
    [(0.0, 0.69, "bottom"), (0.0, 0.7, "last"), (0.69, 0.7, "last"), (0.9, 0.9, "last"), (0.91, 0.9, "bottom")],
)
def test_last_layers_must_agree_on_70_percent_and_no_less_than_the_bottom_ones(
    bottom: float, last: float, chosen: str
) -> None:
    assert better_start(bottom, last) == chosen


def test_agreement_is_beyond_chance() -> None:
    single = Task("single-label", ("no", "yes"), ("text",), "label")
    always, half = np.array([[1.0, 0.0]] * 8), np.array([[1.0, 0.0], [0.0, 1.0]] * 4)
    assert beyond_chance(single, half, half) == 1.0
    assert beyond_chance(single, always, half) == beyond_chance(single, always, always) == 0.0
    mostly = half.copy()
    mostly[0] = mostly[0][::-1]
    assert beyond_chance(single, mostly, half) == pytest.approx(0.75)
    regression = Task("regression", (), ("text",), "label")
    line = np.arange(8.0)[:, None]
    assert beyond_chance(regression, 3 * line + 1, line) == pytest.approx(1.0)
    assert beyond_chance(regression, -line, line) == pytest.approx(-1.0)
    many = Task("multi-label", ("a", "b"), ("text",), "label")
    assert beyond_chance(many, 2 * half - 1, 2 * half - 1) == 1.0


def test_words_that_were_cut_off_are_no_agreement() -> None:
    words = Task("tokens", ("O", "B-a"), ("tokens",), "ner_tags")
    draw = np.random.default_rng(1)
    one, other = draw.standard_normal((2, 200, 2))
    cut = np.zeros((800, 2))
    seen = beyond_chance(words, one, other)
    assert beyond_chance(words, np.concatenate([one, cut]), np.concatenate([other, cut])) == pytest.approx(seen)
    assert beyond_chance(words, cut, cut) == 0.0
