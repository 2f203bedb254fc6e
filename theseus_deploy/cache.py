"""What is worth computing once: rows in tokens and a teacher's answers, kept under the hash of all they depend on.

The cache lies in `$THESEUS_CACHE`, else in `~/.cache/theseus`, and may be removed at any time. It is a convenience:
where it cannot be written or read, the work is done again.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy import __version__

if TYPE_CHECKING:
    from datasets import Dataset

LIMIT = 4 * 2**30  # bytes; what was not used for longest goes first


def cache_folder() -> Path:
    """Return where the cache lies."""
    if chosen := os.environ.get("THESEUS_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "theseus"


def key_of(facts: Mapping[str, Any]) -> str:
    """Hash all that a result depends on; what it is made of may differ from release to release of ours."""
    return hashlib.sha256(json.dumps({"version": __version__, **facts}, sort_keys=True).encode()).hexdigest()


def cached(key: str, make: Callable[[], "Dataset"]) -> "Dataset":
    """Return the rows kept under `key`, memory-mapped, or make and keep them."""
    from datasets import Dataset

    try:
        path = cache_folder() / f"{key}.arrow"
    except RuntimeError:  # nobody's home is known, as of a container's user without a name
        return make()
    try:
        found = Dataset.from_file(str(path))
        os.utime(path)
        return found
    except Exception:  # not there, not readable, or written by another version of datasets
        made = make()
    try:
        _keep(made, path)
        return Dataset.from_file(str(path))
    except OSError:  # a full or read-only disk is no reason to fail
        return made


def _keep(rows: "Dataset", path: Path) -> None:
    """Write rows whole or not at all: beside their place first, then renamed."""
    import pyarrow

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".arrow", dir=path.parent)
    draft = Path(name)
    try:
        table = rows.data.table
        with os.fdopen(handle, "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _prune(path)


def _prune(newest: Path) -> None:
    size = 0
    for path in sorted(newest.parent.glob("*.arrow"), key=lambda path: path.stat().st_mtime, reverse=True):
        size += path.stat().st_size
        if size > LIMIT and path != newest:
            path.unlink(missing_ok=True)
