"""Where an unfinished training waits: `<out>.partial`, with its checkpoints and what was asked of it."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theseus_deploy.artifact import Artifact, claim
from theseus_deploy.disk import locked, writable, write_atomically
from theseus_deploy.distributed import ALONE, World
from theseus_deploy.errors import ArtifactError
from theseus_deploy.progress import SILENT, Progress

SUFFIX = ".partial"
REQUEST = "request.json"
LOG = "log.jsonl"  # a line for each time that something was logged
RUNS = "runs"  # where trackers of transformers.Trainer write
COMPLETE = "complete"  # names what else is in a checkpoint, once that is on the disk


@dataclass(frozen=True)
class Workspace:
    """The folder of one unfinished training."""

    path: Path

    @classmethod
    def open(cls, out: Path, request: Mapping[str, Any], overwrite: bool, progress: Progress = SILENT) -> "Workspace":
        """Begin or continue the training that will end in `out`; one of other values is discarded by `overwrite`.

        Raises:
            ArtifactError: `out` is taken or cannot be written, or an unfinished training there was asked for with
                other values.
        """
        claim(out, overwrite)
        path = _beside(out)
        asked = json.loads(json.dumps(request))
        before = _before(path)
        if before is not None:
            if before == asked:
                return cls(path)
            if not overwrite:
                raise ArtifactError(
                    f"{path} is an unfinished run with {_difference(before, asked)}; repeat that command to resume it, "
                    "or discard it with --overwrite"
                )
        with writable(out):
            if path.exists():
                with _alone(path):
                    if before is not None:
                        progress.say(f"discarding {path}, an unfinished run with {_difference(before, asked)}")
                    cls(path).close()
            write_atomically(path / REQUEST, json.dumps(asked, indent=2) + "\n")
        return cls(path)

    @classmethod
    @contextmanager
    def held(
        cls,
        out: Path,
        request: Mapping[str, Any],
        overwrite: bool,
        world: World = ALONE,
        progress: Progress = SILENT,
    ) -> Iterator["Workspace"]:
        """Open the training that will end in `out`, and keep all but the processes of `world` out of it.

        A training that fails before it has anything to resume from leaves nothing.

        Raises:
            ArtifactError: as `open`, or another process trains there.
        """
        with ExitStack() as until_done:
            with world.one_by_one():
                workspace = cls.open(out, request, overwrite, progress)
                if world.first:
                    until_done.enter_context(_alone(workspace.path))
            try:
                yield workspace
            except BaseException:  # an interrupt too
                if world.first and workspace.path.is_dir() and workspace.last_checkpoint() is None:
                    with suppress(OSError):  # what is raised is what went wrong first
                        workspace.close()
                raise

    @classmethod
    def finished(cls, out: Path, request: Mapping[str, Any], overwrite: bool, reuse: bool) -> Artifact | None:
        """Return what `out` holds if nothing is left to do: `reuse`, or a run that was killed while it closed.

        An unfinished training beside it that was asked for with other values is left as it is; one that can go on is,
        with `overwrite`, what is to replace `out`.

        Raises:
            ArtifactError: `out`, or the place beside it, is taken by something else.
        """
        closing = cls.closing(out) and not (overwrite and cls(_beside(out)).last_checkpoint())
        kept = Artifact.kept(out, request) if reuse or closing else None
        if kept is None:
            claim(out, overwrite or reuse)
        elif closing and _before(_beside(out)) in (None, json.loads(json.dumps(request))):
            with locked(_beside(out)) as held:
                if held is not False:  # else somebody closes it, or trains there to replace `out`
                    cls(_beside(out)).close()
        return kept

    @classmethod
    def closing(cls, out: Path) -> bool:
        """Tell whether the result is in place and its workspace not yet removed."""
        return Artifact.exists(out) and _beside(out).is_dir()

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that was written whole."""
        return next(iter(self._whole()), None)

    def _whole(self) -> list[Path]:
        """Return the checkpoints that were written whole, the newest first."""
        return sorted((mark.parent for mark in self.path.glob(f"checkpoint-*/{COMPLETE}")), key=step_of, reverse=True)

    def hand_over(self, folder: Path) -> None:
        """Copy what was logged to the folder of the result."""
        if (log := self.path / LOG).exists():
            shutil.copy2(log, folder)
        if (runs := self.path / RUNS).exists():
            shutil.copytree(runs, folder / RUNS)

    def close(self) -> None:
        """Remove the folder; what was asked goes last, so that one killed meanwhile is still known to be ours.

        Marks go before, the newest first, since a checkpoint may need an older one, its best: what is left is never
        resumed from.
        """
        for checkpoint in self._whole():
            (checkpoint / COMPLETE).unlink()
        for item in self.path.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            elif item.name != REQUEST:
                item.unlink()
        shutil.rmtree(self.path)


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step that a checkpoint was written after."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def lost_from(checkpoint: Path) -> list[str]:
    """Return the names of the files that a checkpoint was written with and does not have."""
    names = (checkpoint / COMPLETE).read_text("utf-8", "replace").splitlines()
    return [name for name in names if not (checkpoint / name).exists()]


def unfinished(path: Path) -> Path | None:
    """Return the workspace that a path is, lies in, or will be the outcome of; None where there is none."""
    places = (path, path.parent) if path.exists() else (_beside(path),)
    return next((place for place in places if place.name.endswith(SUFFIX) and (place / REQUEST).is_file()), None)


def _beside(out: Path) -> Path:
    place = out if out.name else out.resolve()  # `.`
    return place.parent / (place.name + SUFFIX)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with locked(path) as held:
        if held is False:
            raise ArtifactError(f"{path} is where another process trains now; wait for it, or choose another --out")
        yield


def _before(path: Path) -> dict[str, Any] | None:
    """Return what the run in `path` was asked, {} if that is damaged, None if there is no run.

    Raises:
        ArtifactError: `path` is somebody else's.
    """
    try:
        request = json.loads((path / REQUEST).read_text("utf-8"))
        return request if isinstance(request, dict) else {}
    except ValueError:
        return {}
    except OSError as error:
        if path.exists() and not (
            path.is_dir() and all(item.name.startswith(f".{REQUEST}.") for item in path.iterdir())
        ):
            raise ArtifactError(
                f"{path} is in the way and was not written by theseus; move it, or choose another --out"
            ) from error
        return None


def _difference(before: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    old, new = _flat(before), _flat(asked)
    name = next(name for name in [*old, *new] if name not in old or name not in new or old[name] != new[name])
    return f"{name} = {old.get(name)}, not {new.get(name)}"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
