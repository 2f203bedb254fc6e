"""What people keep text in, read to the letter or refused with the place named."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from theseus_deploy.errors import DataError
from theseus_deploy.tables.read import read_tables
from theseus_deploy.tables.table import Table

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of a given content and return its name."""

    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def read(ref: str) -> Table:
    tables = read_tables(ref)
    assert tables.one_file
    return dict(tables.splits["train"])


def refuse(ref: str) -> str:
    with pytest.raises(DataError) as caught:
        read_tables(ref)
    message = str(caught.value)
    assert "\n" not in message
    assert ref.split(":")[0] in message
    return message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"one, ""two""\nthree",yes\n🎉 né,no\n'),
        ("a.csv", '\ufefftext,label\r\n"one, ""two""\nthree",yes\r\n🎉 né,no\r\n'),
        ("a.CSV", 'text,label\n\n"one, ""two""\nthree",yes\n\n🎉 né,no'),
        ("a.csv", ' text , label\n"one, ""two""\nthree",yes\n🎉 né,no\n'),
        ("a.tsv", 'text\tlabel\n"one, ""two""\nthree"\tyes\n🎉 né\tno\n'),
        ("a.tsv", '\ufefftext\tlabel\r\n"one, ""two""\nthree"\tyes\r\n🎉 né\tno\r\n'),
        ("a.jsonl", '{"text": "one, \\"two\\"\\nthree", "label": "yes"}\n\n{"label": "no", "text": "🎉 né"}'),
        ("a.jsonl", '\ufeff{"text":"one, \\"two\\"\\nthree","label":"yes"}\r\n{"text":"🎉 n\\u00e9","label":"no"}'),
    ],
)  # fmt: skip
def test_text_is_read_to_the_letter(write: Write, name: str, content: str) -> None:
    assert read(write(name, content)) == {"text": ['one, "two"\nthree', "🎉 né"], "label": ["yes", "no"]}


def test_carriage_returns_inside_quotes_are_text(write: Write) -> None:
    assert read(write("a.csv", 'text,label\r\n"one\r\ntwo",x\r\n'))["text"] == ["one\r\ntwo"]


def test_words_that_pandas_takes_for_nothing_are_text(write: Write) -> None:
    words = ["NA", "null", "NaN", "None", "", "1.0", "007", "True", " spaced "]
    assert read(write("a.csv", "text,label\n" + "".join(f"{word},x\n" for word in words)))["text"] == words
    assert read(write("a.tsv", "text\tlabel\n" + "".join(f"{word}\tx\n" for word in words)))["text"] == words
    assert read(write("a.jsonl", "".join(json.dumps({"text": word}) + "\n" for word in words)))["text"] == words


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_line_may_be_long(write: Write, suffix: str, separator: str) -> None:
    long = "word " * 100_000
    assert read(write(f"a.{suffix}", f"text{separator}label\n{long}{separator}x\n"))["text"] == [long]


def test_quotes_that_a_tsv_never_closes_are_characters(write: Write) -> None:
    content = 'text\tlabel\n"open\tx\nplain\ty\nsay "hi"\tz\nclose"\tx\n'
    assert read(write("a.tsv", content)) == {
        "text": ['"open', "plain", 'say "hi"', 'close"'],
        "label": ["x", "y", "z", "x"],
    }


def test_quotes_that_would_swallow_rows_of_a_tsv_are_characters(write: Write) -> None:
    assert read(write("a.tsv", 'text\tlabel\n"one\tx\ntwo"\ty\n'))["text"] == ['"one', 'two"']


def test_a_column_without_a_name_is_left_out(write: Write) -> None:
    assert read(write("a.csv", ",text,label,\n0,a,x,\n1,b,y,\n")) == {"text": ["a", "b"], "label": ["x", "y"]}


def test_values_that_are_no_text_read_as_json_has_them(write: Write) -> None:
    rows = '{"a": 1, "b": true, "c": 0.5, "d": null, "e": ["x", "é"], "f": NaN}\n{"a": 0, "b": false, "c": 2.0}\n'
    assert read(write("a.jsonl", rows)) == {
        "a": ["1", "0"],
        "b": ["true", "false"],
        "c": ["0.5", "2.0"],
        "d": ["", ""],
        "e": ['["x", "é"]', ""],
        "f": ["", ""],
    }


def test_parquet_of_any_type_reads_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {
        "text": pyarrow.array(["é\n", None]),
        "bytes": pyarrow.array(["é".encode(), b"b"]),
        "picture": pyarrow.array([b"\xff\xd8", None]),
        "label": pyarrow.array([1, 0], pyarrow.int8()),
        "hole": pyarrow.array([1, None]),
        "flag": pyarrow.array([True, False]),
        "score": pyarrow.array([0.5, float("nan")]),
        "day": pyarrow.array([0, 1], pyarrow.date32()),
        "kind": pyarrow.array(["x", "y"]).dictionary_encode(),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    assert read(str(path)) == {
        "text": ["é\n", ""],
        "bytes": ["é", "b"],
        "picture": ["\\xff\\xd8", ""],
        "label": ["1", "0"],
        "hole": ["1", ""],
        "flag": ["true", "false"],
        "score": ["0.5", ""],
        "day": ["1970-01-01", "1970-01-02"],
        "kind": ["x", "y"],
    }


@pytest.mark.parametrize("kept", [True, False])
def test_classes_that_parquet_names_are_read_by_their_names(tmp_path: Path, kept: bool) -> None:
    classes = ClassLabel(names=["O", "B-who", "I-who"])
    features = Features({"tokens": List(Value("string")), "ner_tags": List(classes), "label": classes})
    rows = {"tokens": [["a", "b"], ["c"]], "ner_tags": [[0, 1], [2]], "label": [2, None]}
    table = Dataset.from_dict(rows, features).data.table
    table = table if kept else table.replace_schema_metadata({"huggingface": '{"info": {"features": {"a": {}}}}'})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    found = read_tables(str(tmp_path))
    names = ("O", "B-who", "I-who")
    assert found.names == ({"ner_tags": names, "label": names} if kept else {})
    assert found.splits["train"]["ner_tags"] == (['["O", "B-who"]', '["I-who"]'] if kept else ["[0, 1]", "[2]"])
    assert found.splits["train"]["label"] == (["I-who", ""] if kept else ["2", ""])
    assert read_tables(str(tmp_path / "train.parquet")).names == found.names


def test_a_date_beyond_all_calendars_is_one_line(tmp_path: Path) -> None:
    columns = {"text": ["a"], "until": pyarrow.array([9224318015999], pyarrow.timestamp("s"))}  # infinity in Postgres
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet cannot be read: date value out of range; correct the file"):
        read(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "text,label\na,x\nb,y,z\n", "line 3 has 3 fields, and the header has 2"),
        ("a.csv", "text,label\na, b,x\nc, d,y\n", "line 2 has 3 fields, and the header has 2"),
        ("a.csv", "text,label\na,x\nb\n", "line 3 has 1 fields"),
        ("a.csv", 'text,label\n"a,x\nb,y\n', "line 3: unexpected end of data"),
        ("a.csv", 'text,label\n"a,x\nb" c,y\n', "line 3: ',' expected after '\"'"),
        ("a.csv", "text,label,text\na,x,b\n", "it has 2 columns named 'text'"),
        ("a.csv", "text, text\na,x\n", "it has 2 columns named 'text'"),
        ("a.tsv", "text\tlabel\na\tx\nb\ty\tz\n", "line 3 has 3 fields, and the header has 2"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "line 2 is no JSON"),
        ("a.jsonl", '{"text": "a"}\n\n["b"]\n', "line 3 is no JSON object"),
        ("a.jsonl", '{"text": "\\ud83d\\ude02"}\n{"text": "\\ud83d"}\n', "line 2 has half of a surrogate pair"),
        ("a.parquet", b"", "Parquet file size is 0 bytes"),
        ("a.parquet", b"PAR1 this is not", "Parquet magic bytes not found"),
    ],
)
def test_a_malformed_file_is_refused_at_its_line(write: Write, name: str, content: str | bytes, reason: str) -> None:
    message = refuse(write(name, content))
    assert f"cannot be read: {reason}" in message
    assert message.endswith("; correct the file")


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table([["a"], ["b"]], names=["text", "text"]), path)
    assert "2 columns named 'text'" in refuse(str(path))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_file_that_is_not_utf8_is_refused_at_its_byte(write: Write, name: str) -> None:
    message = refuse(write(name, b"x" * 100_000 + b"\xe9t\xe9\n"))
    assert "is not UTF-8 (byte 100000); convert it, for instance with `iconv -f windows-1252 -t utf-8`" in message
    assert "with `iconv -f utf-16 -t utf-8`" in refuse(write(name, "text,label\ncafé,x\n".encode("utf-16")))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_an_empty_file_is_an_empty_table(write: Write, name: str) -> None:
    assert read(write(name, "")) == read(write(name, "\n\n")) == read(write(name, "\ufeff")) == {}


@pytest.mark.parametrize("name", ["data.txt", "data.json", "data.xlsx", "data"])
def test_an_unknown_kind_of_file_is_refused(write: Write, name: str) -> None:
    assert refuse(write(name, "x")).endswith("convert it to one of: csv, tsv, jsonl, parquet")


def test_a_folder_is_read_by_its_split_names(write: Write) -> None:
    write("a/train.tsv", "text\tlabel\na\tx\n")
    write("a/dev.jsonl", '{"text": "b", "label": "y"}\n')
    write("a/test.csv", "text,label\nc,z\n")
    write("a/notes.csv", "what,ever\n")
    folder = Path(write("a/README.md", "x")).parent
    tables = read_tables(str(folder))
    assert not tables.one_file
    texts = {split: table["text"] for split, table in tables.splits.items()}
    assert texts == {"train": ["a"], "validation": ["b"], "test": ["c"]}
    for alias in ("val", "valid", "validation"):
        (folder / "dev.jsonl").rename(folder / f"{alias}.jsonl")
        assert read_tables(str(folder)).splits["validation"]["text"] == ["b"]
        (folder / f"{alias}.jsonl").rename(folder / "dev.jsonl")


def test_splits_are_known_in_any_case_and_one_that_is_not_read_is_no_secret(write: Write) -> None:
    write("a/train.csv", "text,label\na,x\n")
    write("a/train.py", "print()")
    folder = Path(write("a/Test.CSV", "text,label\nc,z\n")).parent
    assert read_tables(str(folder)).splits["test"]["text"] == ["c"]
    for name in ("dev.json", "valid.csv.gz", "Validation.txt", "val.clean.csv", "validation-00000-of-00001.parquet"):
        write(f"a/{name}", "x")
        assert refuse(str(folder)) == (
            f"{folder / name} looks like the validation split and is not read; make one file of it, validation.csv for "
            "instance (csv, tsv, jsonl, parquet are read), or move it away"
        )
        (folder / name).unlink()
    write("a/dev.csv", "text,label\nb,y\n")
    write("a/dev.json", "x")  # what it was made from
    assert set(read_tables(str(folder)).splits) == {"train", "validation", "test"}


@pytest.mark.parametrize(("one", "other"), [("train.csv", "train.tsv"), ("validation.csv", "dev.csv")])
def test_two_files_for_one_split_are_refused(write: Write, one: str, other: str) -> None:
    write(f"a/{other}", "text,label\na,x\n")
    folder = Path(write(f"a/{one}", "text,label\na,x\n")).parent
    assert f"holds {one} and {other}, both of the {one.split('.')[0]} split; keep one" in refuse(str(folder))


def test_a_folder_without_splits_is_refused(write: Write, tmp_path: Path) -> None:
    write("a/data.csv", "text,label\na,x\n")
    message = refuse(str(tmp_path / "a"))
    assert "holds no data: no train, validation or test file ending in csv, tsv, jsonl, parquet" in message
    assert message.endswith("or give one file")


@pytest.mark.parametrize(
    "ref", ["no/such.csv", "./missing", "/missing", "~/missing", "a/b/c", "missing", "csv", "text"]
)
def test_a_path_that_is_not_there_is_refused_at_once(ref: str) -> None:
    assert "does not exist; give a folder with train/validation/test files, a file, or a Hub id" in refuse(ref)


def test_a_builtin_mistyped_is_suggested() -> None:
    assert "did you mean 'demo:tweets'?" in refuse("demo:tweet")
