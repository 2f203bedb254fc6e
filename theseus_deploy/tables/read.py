"""Find what a reference to data stands for: a folder of splits, one file, what is built in, or an id of the Hub."""

import re
from pathlib import Path

from theseus_deploy import builtin, glue
from theseus_deploy.errors import DataError, suggest
from theseus_deploy.tables.files import READERS, names_in, read_file, suffix
from theseus_deploy.tables.hub import read_hub
from theseus_deploy.tables.table import SPLIT_NAMES, Tables

UNREAD = ("json", "ndjson", "txt", "xlsx", "xls", "arrow", "feather", "pkl", "gz", "bz2", "xz", "zip")  # may be data
SHARD = re.compile(r"-\d+-of-\d+(?=\.)")  # how the Hub names a part of a split
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(:.+)?")  # `csv` alone would make datasets read the working directory


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
        return Tables({split: read_file(file) for split, file in files.items()}, names=names_in(files.values()))
    if path.is_file():
        return Tables({"train": read_file(path)}, one_file=True, names=names_in([path]))
    known = [*builtin.DATA, *glue.NAMES]
    if ref.startswith("demo:"):
        raise DataError(f"{ref} is no built-in data set; {suggest(ref, known)}")
    if suffix(path) in READERS or not HUB_ID.fullmatch(ref):
        raise DataError(
            f"{ref} does not exist; give a folder with train/validation/test files, a file, "
            "or a Hub id such as nyu-mll/glue:mrpc"
        )
    name = glue.spelled(ref)
    if name in glue.NAMES:
        return read_hub(ref, f"{glue.HUB}:{name.removeprefix('glue/')}")
    if name.startswith("glue/"):
        raise DataError(f"{ref} is no built-in data set; {suggest(name, known)}")
    return read_hub(ref, ref)


def _find_splits(folder: Path) -> dict[str, Path]:
    files = {}
    named: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        named.setdefault(SHARD.sub("", path.name.lower()).partition(".")[0], []).append(path)
    for split, names in SPLIT_NAMES.items():
        paths = [path for name in names for path in named.get(name, [])]
        found = [path for path in paths if path.stem.lower() in names and suffix(path) in READERS]
        if not found and (other := next((path for path in paths if suffix(path) in (*READERS, *UNREAD)), None)):
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
