"""Read tables of text out of what people keep them in: csv, tsv, jsonl, parquet, a folder of splits, the Hub."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy import builtin, glue
from theseus_deploy.errors import DataError, brief, suggest

if TYPE_CHECKING:
    from datasets import Dataset


class Missing(str):
    """A cell that is not there: an empty one to most, and told apart from it by those who must."""

    __slots__ = ()


Table = dict[str, list[str]]
MISSING = Missing()

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched"),
    "test": ("test", "eval"),
}
UNREAD = ("json", "ndjson", "txt", "xlsx", "xls", "arrow", "feather", "pkl", "gz", "bz2", "xz", "zip")  # may be data
SHARD = re.compile(r"-\d+-of-\d+(?=\.)")  # how the Hub names a part of a split
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(:.+)?")  # `csv` alone would make datasets read the working directory
HUB_SECONDS = 10.0
JSON_TYPES = (bool, int, float, list, dict)
LONGEST_FIELD = 2**31 - 1  # characters; Python's own limit is 131,072


@dataclass(frozen=True)
class Tables:
    """A table for each split, and what the data set says of itself: `one_file` tells whether it was a lone file.

    `text` are the columns of its texts, where that is known; `names` all labels of a column in the data set's own
    order, `metrics` what a column is usually judged by, both by the name of the column.
    """

    splits: Mapping[str, Table]
    one_file: bool = False
    text: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)


def read_tables(ref: str) -> Tables:
    """Read `ref`: a folder of splits, one file, a built-in name, or a Hub id. What lies on the disk goes first.

    Raises:
        DataError: nothing is there, or it cannot be read.
    """
    path = Path(ref)
    if ref in builtin.DATA:
        return Tables(builtin.DATA[ref]())
    if path.is_dir():
        files = _find_splits(path)
        return Tables({split: _read_file(file) for split, file in files.items()}, names=_names_in(files.values()))
    if path.is_file():
        return Tables({"train": _read_file(path)}, one_file=True, names=_names_in([path]))
    known = [*builtin.DATA, *glue.NAMES]
    if ref.startswith("demo:"):
        raise DataError(f"{ref} is no built-in data set; {suggest(ref, known)}")
    if _suffix(path) in READERS or not HUB_ID.fullmatch(ref):
        raise DataError(
            f"{ref} does not exist; give a folder with train/validation/test files, a file, "
            "or a Hub id such as nyu-mll/glue:mrpc"
        )
    name = glue.spelled(ref)
    if name in glue.NAMES:
        return _read_hub(ref, f"{glue.HUB}:{name.removeprefix('glue/')}")
    if name.startswith("glue/"):
        raise DataError(f"{ref} is no built-in data set; {suggest(name, known)}")
    return _read_hub(ref, ref)


def _find_splits(folder: Path) -> dict[str, Path]:
    files = {}
    named: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        named.setdefault(SHARD.sub("", path.name.lower()).partition(".")[0], []).append(path)
    for split, names in SPLIT_NAMES.items():
        paths = [path for name in names for path in named.get(name, [])]
        found = [path for path in paths if path.stem.lower() in names and _suffix(path) in READERS]
        if not found and (other := next((path for path in paths if _suffix(path) in (*READERS, *UNREAD)), None)):
            raise DataError(
                f"{other} looks like the {split} split and is not read; make one file of it, {split}.csv for instance "
                f"({', '.join(READERS)} are read), or move it away"
            )
        if len(found) > 1:
            raise DataError(
                f"{folder} holds {found[0].name} and {found[1].name}, both of the {split} split; keep one file a split"
            )
        if found:
            files[split] = found[0]
    if not files:
        raise DataError(
            f"{folder} holds no data: no train, validation or test file ending in {', '.join(READERS)}; "
            "name the files so, or give one file"
        )
    return files


def _read_file(path: Path) -> Table:
    reader = READERS.get(_suffix(path))
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
    except (
        ValueError,
        OSError,
        NotImplementedError,
        OverflowError,
    ) as error:  # what pyarrow, json and we raise for what cannot be parsed
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
    return {name: [_as_text(row.get(name)) for row in rows] for name in names}


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
        name: [_as_text(_named(value, classes[name]) if name in classes else value) for value in column.to_pylist()]
        for name, column in zip(table_names, table.columns, strict=True)
    }


def _names_in(files: Iterable[Path]) -> dict[str, tuple[str, ...]]:
    """Return the names of classes that a file says of its columns, of the first file that says any."""
    for file in files:
        if _suffix(file) == "parquet":
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
    return {column: names for column, feature in features.items() if (names := _class_names(feature))}


READERS: dict[str, Callable[[Path], Table]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


def _suffix(path: Path) -> str:
    return path.suffix[1:].lower()


def _decode(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")


def _distinct(names: list[str]) -> list[str]:
    for name in names:
        if name and names.count(name) > 1:
            raise ValueError(f"it has {names.count(name)} columns named {name!r}")
    return names


def _read_hub(ref: str, hub_id: str) -> Tables:
    from datasets import config as settings
    from datasets import load_dataset

    name, _, config = hub_id.partition(":")
    before, answers = settings.HF_HUB_OFFLINE, _hub_answers(name)
    settings.HF_HUB_OFFLINE = before or not answers  # what was downloaded before serves without the Hub
    try:
        loaded = load_dataset(name, config or None)
    except Exception as error:  # OSError, ValueError, RuntimeError, and those of whatever HTTP library is underneath
        reason = brief(error) if answers else "it cannot be reached"
        raise DataError(
            f"{ref} is no local path, and the Hub gave no such data set ({reason}); "
            "check the name and the network, or give a file"
        ) from error
    finally:
        settings.HF_HUB_OFFLINE = before
    tables = {split: _hub_table(loaded[hub]) for split, hub in _hub_splits(list(loaded)).items()}
    tables = {split: table for split, table in tables.items() if table}
    if not tables:
        raise DataError(f"{ref} has no split known by name (splits: {', '.join(loaded)}); give a file made of one")
    features = next(iter(loaded.values())).features
    names = {column: tuple(found) for column, feature in features.items() if (found := _class_names(feature))}
    task = glue.TASKS.get(config) if name == glue.HUB else None
    if task is None:
        return Tables(tables, names=names)
    return Tables(tables, text=task.text, names={**names, glue.LABEL: task.labels}, metrics={glue.LABEL: task.metric})


def _hub_answers(name: str) -> bool:
    """Ask once, and soon give up: `load_dataset` alone would try again for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(name, timeout=HUB_SECONDS)
    except HfHubHTTPError:  # an answer, if not the one hoped for
        return True
    except Exception:  # no connection: those of whatever HTTP library is underneath
        return False
    return True


def _hub_splits(names: list[str]) -> dict[str, str]:
    return {
        split: next(alias for alias in aliases if alias in names)
        for split, aliases in SPLIT_NAMES.items()
        if any(alias in names for alias in aliases)
    }


def _hub_table(rows: "Dataset") -> Table:
    """Return a split as text, classes by their names; nothing where its labels are hidden, as GLUE does with -1."""
    columns = rows.with_format("arrow")[:]
    table = {}
    for name, feature in rows.features.items():
        values, names = columns[name].to_pylist(), _class_names(feature)
        if values and (names or name == glue.LABEL) and all(value == -1 for value in values):
            return {}
        table[name] = [_as_text(_named(value, names) if names else value) for value in values]
    return table


def _class_names(feature: Any) -> list[str]:
    """Return the names of a column of classes, or of lists of classes (a tag for each word); else nothing."""
    return getattr(getattr(feature, "feature", feature), "names", None) or []


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if value is not None and 0 <= value < len(names) else ""


def _as_text(value: Any) -> str:
    if value is None or value != value:  # NaN: how pandas writes that there is nothing
        return MISSING
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")  # of a picture beside the text, say
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, JSON_TYPES) else str(value)
