"""What is held out never changes, labels are spelled alike in all splits, and a hash tells when the content does."""

import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_tokenizer
from tests.rows import WORDS, Write, jsonl, refuse, rows_in, tagged, task_of
from theseus_deploy import data
from theseus_deploy.data import Corpus, note_repeats, open_data
from theseus_deploy.errors import DataError
from theseus_deploy.progress import Silent
from theseus_deploy.splits import Split
from theseus_deploy.tables.table import Tables
from theseus_deploy.tasks import Label, Task
from theseus_deploy.tokens import tokenise


def labelled(*labels: str, one_file: bool = False, **splits: Split) -> Corpus:
    """A corpus whose training rows are numbered."""
    train = Split("train", [(str(row),) for row in range(len(labels))], list(labels))
    return Corpus("ref", ("text",), "label", {"train": train, **splits}, one_file)


def rows_of(split: Split) -> list[int]:
    return [int(text) for (text,) in split.texts]


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
    assert places.splits["train"].labels == [labels[0], labels[2]]


@pytest.mark.parametrize("known", [("false", "true"), ("False", "True"), ()])
def test_true_is_one_label_however_a_file_spells_it(write: Write, tmp_path: Path, known: tuple[str, ...]) -> None:
    jsonl(tmp_path / "both" / "train.jsonl", {"text": "a", "label": True}, {"text": "b", "label": False})
    write("text,label", "a,True", "b,False", name="both/test.csv")
    task = Task("single-label", known, ("text",), "label") if known else None
    splits = open_data(str(tmp_path / "both"), task=task).splits
    no, yes = known or ("false", "true")
    assert splits["train"].labels == splits["test"].labels == [yes, no]


def test_names_in_cells_are_divided_at_one_separator(write: Write) -> None:
    write("text,labels", 'a,"Health, fitness|News"', "b,News", name="both/train.csv")
    folder = write("text,labels", 'c,"Health, fitness"', name="both/test.csv").rpartition("/")[0]
    splits = open_data(folder, kind="multi-label").splits
    assert splits["train"].labels == [("Health, fitness", "News"), ("News",)]
    assert splits["test"].labels == [("Health, fitness",)]
    alone = write("text,labels", 'c,"Health, fitness"', 'd,"News, Health"')
    task = Task("multi-label", ("Health, fitness", "Health", "News"), ("text",), "labels")
    assert task.encode(open_data(alone, task=task).splits["train"].labels, alone) == [[1, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize("spelled", [("0", "1.0"), ("0.0", "1.0"), ("0", "1")])
def test_numbers_stand_for_the_places_of_named_labels_however_a_file_spells_them(
    write: Write, spelled: tuple[str, str]
) -> None:
    write("text,label", "a,0", "b,1", name="both/train.csv")
    folder = write("text,label", *(f"a,{label}" for label in spelled), name="both/test.csv").rpartition("/")[0]
    task = Task("single-label", ("negative", "positive"), ("text",), "label")
    assert task.encode(open_data(folder, task=task).splits["test"].labels, "here") == [0, 1]


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


@pytest.mark.parametrize("twice", [5, 6])
def test_that_texts_are_learned_from_and_judged_on_is_said(twice: int) -> None:
    heard: list[str] = []

    class Listener(Silent):
        def say(self, message: str) -> None:
            heard.append(message)

    train = Split("train", [(str(row),) for row in range(twice)], ["a"] * twice)
    validation = Split("validation", [(str(row),) for row in range(100)], ["a"] * 100)
    note_repeats(train, validation, Listener())
    line = "6 of 100 validation rows are texts that are trained on too, so their score says too much; remove repeated"
    assert [message.startswith(line) for message in heard] == [True] * (twice == 6)


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
    write("text,label", "f,0", "g,1", name="d/test.csv")
    with pytest.raises(DataError, match=r"row 1: label '0' is not one the model knows \(1, 2, 3\)"):
        task.encode(open_data(str(tmp_path / "d"), task=task).splits["test"].labels, "d")


@pytest.mark.parametrize("names", [("3", "4", "5"), ("1.5", "2.5", "7.5"), ("bad", "fine", "good")])
def test_places_are_read_in_all_splits_or_in_none_where_labels_are_numbers(
    write: Write, tmp_path: Path, names: tuple[str, ...]
) -> None:
    task = Task("single-label", names, ("text",), "label", 32)
    write("text,label", "a,0", "b,1", "c,2", name="d/train.csv")
    write("text,label", "d,1", "e,2", name="d/validation.csv")
    for split in open_data(str(tmp_path / "d"), task=task).splits.values():
        assert task.encode(split.labels, "d") == [0, 1, 2][-len(split) :]
    write("text,label", *(f"a,{name}" for name in names), name="d/train.csv")
    validation = open_data(str(tmp_path / "d"), task=task).splits["validation"]
    if names[0] == "bad":  # a name is never taken for a place
        assert task.encode(validation.labels, "d") == [1, 2]
    else:
        with pytest.raises(DataError, match="is not one the model knows"):
            task.encode(validation.labels, "d")


@pytest.mark.parametrize(("label", "count"), [("a", 1), ("c,a", 2)])
def test_columns_of_some_labels_are_not_all_labels(write: Write, label: str, count: int) -> None:
    task = Task("multi-label", ("a", "b", "c"), ("text",), "a,b,c", 32)
    file = write("text,a,b,c", "x,0,1,1", "y,1,0,1")
    assert refuse(file, label=label, task=task) == (
        f"{file}: --label {label} is {count} of the model's 3 labels; name the columns of all of them, "
        "in one --label with commas"
    )


def test_a_row_without_words_is_scored_and_not_learned(tmp_path: Path) -> None:
    tagged(tmp_path / "d" / "train.jsonl", *WORDS, ([], []))
    tagged(tmp_path / "d" / "validation.jsonl", ([], []), *WORDS)
    train, validation = open_data(str(tmp_path / "d")).for_training()
    assert (len(train), len(validation)) == (2, 3)
    task = Task("tokens", ("O", "B-what", "I-what", "B-who"), ("tokens",), "ner_tags")
    rows = tokenise(validation, task, make_tokenizer(), "d")
    assert rows["starts"][0] == rows["reference"][0] == []
    assert task.score(np.eye(4)[np.concatenate(rows["reference"][1:])], list(rows["reference"]))["f1"] == 1.0


def test_a_file_that_spells_a_number_in_two_ways_has_one_label(write: Write) -> None:
    opened = open_data(write("text,label", "a,0", "b,1.0", "c,1", "d,0.0"))
    assert opened.splits["train"].labels == ["0", "1", "1", "0"]
    assert open_data(write("text,label", "a,1", "b,1.0", "c,new")).splits["train"].labels == ["1", "1.0", "new"]


def test_lists_of_nought_and_one_of_several_lengths_are_no_names(tmp_path: Path) -> None:
    lists: list[list[int] | None] = [[0, 1, 1], None, [0, 0, 1]]
    rows = [{"text": "a", "labels": row} for row in lists]
    opened = open_data(jsonl(tmp_path / "a.jsonl", *rows), kind="multi-label")
    assert opened.names == ("0", "1", "2")
    assert opened.splits["train"].labels == [("1", "2"), (), ("2",)]
    rows.append({"text": "b", "labels": [1, 0]})
    with pytest.raises(DataError, match="lists of 0 and 1 whose lengths are 0, 2, 3; give every row one "):
        open_data(jsonl(tmp_path / "a.jsonl", *rows), kind="multi-label")
    names = [{"text": "a", "labels": row} for row in (["1"], ["0", "1"], [])]
    assert open_data(jsonl(tmp_path / "a.jsonl", *names), kind="multi-label").splits["train"].labels[1] == ("0", "1")


def test_splits_of_different_forms_are_refused(tmp_path: Path) -> None:
    tagged(tmp_path / "d" / "train.jsonl", *WORDS)
    jsonl(tmp_path / "d" / "test.jsonl", {"tokens": "the film", "ner_tags": "O"})
    assert "has a tag for every word in train only; give all splits the same form" in refuse(str(tmp_path / "d"))


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
