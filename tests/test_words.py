"""From words to their logits and back to their place in the text, with every family's own kind of tokenizer.

The graph is a stand-in whose answer to a token follows from the token alone, so that what a word is answered with
tells which token it was read from.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.families import FAMILIES, LABELS, SENTENCES, save_tokenizer_of
from theseus_deploy.errors import DataError
from theseus_deploy.export.stage import save_tokenizer
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.predictor import Predictor
from theseus_deploy.tasks import Task
from theseus_deploy.words import at_words

TASK = Task("tokens", LABELS["tokens"], ("tokens",), "ner_tags", max_length=24)
PLAIN = "the Empire State Building was very long and dreadful"


def of_token(ids: np.ndarray) -> np.ndarray:
    """Logits of shape (..., labels) that no two tokens share, and none of them 0."""
    return np.stack([np.sin(ids * 1.7 + label) + 2 for label in range(len(TASK.labels))], axis=-1).astype(np.float32)


class Graph:
    """What looks like onnxruntime's session."""

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in ("input_ids", "attention_mask")]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="logits", shape=["batch", "sequence", len(TASK.labels)])]

    def run(self, outputs: list[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [of_token(inputs["input_ids"])]


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save_tokenizer_of(request.param, tmp_path)


@pytest.fixture
def tokenizer(folder: Path):
    return open_checkpoint(str(folder)).tokenizer(TASK)


@pytest.fixture(params=["right", "left"])
def predictor(request: pytest.FixtureRequest, tokenizer, folder: Path) -> Predictor:
    save_tokenizer(tokenizer, TASK, folder)
    predictor = Predictor(folder, threads=1, task=TASK, load=lambda path, threads: Graph())
    return predictor.padding_on(request.param)


def test_a_word_is_answered_by_its_first_token_and_with_zeros_where_it_has_none(
    predictor: Predictor, tokenizer
) -> None:
    texts = [("Karenina", "lives", "near", "it"), ("good",), ("film",) * 40, ()]
    answers = predictor.answer(texts)
    for words, answered in zip(texts, answers, strict=True):
        encoded = tokenizer(list(words), is_split_into_words=True, truncation=True, max_length=24)
        word_of, ids = encoded.word_ids(), np.array(encoded["input_ids"])
        expected = [of_token(ids[word_of.index(w)]) if w in word_of else np.zeros(5) for w in range(len(words))]
        np.testing.assert_array_equal(answered, np.array(expected).reshape(-1, 5))
    assert not answers[2][30:].any()
    np.testing.assert_array_equal(predictor.logits(texts, batch_size=2), np.concatenate(answers))


def test_an_empty_word_gets_zeros_and_moves_no_other(predictor: Predictor) -> None:
    without, having = predictor.answer([("Anna", "lives"), ("Anna", "", "lives")])
    assert not having[1].any()
    np.testing.assert_array_equal(having[[0, 2]], without)


def test_a_string_is_answered_as_its_words_are(predictor: Predictor) -> None:
    string, words = predictor.answer([PLAIN, tuple(PLAIN.split())])
    assert len(words) == 9
    np.testing.assert_array_equal(string, words)
    one, two = (predictor.predict([text])[0]["entities"] for text in (PLAIN, PLAIN.split()))
    assert one == [{name: value for name, value in entity.items() if name != "words"} for entity in two]


def test_punctuation_is_no_part_of_a_word(predictor: Predictor) -> None:
    text = "it (film), a/b."
    (question,) = predictor._read([text])
    assert question.words is not None
    found = [text[start:stop] for start, stop in question.words.spans]
    assert [piece for piece in found if piece.isalnum()] == ["it", "film", "a", "b"]
    assert "".join(found) == text.replace(" ", "")
    assert len(predictor.answer([text])[0]) == len(found)


@pytest.mark.parametrize("folder", ["xlm-roberta", "camembert", "deberta-v2"], indirect=True)
def test_a_tokenizer_that_divides_at_white_space_alone_is_asked_as_it_was_trained(predictor: Predictor) -> None:
    string, words = predictor.answer(["(Anna) lives, it.", ("(", "Anna", ")", "lives", ",", "it", ".")])
    np.testing.assert_array_equal(string, words)
    (question,) = predictor._read([", ".join(["film"] * 40)])
    assert question.words is not None
    assert len(question.words.spans) < 30  # what was cut off is told of nowhere
    with pytest.raises(DataError, match="input 2 is no text of whole Unicode characters"):
        predictor.answer(["film", "a \ud800 b"])


def test_how_a_tokenizer_divides_follows_from_it_and_not_from_where_inputs_are_cut(tokenizer, folder: Path) -> None:
    save_tokenizer(tokenizer, TASK, folder)
    long, short = (
        Predictor(folder, threads=1, task=replace(TASK, max_length=length), load=lambda path, threads: Graph())
        for length in (24, 4)
    )
    assert long._joins_punctuation == short._joins_punctuation


@pytest.mark.parametrize("text", [*SENTENCES, "  Anna\tlives \n near 😂 it.  ", "😂😂😂 Zürich", "", "   "])
def test_entities_are_told_by_their_place_in_the_callers_text(predictor: Predictor, text: str) -> None:
    entities = predictor.predict([text])[0]["entities"]
    assert bool(entities) == bool(text.strip())
    for entity in entities:
        assert list(entity) == ["label", "text", "start", "end", "score"]
        assert entity["text"] == text[entity["start"] : entity["end"]] == entity["text"].strip() != ""
        assert entity["label"] in ("location", "person")
        assert 0 < entity["score"] <= 1
    assert [entity["start"] for entity in entities] == sorted({entity["start"] for entity in entities})


def test_the_words_of_a_list_are_told_by_number_and_by_their_place_between_single_spaces(predictor: Predictor) -> None:
    words = ["Anna", "", "Karenina", "lives", "near", "it"] * 12
    entities = predictor.predict([tuple(words)])[0]["entities"]
    assert entities
    for entity in entities:
        first, behind = entity["words"]
        assert entity["text"] == " ".join(words)[entity["start"] : entity["end"]] == " ".join(words[first:behind])


def test_what_was_cut_off_has_no_entities_even_if_the_first_label_is_one(tokenizer, folder: Path) -> None:
    save_tokenizer(tokenizer, TASK, folder)
    task = Task("tokens", ("B-a", "B-b", "O", "B-c", "B-d"), (), "", max_length=8)
    predictor = Predictor(folder, threads=1, task=task, load=lambda path, threads: Graph())
    assert not predictor.answer([["film"] * 40])[0][6:].any()
    assert all(entity["words"][0] < 6 for entity in predictor.predict([["film"] * 40])[0]["entities"])


def test_a_word_at_the_cut_is_told_whole(tokenizer, folder: Path) -> None:
    save_tokenizer(tokenizer, TASK, folder)
    text = "tiniestanderst film"
    task = Task("tokens", ("a", "b", "c", "d", "e"), (), "", max_length=5)
    predictor = Predictor(folder, threads=1, task=task, load=lambda path, threads: Graph())
    found = [(entity["text"], entity["start"], entity["end"]) for entity in predictor.predict([text])[0]["entities"]]
    assert found == [("tiniestanderst", 0, 14)]


def test_truncation_is_on_the_tokenizers_side(tokenizer, folder: Path) -> None:
    tokenizer.truncation_side = "left"
    save_tokenizer(tokenizer, TASK, folder)
    predictor = Predictor(folder, threads=1, task=TASK, load=lambda path, threads: Graph())
    (answered,) = predictor.answer([["film"] * 40])
    assert not answered[:15].any()
    assert answered[-5:].all()


def test_at_words() -> None:
    tokens = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert at_words(tokens, [2, -1, 0]).tolist() == [[4, 5], [0, 0], [0, 1]]
    assert at_words(tokens, []).shape == (0, 2)
