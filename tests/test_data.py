"""Columns are found or named, what is held out never changes, and a hash tells when the content does."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.conftest import make_tokenizer
from theseus_deploy import data, tokens
from theseus_deploy.data import Corpus, open_data
from theseus_deploy.errors import DataError
from theseus_deploy.splits import Split
from theseus_deploy.tables import Tables
from theseus_deploy.tasks import Label, Task
from theseus_deploy.tokens import IGNORED, tokenise

Write = Callable[..., str]
PAIR = Task("single-label", ("no", "yes"), ("premise", "hypothesis"), "answer")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a csv of a given header and rows and return its name."""

    def write(header: str, *rows: str, name: str = "data.csv") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows, ""]), "utf-8")
        return str(path)

    return write


def refuse(ref: str, *arguments: object, **named: object) -> str:
    with pytest.raises(DataError) as caught:
        open_data(ref, *arguments, **named)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def labelled(*labels: str, one_file: bool = False, **splits: Split) -> Corpus:
    """A corpus whose training rows are numbered."""
    train = Split("train", [(str(row),) for row in range(len(labels))], list(labels))
    return Corpus("ref", ("text",), "label", {"train": train, **splits}, one_file)


def rows_of(split: Split) -> list[int]:
    return [int(text) for (text,) in split.texts]


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


@pytest.mark.parametrize("labels", [("1.0", "2.0", "3.0"), ("1", "2", "3")])
def test_a_whole_number_is_one_label_however_a_file_spells_it(write: Write, labels: tuple[str, ...]) -> None:
    write("text,label", *(f"a,{label}" for label in labels), name="both/train.csv")
    write("text,label", "a,2", "b,1.0", name="both/validation.csv")
    folder = write("text,label", "a,3.0", "b,1", name="both/test.csv").rpartition("/")[0]
    for task in (None, Task("single-label", labels, ("text",), "label")):
        splits = open_data(folder, task=task).splits
        assert splits["train"].labels == list(labels)
        assert splits["validation"].labels == [labels[1], labels[0]]
        assert splits["test"].labels == [labels[2], labels[0]]
    places = open_data(write("text,label", "a,0", "b,2"), task=Task("single-label", labels, ("text",), "label"))
    assert places.splits["train"].labels == (["0", "2"] if "." in labels[0] else ["1", "3"])


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


def test_a_corpus_knows_whether_it_was_one_file(write: Write, corpus: Path) -> None:
    assert open_data(write("text,label", "a,x")).one_file
    opened = open_data(str(corpus))
    assert not opened.one_file
    assert {name: len(split) for name, split in opened.splits.items()} == {"train": 256, "validation": 64, "test": 96}


def test_the_hash_is_of_the_content_and_of_nothing_else(write: Write, tmp_path: Path) -> None:
    def fresh(text: str = "b", label: str = "y", column: str = "label") -> str:
        shutil.rmtree(tmp_path / "splits", ignore_errors=True)
        write(f"text,{column}", "a,x", f"{text},{label}", name="splits/train.csv")
        return open_data(str(Path(write(f"text,{column}", "c,x", name="splits/test.csv")).parent)).sha256

    before = fresh()
    assert fresh() == before
    assert len({before, fresh(text="b "), fresh(text="B"), fresh(label="x"), fresh(column="class")}) == 5
    fresh()
    shutil.move(tmp_path / "splits", tmp_path / "elsewhere")
    assert open_data(str(tmp_path / "elsewhere")).sha256 == before
    (tmp_path / "elsewhere" / "test.csv").rename(tmp_path / "elsewhere" / "validation.csv")
    assert open_data(str(tmp_path / "elsewhere")).sha256 != before


def test_the_hash_tells_a_pair_from_its_words_put_together(write: Write) -> None:
    one = open_data(write("a,b,label", "x,yz,1"), ("a", "b")).sha256
    assert open_data(write("a,b,label", "xy,z,1"), ("a", "b")).sha256 != one


def test_a_validation_split_is_used_as_it_is(corpus: Path) -> None:
    opened = open_data(str(corpus))
    assert opened.for_training() == (opened.splits["train"], opened.splits["validation"])


def test_without_a_validation_split_a_tenth_is_held_out_by_class() -> None:
    corpus = labelled(*["a"] * 600, *["b"] * 300, *["c"] * 100)
    train, validation = corpus.for_training()
    assert (train.name, validation.name) == ("train", "validation")
    assert sorted(rows_of(train) + rows_of(validation)) == list(range(1000))
    assert Counter(validation.labels) == {"a": 60, "b": 30, "c": 10}
    assert [corpus.splits["train"].labels[row] for row in rows_of(validation)] == validation.labels
    assert rows_of(validation) != list(range(min(rows_of(validation)), min(rows_of(validation)) + 100))


def test_an_input_without_any_label_may_be_held_out() -> None:
    train = Split("train", [(str(row),) for row in range(40)], ["a", "a|b", (), "b"] * 10)
    kept, validation = Corpus("ref", ("text",), "label", {"train": train}).for_training()
    assert sorted(rows_of(kept) + rows_of(validation)) == list(range(40))


def test_what_is_held_out_never_changes() -> None:
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        assert rows_of(labelled(*"ab" * 20).for_training()[1]) == [11, 28, 30, 39]


@pytest.mark.parametrize(
    "labels", ["a" * 50 + "b", "aab" * 10 + "c" + "d" * 2, "aaaaabbbbc", "".join(map(chr, range(65, 91))) * 2]
)
def test_a_rare_class_is_learned_rather_than_held_out(labels: str) -> None:
    train, validation = labelled(*labels).for_training()
    assert set(train.labels) == set(labels)
    assert len(validation) == max(2, round(len(labels) / 10))


def test_numbers_are_held_out_at_random() -> None:
    labels = ["0.0"] * 300 + [f"0.{row:03}1" for row in range(700)]
    _, validation = labelled(*labels).for_training()
    assert 10 <= Counter(validation.labels)["0.0"] <= 50


def test_too_few_rows_to_hold_any_out_are_refused() -> None:
    with pytest.raises(DataError, match=r"ref has no validation split and 9 training rows; at least 10 are needed"):
        labelled(*"ab" * 4, "a").for_training()
    assert len(labelled(*"ab" * 5).for_training()[1]) == 2


def test_training_needs_a_train_split() -> None:
    only = Corpus("ref", ("text",), "label", {"test": Split("test", [("a",)], ["x"])})
    with pytest.raises(DataError, match=r"ref has no train split \(it has test\); add a train file"):
        only.for_training()
    assert only.for_scoring().name == "test"


def test_scoring_prefers_test_then_validation_then_the_file_then_what_was_held_out() -> None:
    test, validation = (Split(name, [("x",)], ["a"]) for name in ("test", "validation"))
    both = labelled(*"ab" * 10, test=test, validation=validation)
    assert both.for_scoring() is test
    assert labelled(*"ab" * 10, validation=validation).for_scoring() is validation
    whole = labelled(*"ab" * 10, one_file=True)
    assert whole.for_scoring() is whole.splits["train"]
    folder = labelled(*"ab" * 10)
    assert folder.for_scoring() == folder.for_training()[1]


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


def test_numbers_stand_for_labels_or_are_labels_in_all_splits_alike(write: Write, tmp_path: Path) -> None:
    """A model of the labels 1, 2, 3, and data that counts them from 0, whose validation has no 0."""
    task = Task("single-label", ("1", "2", "3"), ("text",), "label", 32)
    write("text,label", "a,0", "b,1", "c,2", name="d/train.csv")
    write("text,label", "d,1", "e,2", name="d/validation.csv")
    splits = open_data(str(tmp_path / "d"), task=task).splits
    assert task.encode(splits["train"].labels, "d") == [0, 1, 2]
    assert task.encode(splits["validation"].labels, "d") == [1, 2]
    write("text,label", "a,3", "b,1", "c,2", name="d/train.csv")
    splits = open_data(str(tmp_path / "d"), task=task).splits
    assert task.encode(splits["validation"].labels, "d") == [0, 1]


@pytest.mark.parametrize(("label", "count"), [("a", 1), ("c,a", 2)])
def test_columns_of_some_labels_are_not_all_labels(write: Write, label: str, count: int) -> None:
    task = Task("multi-label", ("a", "b", "c"), ("text",), "a,b,c", 32)
    file = write("text,a,b,c", "x,0,1,1", "y,1,0,1")
    assert refuse(file, label=label, task=task) == (
        f"{file}: --label {label} is {count} of the model's 3 labels; name the columns of all of them, "
        "in one --label with commas"
    )


def test_a_sample_is_the_same_each_time_and_keeps_the_order() -> None:
    split = Split("test", [(str(row),) for row in range(100)], [str(row) for row in range(100)])
    sample = split.sample(10)
    assert sample == split.sample(10)
    rows = [int(label) for label in sample.labels]
    assert rows == sorted(rows)
    assert len(set(rows)) == 10
    assert [text for (text,) in sample.texts] == sample.labels
    assert split.sample(None) is split.sample(100) is split


def jsonl(path: Path, *rows: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def tagged(path: Path, *rows: tuple[list[Any], list[Any]]) -> str:
    return jsonl(path, *({"tokens": words, "ner_tags": tags} for words, tags in rows))


def task_of(corpus: Corpus, kind: str = "auto", max_length: int = 16) -> Task:
    """The task as finetune reads it."""
    train, _ = corpus.for_training() if len(corpus.splits["train"]) >= 10 else (corpus.splits["train"], None)
    kind = "tokens" if corpus.words else kind
    return Task.infer(train.labels, corpus.text, corpus.label, max_length, kind, corpus.names, corpus.metric)


def rows_in(ref: str, kind: str = "auto", **named: Any) -> tuple[Task, dict[str, list[Any]]]:
    """All the way: a file to what a model takes."""
    corpus = open_data(ref, kind=kind, **named)
    task = task_of(corpus, kind)
    return task, tokenise(corpus.splits["train"], task, make_tokenizer(), ref).to_dict()


WORDS: list[tuple[list[Any], list[Any]]] = [
    (["the", "actor", "was", "good"], ["O", "B-who", "O", "O"]),
    (["a", "very", "long", "story"], ["O", "O", "B-what", "I-what"]),
]


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
    task, rows = rows_in(str(path))
    assert task.labels == ("0", "9", "10")
    assert rows["reference"] == [[0, 2], [1]]


@pytest.mark.parametrize(
    "text", ["[deleted]", "[a, b", "[", "[1] see below", "[" * 100_000 + "]", "['a', ['b']]", "[...]"]
)
def test_text_in_brackets_is_no_list(tmp_path: Path, text: str) -> None:
    corpus = open_data(jsonl(tmp_path / "a.jsonl", {"text": text, "label": "x"}))
    assert corpus.splits["train"].texts == [(text,)]


def test_tags_that_only_validation_has_are_known_if_the_entity_is(tmp_path: Path) -> None:
    tagged(tmp_path / "d" / "train.jsonl", (["a", "b"], ["B-x", "O"]))
    tagged(tmp_path / "d" / "validation.jsonl", (["a", "b"], ["B-x", "I-x"]))
    corpus = open_data(str(tmp_path / "d"))
    task = task_of(corpus)
    assert tokenise(corpus.splits["validation"], task, make_tokenizer(), "d")["reference"][0] == [1, 2]
    tagged(tmp_path / "d" / "validation.jsonl", (["a", "b"], ["O", "O"]), (["a"], ["B-new"]))
    with pytest.raises(DataError, match=r"d \(validation\), row 2: label 'B-new' is not one the model knows \(O, B-x,"):
        tokenise(open_data(str(tmp_path / "d")).splits["validation"], task, make_tokenizer(), "d")


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


def test_a_row_without_words_is_scored_and_not_learned(tmp_path: Path) -> None:
    tagged(tmp_path / "d" / "train.jsonl", *WORDS, ([], []))
    tagged(tmp_path / "d" / "validation.jsonl", ([], []), *WORDS)
    train, validation = open_data(str(tmp_path / "d")).for_training()
    assert (len(train), len(validation)) == (2, 3)
    task = Task("tokens", ("O", "B-what", "I-what", "B-who"), ("tokens",), "ner_tags")
    rows = tokenise(validation, task, make_tokenizer(), "d")
    assert rows["starts"][0] == rows["reference"][0] == []
    assert task.score(np.eye(4)[np.concatenate(rows["reference"][1:])], list(rows["reference"]))["f1"] == 1.0


def test_splits_of_different_forms_are_refused(tmp_path: Path) -> None:
    tagged(tmp_path / "d" / "train.jsonl", *WORDS)
    jsonl(tmp_path / "d" / "test.jsonl", {"tokens": "the film", "ner_tags": "O"})
    assert "has a tag for every word in train only; give all splits the same form" in refuse(str(tmp_path / "d"))


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


@pytest.mark.parametrize("hole", [None, "", "NaN"])
def test_a_label_missing_among_lists_is_none_of_them_only_where_that_was_said(tmp_path: Path, hole: str | None) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": hole})
    assert "row 2: the label 'labels' is empty" in refuse(path)
    assert open_data(path, kind="multi-label").splits["train"].labels == [("x", "y"), ()]


def test_cells_may_hold_many_labels(write: Write) -> None:
    data = write("text,label", "a,law|art", "b,", "c,NaN", "d,art; war")
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


def test_lists_of_nought_and_one_say_which_labels_apply(tmp_path: Path) -> None:
    rows = (
        {"text": "a", "labels": [0, 1, 0]},
        {"text": "b", "labels": [1.0, 1.0, 0.0]},
        {"text": "c", "labels": [0] * 3},
    )
    task, found = rows_in(jsonl(tmp_path / "a.jsonl", *rows))
    assert (task.kind, task.labels) == ("multi-label", ("0", "1", "2"))  # 2 too, though no row has it
    assert found["reference"] == [[0, 1, 0], [1, 1, 0], [0, 0, 0]]
    named = Task("multi-label", ("art", "law", "war"), ("text",), "labels")
    assert (
        named.encode(open_data(str(tmp_path / "a.jsonl"), task=named).splits["train"].labels, "a") == found["reference"]
    )
    flags = jsonl(tmp_path / "b.jsonl", {"text": "a", "labels": [True, False]})
    assert open_data(flags).splits["train"].labels == [("0",)]


def test_lists_of_nought_and_one_beside_words_are_tags(tmp_path: Path) -> None:
    corpus = open_data(tagged(tmp_path / "a.jsonl", (["a", "b"], [0, 1]), (["c", "d"], [1, 1])))
    assert corpus.words
    assert corpus.splits["train"].labels == [("0", "1"), ("1", "1")]


def test_stars_are_a_regression_where_that_is_asked(write: Write) -> None:
    data = write("text,label", *(f"film,{star}" for star in "12345"))
    assert rows_in(data, "regression")[1]["labels"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert rows_in(data)[0].labels == ("1", "2", "3", "4", "5")
    with pytest.raises(DataError, match=r"row 2: 'five stars' is not a number, and the model is a regression"):
        rows_in(write("text,label", "a,1", "b,five stars"), "regression")


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


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set that says of itself what GLUE does."""
    table = {"a": ["x", "y"], "text": ["?", "?"], "label": ["yes", "no"], "other": ["1", "2"]}
    tables = Tables({"train": table}, text=("a",), names={"label": ("no", "yes")}, metrics={"label": "f1"})
    monkeypatch.setattr(data, "read_tables", lambda ref: tables)


@pytest.mark.usefixtures("known")
def test_what_a_data_set_says_of_itself_is_taken_over() -> None:
    corpus = open_data("known")
    assert (corpus.text, corpus.label, corpus.names, corpus.metric) == (("a",), "label", ("no", "yes"), "f1")
    task = task_of(corpus)
    assert (task.labels, task.primary) == (("no", "yes"), "f1")
    other = open_data("known", label="other")
    assert (other.names, other.metric) == ((), "")
    assert len({corpus.sha256, other.sha256}) == 2


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("labels", "found", "names"),
    [
        (("LABEL_0", "LABEL_1"), ["1", "0"], ()),
        (("0", "1"), ["1", "0"], ()),
        (("yes", "no"), ["yes", "no"], ("no", "yes")),
        (("LABEL_0", "LABEL_1", "LABEL_2"), ["yes", "no"], ("no", "yes")),
        (("1", "2"), ["yes", "no"], ("no", "yes")),
    ],
)
def test_labels_that_nobody_named_are_places_in_the_data_sets_order(
    labels: tuple[str, ...], found: list[Label], names: tuple[str, ...]
) -> None:
    corpus = open_data("known", task=Task("single-label", labels, (), ""))
    assert corpus.splits["train"].labels == found
    assert corpus.names == names
