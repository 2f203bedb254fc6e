"""Views of a report: they add words and pictures, never numbers of their own. A file's suffix chooses its view."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from theseus_deploy.artifact import Artifact
from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.views import html, junit, markdown
from theseus_deploy.disk import write_atomically
from theseus_deploy.errors import ArtifactError, ConfigError

VIEWS: dict[str, Callable[[BenchmarkReport], str]] = {
    ".json": BenchmarkReport.dumps,
    ".md": markdown.render,
    ".html": html.render,
    ".xml": junit.render,
}


def check_places(paths: Sequence[Path], against: str | None = None) -> None:
    """Refuse a place that no view can be written to, before any time is spent on measuring.

    Raises:
        ConfigError: the name ends in something else, or is a folder's, or no folder can hold it, or it lies in a folder
            whose manifest says what is in it; or it is that of the report to compare with, `against`, which would be
            compared with itself the next time.
    """
    for path in paths:
        if against and path.resolve() == Path(against).resolve():
            raise ConfigError(f"{path} is what --against compares with, and would be replaced; write to another place")
        if path.suffix not in VIEWS:
            raise ConfigError(f"--report {path} ends in {path.suffix or 'nothing'!r}; end it in {', '.join(VIEWS)}")
        if path.is_dir():
            raise ConfigError(f"--report {path} is a folder; name a file in it")
        if any(map(Artifact.exists, path.absolute().parents)):
            raise ConfigError(
                f"--report {path} lies in a folder that theseus has made and checks; choose another place"
            )
        place = next(folder for folder in path.absolute().parents if folder.exists())
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise ConfigError(f"--report {path} cannot be written in {place}; choose another place")


def save(report: BenchmarkReport, paths: Sequence[Path]) -> None:
    """Write a view of the report to each path, whole or not at all; one that fails takes no other with it.

    Raises:
        ConfigError: a path ends in something else.
        ArtifactError: a path cannot be written.
    """
    check_places(paths)
    failed: dict[Path, Exception] = {}
    for path in paths:
        try:
            write_atomically(path, VIEWS[path.suffix](report))
        except Exception as error:
            failed[path] = error
    for path, why in failed.items():
        if not isinstance(why, OSError):
            raise why
        raise ArtifactError(f"{path} cannot be written ({why.strerror}); choose another --report") from why
