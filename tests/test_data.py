"""Columns are found or named, what is held out never changes, and a hash tells when the content does."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_tokenizer
from theseus_deploy.data import Corpus, Split, open_data, tokenise
from theseus_deploy.errors import DataError
from theseus_deploy.tasks import Task

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
    corpus = open_data(data, task=PAIR.with_columns(("query", "text"), "answer"))
    assert (corpus.text, corpus.label) == (("query", "text"), "answer")
    assert open_data(data, ("text",), "label", PAIR).splits["train"].labels == ["2"]


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


def test_a_sample_is_the_same_each_time_and_keeps_the_order() -> None:
    split = Split("test", [(str(row),) for row in range(100)], [str(row) for row in range(100)])
    sample = split.sample(10)
    assert sample == split.sample(10)
    rows = [int(label) for label in sample.labels]
    assert rows == sorted(rows)
    assert len(set(rows)) == 10
    assert [text for (text,) in sample.texts] == sample.labels
    assert split.sample(None) is split.sample(100) is split
