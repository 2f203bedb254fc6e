"""Read tables of text out of what people keep them in: csv, tsv, jsonl, parquet, a folder of splits, the Hub."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy import builtin
from theseus_deploy.errors import DataError, suggest

if TYPE_CHECKING:
    from datasets import Dataset

Table = dict[str, list[str]]

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched"),
    "test": ("test", "eval"),
}


def read_tables(ref: str) -> tuple[dict[str, Table], bool]:
    """Return a table for each split of `ref`, and whether `ref` was a lone file.

    Raises:
        DataError: nothing is there, or it cannot be read.
    """
    path = Path(ref)
    if ref in builtin.DATA:
        return builtin.DATA[ref](), False
    if path.is_dir():
        return _read_folder(path), False
    if path.is_file():
        return {"train": _read_file(path)}, True
    if ref.startswith("demo:"):
        raise DataError(f"{ref} is no built-in data set; {suggest(ref, list(builtin.DATA))}")
    if path.suffix[1:] in READERS or ref.startswith((".", "/", "~")):
        raise DataError(f"{ref} does not exist; give a folder with train/validation/test files, a file, or a Hub id")
    return _read_hub(ref), False


def _read_folder(folder: Path) -> dict[str, Table]:
    files: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        for name in names:
            found = [folder / f"{name}.{suffix}" for suffix in READERS if (folder / f"{name}.{suffix}").is_file()]
            if len(found) > 1:
                raise DataError(f"{folder} holds {found[0].name} and {found[1].name}; keep one file a split")
            if found:
                files.setdefault(split, found[0])
    if not files:
        raise DataError(
            f"{folder} holds no data: no train, validation or test file ending in {', '.join(READERS)}; "
            "name the files so, or give one file"
        )
    return {split: _read_file(path) for split, path in files.items()}


def _read_file(path: Path) -> Table:
    reader = READERS.get(path.suffix[1:])
    if reader is None:
        raise DataError(f"{path} is of an unknown kind; convert it to one of: {', '.join(READERS)}")
    try:
        return reader(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); convert it with `iconv -t utf-8`") from error
    except (ValueError, OSError) as error:  # pandas, pyarrow and json raise ValueError for what they cannot parse
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _read_separated(separator: str) -> Callable[[Path], Table]:
    def read(path: Path) -> Table:
        import pandas

        if path.stat().st_size == 0:
            return {}
        frame = pandas.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        return {str(name): [str(value) for value in frame[name]] for name in frame.columns}

    return read


def _read_jsonl(path: Path) -> Table:
    rows = [json.loads(line) for line in path.read_text("utf-8-sig").split("\n") if line.strip()]
    if any(not isinstance(row, dict) for row in rows):
        raise ValueError("every line must be a JSON object")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_as_text(row.get(name)) for row in rows] for name in names}


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return {name: [_as_text(value) for value in table[name].to_pylist()] for name in table.column_names}


READERS: dict[str, Callable[[Path], Table]] = {
    "csv": _read_separated(","),
    "tsv": _read_separated("\t"),
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


def _read_hub(ref: str) -> dict[str, Table]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    name, _, config = ref.partition(":")
    if name.startswith("glue/"):
        name, config = "nyu-mll/glue", name.removeprefix("glue/")
    try:
        loaded = load_dataset(name, config or None)
    except (OSError, ValueError, DatasetsError) as error:
        raise DataError(
            f"{ref} is no local path, and the Hub gave no such data set ({_first_line(error)}); "
            "check the name and the network, or give a file"
        ) from error
    tables = {split: _hub_table(loaded[hub]) for split, hub in _hub_splits(list(loaded)).items()}
    return {split: table for split, table in tables.items() if table}


def _hub_splits(names: list[str]) -> dict[str, str]:
    return {
        split: next(alias for alias in aliases if alias in names)
        for split, aliases in SPLIT_NAMES.items()
        if any(alias in names for alias in aliases)
    }


def _hub_table(rows: "Dataset") -> Table:
    table = {}
    for name, feature in rows.features.items():
        values = rows[name]
        if hasattr(feature, "int2str"):
            if all(value == -1 for value in values):  # GLUE hides the labels of its test splits
                return {}
            values = [feature.int2str(value) if value >= 0 else "" for value in values]
        table[name] = [_as_text(value) for value in values]
    return table


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
