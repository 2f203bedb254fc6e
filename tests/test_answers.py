import random

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import get_entities

from theseus_deploy.answers import ANSWERS, read_entities
from theseus_deploy.labels import as_seqeval
from theseus_deploy.tasks import KINDS, Task
from theseus_deploy.words import Words


def test_every_kind_of_task_has_an_answer() -> None:
    assert ANSWERS.keys() == KINDS.keys()


@pytest.mark.parametrize("prefixes", ["BI", "BIES", "BILU"])
def test_entities_are_those_that_seqeval_scores(prefixes: str) -> None:
    tags = ["O", *(f"{prefix}-{label}" for prefix in prefixes for label in ("person", "place"))]
    draw = random.Random(1)
    for _ in range(500):
        sentence = draw.choices(tags, k=draw.randint(0, 8))
        expected = [
            (label, first, last + 1) for label, first, last in get_entities([as_seqeval(tag) for tag in sentence])
        ]
        assert read_entities(sentence) == expected, sentence


def test_tags_without_a_prefix_are_entities_of_one_word() -> None:
    assert read_entities(["NOUN", "NOUN", "O", "x-y"]) == [("NOUN", 0, 1), ("NOUN", 1, 2), ("x-y", 3, 4)]


def test_an_entity_has_the_mean_probability_of_its_words() -> None:
    task = Task("tokens", ("O", "B-place", "I-place"), (), "")
    probabilities = np.array([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05], [0.25, 0.25, 0.5]])
    words = Words.listed(["New", "York", "or", "Rome"])
    assert ANSWERS["tokens"](task, np.log(probabilities), words) == {
        "entities": [
            {"label": "place", "text": "New York", "start": 0, "end": 8, "score": pytest.approx(0.7), "words": [0, 2]},
            {"label": "place", "text": "Rome", "start": 12, "end": 16, "score": pytest.approx(0.5), "words": [3, 4]},
        ]
    }


def test_many_labels_are_scored_each_on_its_own_and_named_above_a_half() -> None:
    task = Task("multi-label", ("toxic", "obscene", "threat"), ("text",), "labels")
    answer = ANSWERS["multi-label"](task, np.array([[np.log(4), -0.1, np.log(3)]]), None)
    assert answer["labels"] == ["toxic", "threat"]
    assert answer["scores"] == {
        "toxic": pytest.approx(0.8), "obscene": pytest.approx(1 / (1 + np.exp(0.1))), "threat": pytest.approx(0.75),
    }  # fmt: skip
    assert ANSWERS["multi-label"](task, np.full((1, 3), -9.0), None)["labels"] == []
