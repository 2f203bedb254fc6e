"""Rows become tokens, with a label for each row or for the first token of each word."""

from pathlib import Path

import pytest

from tests.conftest import make_tokenizer
from tests.rows import PAIR, WORDS, rows_in, tagged, task_of
from theseus_deploy import tokens
from theseus_deploy.data import open_data
from theseus_deploy.errors import DataError
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task
from theseus_deploy.tokens import IGNORED, tokenise


def test_rows_become_what_a_model_takes() -> None:
    split = Split("train", [("good film", "the plot was sad"), ("", "🎉")], ["yes", "no"])
    rows = tokenise(split, PAIR, make_tokenizer(), "ref")
    assert rows["labels"] == [1, 0]
    assert rows["length"] == [len(ids) for ids in rows["input_ids"]] == [9, 4]
    assert rows["token_type_ids"][0] == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_rows_are_cut_at_the_longest_input() -> None:
    task = Task("regression", (), ("text",), "score", max_length=6)
    rows = tokenise(Split("test", [("good " * 50,), ("bad",)], ["0.5", "-1"]), task, make_tokenizer(), "ref")
    assert rows["length"] == [6, 3]
    assert rows["labels"] == [0.5, -1.0]


def test_an_unknown_label_is_refused_where_it_stands() -> None:
    split = Split("test", [("a", "b"), ("c", "d")], ["yes", "maybe"])
    with pytest.raises(DataError, match=r"ref \(test\), row 2: label 'maybe' is not one the model knows \(no, yes\)"):
        tokenise(split, PAIR, make_tokenizer(), "ref")


def test_a_name_is_unknown_to_a_model_whose_labels_have_none() -> None:
    unnamed = Task("single-label", ("LABEL_0", "LABEL_1"), ("a", "b"), "answer")
    assert tokenise(Split("test", [("a", "b")], ["1"]), unnamed, make_tokenizer(), "ref")["labels"] == [1]
    with pytest.raises(
        DataError, match=r"write the labels' names into id2label of its config\.json, or numbers below 2"
    ):
        tokenise(Split("test", [("a", "b")], ["yes"]), unnamed, make_tokenizer(), "ref")


def test_words_and_tags_become_what_a_model_takes(tmp_path: Path) -> None:
    task, rows = rows_in(tagged(tmp_path / "a.jsonl", *WORDS))
    assert task == Task("tokens", ("O", "B-what", "I-what", "B-who", "I-who"), ("tokens",), "ner_tags", 16)
    assert rows["reference"] == [[0, 3, 0, 0], [0, 0, 1, 2]]
    assert rows["starts"] == [[1, 2, 3, 4]] * 2
    assert rows["labels"] == [[IGNORED, 0, 3, 0, 0, IGNORED], [IGNORED, 0, 0, 1, 2, IGNORED]]
    assert rows["length"] == [6, 6]


def test_only_the_first_token_of_a_word_has_its_tag() -> None:
    split = Split("train", [("good-film", "bad")], [("B-x", "O")], words=True)
    rows = tokenise(split, Task("tokens", ("O", "B-x"), ("w",), "t"), make_tokenizer(), "ref")
    assert rows["labels"][0] == [IGNORED, 1, IGNORED, IGNORED, 0, IGNORED]
    assert rows["starts"][0] == [1, 4]


def test_words_without_a_token_and_words_cut_off_have_no_place() -> None:
    split = Split("train", [("good", "", "\u200b", "film"), ("good",) * 9], [("O", "B-x") * 2, ("O",) * 9], words=True)
    task = Task("tokens", ("O", "B-x"), ("words",), "tags", max_length=6)
    rows = tokenise(split, task, make_tokenizer(), "ref")
    assert rows["starts"][:] == [[1, -1, -1, 2], [1, 2, 3, 4, -1, -1, -1, -1, -1]]
    assert rows["labels"][0] == [IGNORED, 0, 1, IGNORED]
    assert rows["reference"][:] == [[0, 1, 0, 1], [0] * 9]  # what scores compare with misses no word
    assert rows["length"][:] == [4, 6]


def test_tags_that_only_validation_has_are_known_if_the_entity_is(tmp_path: Path) -> None:
    tagged(tmp_path / "d" / "train.jsonl", (["a", "b"], ["B-x", "O"]))
    tagged(tmp_path / "d" / "validation.jsonl", (["a", "b"], ["B-x", "I-x"]))
    corpus = open_data(str(tmp_path / "d"))
    task = task_of(corpus)
    assert tokenise(corpus.splits["validation"], task, make_tokenizer(), "d")["reference"][0] == [1, 2]
    tagged(tmp_path / "d" / "validation.jsonl", (["a", "b"], ["O", "O"]), (["a"], ["B-new"]))
    with pytest.raises(DataError, match=r"d \(validation\), row 2: label 'B-new' is not one the model knows \(O, B-x,"):
        tokenise(open_data(str(tmp_path / "d")).splits["validation"], task, make_tokenizer(), "d")


def test_weird_text_walks_all_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    texts = ["", " ", "x" * 100_000, "good " * 20_000, "🎉👩‍👩‍👧", 'say ""hi""', "a\nb", "\u0000\u200b", "ﬁlm, \ufeff"]
    path.write_bytes(
        b"\xef\xbb\xbf" + "".join(f'"{text}",{row % 2}\r\n' for row, text in enumerate(["text", *texts])).encode()
    )
    path.write_bytes(path.read_bytes().replace(b'"text",0', b"text,label"))
    task, rows = rows_in(str(path))
    assert task.labels == ("0", "1")
    assert rows["reference"] == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert rows["length"][:4] == [2, 2, 3, 16]
    assert open_data(str(path)).splits["train"].texts == [(text.replace('""', '"'),) for text in texts]


def test_rows_are_tokenised_in_parts_that_join(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split("train", [("good " * row,) for row in range(7)], ["0.5"] * 7)
    task = Task("regression", (), ("text",), "score")
    whole = tokenise(split, task, make_tokenizer(), "ref").to_dict()
    monkeypatch.setattr(tokens, "AT_ONCE", 3)
    assert tokenise(split, task, make_tokenizer(), "ref").to_dict() == whole
    assert whole["length"] == [2, 3, 4, 5, 6, 7, 8]
