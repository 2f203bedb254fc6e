"""One file as a table: csv, tsv, jsonl or parquet, strictly, since one wrong quote would shift texts and labels."""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from theseus_deploy.errors import DataError, brief
from theseus_deploy.tables.table import Table, as_text, class_names, named

UNREADABLE = (ValueError, OSError, NotImplementedError, OverflowError)  # what pyarrow, json and we raise
LONGEST_FIELD = 2**31 - 1  # characters; Python's own limit is 131,072


def read_file(path: Path) -> Table:
    """Read a file by what its suffix says of it.

    Raises:
        DataError: the suffix is none of `READERS`, or the content is not what it says.
    """
    reader = READERS.get(suffix(path))
    if reader is None:
        raise DataError(f"{path} is of an unknown kind; convert it to one of: {', '.join(READERS)}")
    try:
        return reader(path)
    except UnicodeDecodeError as error:
        with path.open("rb") as file:
            marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start}); convert it, for instance with "
            f"`iconv -f {'utf-16' if marked else 'windows-1252'} -t utf-8`"
        ) from error
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {brief(error)}; correct the file") from error


def _read_csv(path: Path) -> Table:
    return _table(_rows(_decode(path), ","))


def _read_tsv(path: Path) -> Table:
    """Read quotes as csv has them where that fits, else as plain characters: GLUE's files leave some open."""
    content = _decode(path)
    try:
        plain = _rows(content, "\t", quotes=False)
    except ValueError:  # a field in quotes holds a tab or a line break
        return _table(_rows(content, "\t"))
    try:
        quoted = _rows(content, "\t")
    except ValueError:
        return _table(plain)
    return _table(quoted if len(quoted) == len(plain) else plain)


def _rows(content: str, separator: str, quotes: bool = True) -> list[list[str]]:
    """Split a file strictly: one wrong quote or separator would shift text and labels without a word."""
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(
        io.StringIO(content, newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=True,
    )
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not row:
                continue
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"line {reader.line_num} has {len(row)} fields, and the header has {len(rows[0])}")
            rows.append(row)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    return rows


def _table(rows: list[list[str]]) -> Table:
    if not rows:
        return {}
    header, *body = rows
    names = _distinct([name.strip() for name in header])
    return {name: [row[column] for row in body] for column, name in enumerate(names) if name}


def _read_jsonl(path: Path) -> Table:
    rows = []
    for number, line in enumerate(_decode(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number} is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        if "\\ud" in line.lower() and not _is_text(row):
            raise ValueError(f"line {number} has half of a surrogate pair, which is no text")
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [as_text(row.get(name)) for row in rows] for name in names}


def _is_text(row: Mapping[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        table = file.read()
    classes, table_names = _classes(table.schema), _distinct(table.column_names)
    return {
        name: [as_text(named(value, classes[name]) if name in classes else value) for value in column.to_pylist()]
        for name, column in zip(table_names, table.columns, strict=True)
    }


def names_in(files: Iterable[Path]) -> dict[str, tuple[str, ...]]:
    """Return the names of classes that a file says of its columns, of the first file that says any."""
    for file in files:
        if suffix(file) == "parquet":
            import pyarrow.parquet

            if found := _classes(pyarrow.parquet.read_schema(file)):
                return {column: tuple(names) for column, names in found.items()}
    return {}


def _classes(schema: Any) -> dict[str, list[str]]:
    """Read the names of classes, which datasets writes beside their numbers in parquet."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    try:
        features = Features.from_arrow_schema(schema)
    except Exception:  # what another version of datasets has written
        return {}
    return {column: names for column, feature in features.items() if (names := class_names(feature))}


READERS: dict[str, Callable[[Path], Table]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


def suffix(path: Path) -> str:
    """Return what a file's name ends in, without the dot, in lower case."""
    return path.suffix[1:].lower()


def _decode(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")


def _distinct(names: list[str]) -> list[str]:
    for name in names:
        if name and names.count(name) > 1:
            raise ValueError(f"it has {names.count(name)} columns named {name!r}")
    return names
