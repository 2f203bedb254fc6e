"""Columns are found or named, and cells are read to the letter or refused at their row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.rows import PAIR, WORDS, Write, jsonl, refuse, rows_in, tagged, task_of
from theseus_deploy.data import open_data
from theseus_deploy.errors import DataError
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("text,label", ("text",), "label"),
        ("label,text", ("text",), "label"),
        ("id,sentence1,sentence2,label", ("sentence1", "sentence2"), "label"),
        ("label,sentence2,text,sentence1", ("sentence1", "sentence2"), "label"),
        ("premise,hypothesis,label,text", ("premise", "hypothesis"), "label"),
        ("tweet,sentiment,id", ("tweet",), "sentiment"),
        ("sentence,score,label", ("sentence",), "label"),
        ("Text,Label", ("Text",), "Label"),
        ("TEXT,text,LABEL", ("text",), "LABEL"),
        (" text , label ", ("text",), "label"),
    ],
)
def test_columns_are_found_by_name(write: Write, header: str, text: tuple[str, ...], label: str) -> None:
    corpus = open_data(write(header, ",".join(["x"] * len(header.split(",")))))
    assert (corpus.text, corpus.label) == (text, label)


def test_columns_are_taken_as_named(write: Write) -> None:
    data = write("text,label,a,b,c", "1,2,3,4,5")
    corpus = open_data(data, ("b", "a"), "c")
    assert (corpus.text, corpus.label) == (("b", "a"), "c")
    assert corpus.splits["train"] == Split("train", [("4", "3")], ["5"])
    assert open_data(data, ("a",)).label == "label"
    assert open_data(data, None, "a").text == ("text",)


def test_the_columns_of_the_models_task_come_first(write: Write) -> None:
    data = write("text,label,sentence1,sentence2,answer,query", "1,2,3,4,5,6")
    corpus = open_data(data, task=PAIR.reading(("query", "text"), "answer"))
    assert (corpus.text, corpus.label) == (("query", "text"), "answer")
    assert open_data(data, ("text", "query"), "label", PAIR).splits["train"].labels == ["2"]
    for asked, other in ((("text",), "text"), (None, "text")):
        with pytest.raises(DataError, match=rf"{other} would be an input, .* trained on 2 texts each \(premise, "):
            open_data(data if asked else write("text,label", "a,b"), asked, "label", PAIR)


def test_a_task_without_columns_of_its_own_leaves_them_to_be_found(write: Write) -> None:
    corpus = open_data(write("text,label", "a,x"), task=Task("single-label", ("x", "y"), (), ""))
    assert (corpus.text, corpus.label) == (("text",), "label")


@pytest.mark.parametrize(
    ("header", "text", "label", "reason"),
    [
        ("a,b", None, None, "has no column known to hold text (columns: a, b); name it with --text"),
        ("text,b", None, None, "has no column known to hold labels (columns: text, b); name it with --label"),
        ("text", None, None, "has no column known to hold labels (columns: text); name it with --label"),
        ("text;label", None, None, "has no column known to hold text (columns: text;label); name it with --text"),
        ("text,label", ("body",), None, "(train) has no column 'body' (columns: text, label); correct --text"),
        ("text,label", None, "class", "(train) has no column 'class' (columns: text, label); correct --label"),
        ("text,label", ("text", "b"), None, "(train) has no column 'b' (columns: text, label); correct --text"),
        ("text,label", (), None, "--text names 0 columns; an input is one text or a pair: name 1 or 2"),
        ("a,b,c,label", ("a", "b", "c"), None, "--text names 3 columns"),
        ("text,label", ("text",), "text", "--label 'text' is a column of --text too"),
        ("text,label", ("label",), None, "has no column known to hold labels (columns: text, label)"),
    ],
)
def test_a_column_that_is_not_there_is_named(
    write: Write, header: str, text: tuple[str, ...] | None, label: str | None, reason: str
) -> None:
    assert reason in refuse(write(header, ",".join(["x"] * len(header.split(",")))), text, label)


def test_every_split_must_have_the_columns(write: Write, tmp_path: Path) -> None:
    write("text,label", "a,x", name="splits/train.csv")
    write("text,Label", "a,x", name="splits/test.csv")
    assert "(test) has no column 'label' (columns: text, Label); correct --label" in refuse(str(tmp_path / "splits"))
    write("text", "a", name="splits/test.csv")
    assert "or move the file out of the folder if its labels are nowhere" in refuse(str(tmp_path / "splits"))


def test_a_file_without_rows_is_refused(write: Write, tmp_path: Path) -> None:
    assert "(train) is empty; at least 1 row is needed" in refuse(write("text,label"))
    assert "(train) is empty; give a file with a header and rows" in refuse(write(""))
    write("text,label", "a,x", name="splits/train.csv")
    folder = str(tmp_path / "splits")
    write("text,label", name="splits/test.csv")
    assert "(test) is empty; at least 1 row is needed: add rows, or remove the file" in refuse(folder)
    write("", name="splits/test.csv")
    assert "(test) is empty; give a file with a header and rows" in refuse(folder)


@pytest.mark.parametrize("hole", ["", "  ", "NaN", "nan", "null"])
def test_a_label_that_is_missing_is_refused_at_its_row(write: Write, hole: str) -> None:
    message = refuse(write("text,label", "a,x", "b,y", f"c,{hole}"))
    assert "(train), row 3: the label 'label' is empty" in message
    assert message.endswith("fill it in, or remove the row")


@pytest.mark.parametrize("hole", ["null", "NaN", '""'])
def test_a_label_that_json_has_not_is_refused_at_its_row(tmp_path: Path, hole: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": ' + hole + "}\n")
    assert "row 2: the label 'label' is empty" in refuse(str(path))
    path.write_text('{"text": "a", "label": 1}\n{"text": "b"}\n')
    assert "row 2: the label 'label' is empty" in refuse(str(path))


@pytest.mark.parametrize("hole", ['"text": null', '"txt": "b"', '"text": NaN'])
def test_a_text_that_is_missing_is_refused_at_its_row_and_an_empty_one_is_not(tmp_path: Path, hole: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "", "label": 1}\n{' + hole + ', "label": 0}\n')
    assert "(train), row 2: the text 'text' is missing; fill it in, or remove the row" in refuse(str(path))


@pytest.mark.parametrize(
    ("rows", "row", "column"),
    [
        ([{"tokens": ["a", "b"], "tags": ["O", "O"]}, {"tokens": ["a", None], "tags": ["O", "O"]}], 2, "tokens"),
        ([{"tokens": ["a", "b"], "tags": ["O", None]}, {"tokens": ["b"], "tags": ["O"]}], 1, "tags"),
        ([{"text": "a", "label": ["x", None]}, {"text": "b", "label": ["y"]}], 1, "label"),
        ([{"text": "a", "label": [["x"]]}, {"text": "b", "label": ["y"]}], 1, "label"),
    ],
)
def test_a_hole_in_a_list_is_refused_at_its_row(tmp_path: Path, rows: list, row: int, column: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert f"row {row}: the list in '{column}' holds what is neither a word nor a number; correct it" in refuse(
        str(path)
    )


def test_a_line_of_brackets_without_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    assert "line 1 is no JSON" in refuse(str(path))


def test_text_is_kept_and_labels_lose_their_margins(write: Write) -> None:
    corpus = open_data(write("text,label", '" a ", x', ",y ", "NA,None"))
    assert corpus.splits["train"] == Split("train", [(" a ",), ("",), ("NA",)], ["x", "y", "None"])


def test_whole_numbers_and_truths_are_labels_as_json_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1, "class": true}\n{"text": "b", "label": 0, "class": false}\n')
    assert open_data(str(path)).splits["train"].labels == ["1", "0"]
    assert open_data(str(path), label="class").splits["train"].labels == ["true", "false"]


def test_a_sample_is_the_same_each_time_and_keeps_the_order() -> None:
    split = Split("test", [(str(row),) for row in range(100)], [str(row) for row in range(100)])
    sample = split.sample(10)
    assert sample == split.sample(10)
    rows = [int(label) for label in sample.labels]
    assert rows == sorted(rows)
    assert len(set(rows)) == 10
    assert [text for (text,) in sample.texts] == sample.labels
    assert split.sample(None) is split.sample(100) is split


def as_json(rows: list[list[Any]]) -> list[str]:
    return [json.dumps(row) for row in rows]


def as_python(rows: list[list[Any]]) -> list[str]:
    return [repr(row) for row in rows]


def as_numpy(rows: list[list[Any]]) -> list[str]:
    return [str(np.array(row)) for row in rows]


@pytest.mark.parametrize("spell", [as_json, as_python, as_numpy])
@pytest.mark.parametrize(
    "words",
    [["plain", "words"], ["it's", 'a "quote"', "both ' and \""], ["back\\slash", "a, b", "[c]", "🎉"], ["7", "x"]],
)
def test_a_list_in_a_csv_is_read_however_it_is_spelled(
    tmp_path: Path, spell: Callable[[list[list[Any]]], list[str]], words: list[str]
) -> None:
    tags = ["O", "B-x", "O", "O"][: len(words)]
    cells = [cell.replace('"', '""') for cell in spell([words, tags])]
    path = tmp_path / "a.csv"
    path.write_text('tokens,tags\n"' + '","'.join(cells) + '"\n')
    assert open_data(str(path)).splits["train"] == Split("train", [tuple(words)], [tuple(tags)], words=True)


def test_lists_of_parquet_and_of_numbers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"tokens": [["a", "b"], ["c"]], "ner_tags": [[0, 10], [9]]}), path)
    split = open_data(str(path)).splits["train"]
    assert (split.texts, split.labels) == ([("a", "b"), ("c",)], [("0", "10"), ("9",)])
    with pytest.raises(DataError, match=r"words are tagged by numbers \(0, 9, 10\)"):
        rows_in(str(path))


@pytest.mark.parametrize(
    "text", ["[deleted]", "[a, b", "[", "[1] see below", "[" * 100_000 + "]", "['a', ['b']]", "[...]"]
)
def test_text_in_brackets_is_no_list(tmp_path: Path, text: str) -> None:
    corpus = open_data(jsonl(tmp_path / "a.jsonl", {"text": text, "label": "x"}))
    assert corpus.splits["train"].texts == [(text,)]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (
            [*WORDS, (["a", "b"], ["O"])],
            "row 3: 2 words in 'tokens' and 1 tags in 'ner_tags'; give a list of one tag a",
        ),
        ([(["a"], []), *WORDS], "row 1: 1 words in 'tokens' and 0 tags"),
        ([([], []), ([], [])], "holds no words in 'tokens'; at least 1 is needed"),
    ],
)
def test_words_and_tags_that_do_not_fit_are_refused(
    tmp_path: Path, rows: list[tuple[list[Any], list[Any]]], reason: str
) -> None:
    assert reason in refuse(tagged(tmp_path / "a.jsonl", *rows))


def test_a_model_that_tags_words_wants_words(tmp_path: Path) -> None:
    task = Task("tokens", ("O", "B-x"), (), "")
    path = jsonl(tmp_path / "a.jsonl", {"text": "the film", "tags": ["O", "O"]})
    assert "(train): 'text' holds no lists of words, and the model tags words; name it with" in refuse(path, task=task)
    path = jsonl(tmp_path / "a.jsonl", {"tokens": ["the", "film"], "tags": "O"})
    assert "row 1: 2 words in 'tokens' and 1 tags in 'tags'" in refuse(path, task=task)


@pytest.mark.parametrize(("label", "kind"), [("x", "auto"), (["x", "y", "z"], "multi-label"), ("x", "single-label")])
def test_words_with_one_answer_for_all_are_joined(tmp_path: Path, label: Any, kind: str) -> None:
    corpus = open_data(jsonl(tmp_path / "a.jsonl", {"tokens": ["the", "film"], "label": label}), kind=kind)
    assert not corpus.words
    assert corpus.splits["train"].texts == [("the film",)]


def test_words_with_columns_of_yes_and_no_are_joined(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"tokens": ["the", "film"], "good": 1, "long": 0})
    assert open_data(path, label="good,long").splits["train"] == Split("train", [("the film",)], [("good",)])


def test_pairs_of_lists_of_words_are_joined(tmp_path: Path) -> None:
    rows = {"premise": ["the", "film"], "hypothesis": ["a", "film"], "label": "yes"}
    assert open_data(jsonl(tmp_path / "a.jsonl", rows)).splits["train"].texts == [("the film", "a film")]


@pytest.mark.parametrize("kind", ["auto", "multi-label"])
def test_lists_of_labels_are_many_labels(tmp_path: Path, kind: str) -> None:
    rows = ({"text": "a", "labels": ["law", "art"]}, {"text": "b", "labels": []}, {"text": "c", "labels": ["art"]})
    task, found = rows_in(jsonl(tmp_path / "a.jsonl", *rows), kind)
    assert (task.kind, task.labels) == ("multi-label", ("art", "law"))
    assert found["labels"] == found["reference"] == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"tokens": "the film", "ner_tags": ["O", "O"]}, "row 3: 'the film' in 'tokens' is no list, and row 1 has"),
        ({"tokens": ["the"], "ner_tags": "O"}, "row 3: 'O' in 'ner_tags' is no list, and row 1 has one"),
        ({"tokens": "[the", "ner_tags": ["O", "O"]}, "take every text as it stands with --task multi-label"),
    ],
)
def test_one_cell_that_is_no_list_does_not_change_what_the_others_are(
    tmp_path: Path, odd: dict[str, Any], reason: str
) -> None:
    rows = [{"tokens": words, "ner_tags": tags} for words, tags in WORDS]
    assert reason in refuse(jsonl(tmp_path / "a.jsonl", *rows, odd))


def test_one_name_among_lists_of_labels_is_refused_unless_cells_are_names(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", *({"text": "a", "labels": row} for row in ([], ["law", "art"], "law")))
    assert "row 3: 'law' in 'labels' is no list, and row 2 has one" in refuse(path)
    assert open_data(path, kind="single-label").splits["train"].labels == ["[]", '["law", "art"]', "law"]


@pytest.mark.parametrize("kind", ["multi-label", "tokens"])
def test_one_cell_that_is_no_list_is_named_to_who_says_the_task(tmp_path: Path, kind: str) -> None:
    rows = [{"tokens": ["a", "b"], "labels": ["law", "art"]}, {"tokens": ["c", "d"], "labels": "law"}]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    with pytest.raises(DataError, match=r"row 2: 'law' in 'labels' is no list, and row 1 has one; correct it$"):
        open_data(path, kind=kind)


@pytest.mark.parametrize("text", ["[...]", "[12]", "[None]"])
def test_a_text_in_brackets_beside_lists_of_labels_is_a_text(tmp_path: Path, text: str) -> None:
    rows = [{"text": "nice film", "labels": ["law", "art"]}, {"text": text, "labels": ["law"]}]
    assert open_data(jsonl(tmp_path / "a.jsonl", *rows)).splits["train"].texts == [("nice film",), (text,)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (([0.25, 0.75], [0.5, 0.5]), "a list of labels holds 0.25, and shares of labels are not learned; round them"),
        (([1, 0, 1], [0, 1, 0], [0, 0.5, 0]), "a list of labels holds 0.5"),
        (([1, 0, 2, 0],), "a list of labels is [1, 0, 2, 0]; give 0 or 1 for every label, or the numbers of those"),
    ],
)
def test_shares_of_labels_are_no_names(tmp_path: Path, rows: tuple[list[float], ...], said: str) -> None:
    assert said in refuse(jsonl(tmp_path / "a.jsonl", *({"text": "a", "labels": row} for row in rows)))


@pytest.mark.parametrize("hole", [None, "", "NaN"])
def test_a_label_missing_among_lists_is_none_of_them_only_where_that_was_said(tmp_path: Path, hole: str | None) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": hole})
    assert "row 2: the label 'labels' is empty" in refuse(path)
    assert open_data(path, kind="multi-label").splits["train"].labels == [("x", "y"), ()]


def test_cells_may_hold_many_labels(write: Write) -> None:
    data = write("text,label", "a,law|art", "b,", "c,NaN", "d,art| war")
    task, rows = rows_in(data, "multi-label")
    assert task.labels == ("art", "law", "war")
    assert rows["reference"] == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1]]


def test_columns_of_yes_and_no_are_many_labels_in_their_order(write: Write) -> None:
    data = write("text,toxic,obscene,insult", "a,1,0,0", "b,0,0,0", "c, True ,1.0,no")
    corpus = open_data(data, label=" toxic , obscene,insult,toxic")
    assert (corpus.label, corpus.names) == ("toxic,obscene,insult", ("toxic", "obscene", "insult"))
    assert corpus.splits["train"].labels == [("toxic",), (), ("toxic", "obscene")]
    task = task_of(corpus)
    assert (task.kind, task.labels) == ("multi-label", corpus.names)  # insult too, though no row has it
    assert open_data(data, task=task).splits["train"] == corpus.splits["train"]  # found again by their names


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("x,y", "row 2: '2' in 'y' is neither 1 nor 0"),
        ("x,z", "(train) has no column 'z' (columns: text, x, y); correct --label"),
        ("x,text", "--label 'text' is a column of --text too"),
        (" , ", "has no column known to hold labels"),
    ],
)
def test_columns_of_yes_and_no_that_hold_something_else_are_refused(write: Write, label: str, reason: str) -> None:
    assert reason in refuse(write("text,x,y", "a,1,0", "b,0,2"), label=label)
