"""The folders we write: ordinary model folders with a manifest. Only this file and `manifest` know their look.

A folder is complete or absent. It is written beside its final place, its manifest (`theseus.json`) last, and renamed.
Beside `out`, a draft is called `.out.*.tmp`, and what it replaces `.out.*.old`: for an instant, or after a crash.
"""

import glob
import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.disk import locked, sha256_of, sync, temporary, writable, write_atomically
from theseus_deploy.errors import ArtifactError
from theseus_deploy.manifest import MANIFEST, Manifest, Parent, Source, ledger_entry, read_manifest

if TYPE_CHECKING:
    from theseus_deploy.configs import Config
    from theseus_deploy.data import Corpus

__all__ = ["MANIFEST", "Artifact", "Draft", "Manifest", "Parent", "Source", "claim", "fingerprint", "ledger_entry",
           "scratch"]  # fmt: skip
THEIRS = (".git", ".gitattributes", ".cache")  # what the Hub and its clients add to a folder
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")  # what a model of anybody's consists of
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
OLD_WEIGHTS = "pytorch_model*.bin"  # of a model that has no others: where it has, nobody reads these


@dataclass(frozen=True)
class Artifact:
    """A finished folder of ours: its manifest and the hash and size of every file in it."""

    path: Path
    manifest: Manifest
    files: Mapping[str, Mapping[str, Any]]

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Tell whether a folder is one of ours."""
        return (path / MANIFEST).is_file()

    @classmethod
    def open(cls, path: Path) -> "Artifact":
        """Read a folder's manifest; the files themselves are checked by `check_files`.

        Raises:
            ArtifactError: there is no manifest, or it is not one that this version reads.
        """
        return cls(path, *read_manifest(path))

    @staticmethod
    def request(stage: str, config: "Config", parent: Parent, corpus: "Corpus | None") -> dict[str, Any]:
        """Put together all that a stage's outcome depends on: two equal requests need to be carried out once."""
        return {
            "stage": stage,
            "config": config.to_json(),
            "parent": parent.sha256,
            "data": corpus.sha256 if corpus else None,
        }

    def answers(self, request: Mapping[str, Any]) -> bool:
        """Tell whether this folder is the outcome of `request`."""
        manifest = self.manifest
        return request == {
            "stage": manifest.stage,
            "config": manifest.config,
            "parent": manifest.parent.sha256 if manifest.parent else None,
            "data": manifest.data.sha256 if manifest.data else None,
        }

    @cached_property
    def sha256(self) -> str:
        """Hash the content: what a child names as its parent's hash."""
        return _hash_of_hashes({name: facts["sha256"] for name, facts in self.files.items()})

    def to_json(self) -> dict[str, Any]:
        """Return `theseus.json` as it was written, with the versions, the machine and the moment of then."""
        content: dict[str, Any] = json.loads((self.path / MANIFEST).read_text("utf-8"))
        return content

    @property
    def bytes(self) -> int:
        """Add up the sizes of the files."""
        return sum(facts["bytes"] for facts in self.files.values())

    @classmethod
    def kept(cls, out: Path, request: Mapping[str, Any]) -> "Artifact | None":
        """Return what lies in `out` if it is whole and the outcome of `request`, so that nothing need be done.

        What somebody added is no reason to make it again: that would be lost, and the time with it.
        """
        _put_back(out)
        try:
            artifact = cls.open(out)
        except ArtifactError:
            return None
        return artifact if artifact.answers(request) and artifact.is_whole() else None

    def check_files(self) -> list[str]:
        """Hash every file anew and return one line for each that is changed, missing or was added."""
        present = self._present()
        return [*(f"{name} was added" for name in self._added(present)), *self._damage(present)]

    def require_unchanged(self, ref: str) -> None:
        """Hash every file anew before the folder, which the user calls `ref`, is used.

        Raises:
            ArtifactError: a file is changed, missing or was added.
        """
        present = self._present()
        if damage := next(self._damage(present), None):
            raise ArtifactError(f"{ref} is damaged: {damage}; write it again, or check it with `theseus verify`")
        if added := self._added(present):
            raise ArtifactError(f"{ref} is not as it was written: {added[0]} was added; move it out of the folder")

    def is_whole(self) -> bool:
        """Tell whether every file is as it was written, whatever else lies beside them."""
        return not any(self._damage(self._present()))

    def _present(self) -> set[str]:
        return {path.relative_to(self.path).as_posix() for path in _files(self.path)}

    def _added(self, present: Collection[str]) -> list[str]:
        unknown = sorted(set(present) - self.files.keys())
        return [name for name in unknown if name.partition("/")[0] not in THEIRS]

    def _damage(self, present: Collection[str]) -> Iterator[str]:
        for name, facts in self.files.items():
            if name not in present:
                yield f"{name} is missing"
            elif (size := (self.path / name).stat().st_size) != facts["bytes"]:
                yield f"{name} has {size} bytes, not {facts['bytes']}"
            elif sha256_of(self.path / name) != facts["sha256"]:
                yield f"{name} was changed (another sha256)"

    @classmethod
    @contextmanager
    def writing(cls, out: Path, overwrite: bool = False) -> Iterator["Draft"]:
        """Give a draft folder to fill; when its `finish` was called, it takes the place of `out` in one rename.

        Raises:
            ArtifactError: `out` is there already, or the disk is full; nothing is left behind then.
        """
        claim(out, overwrite)
        with writable(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            with _draft_beside(out) as folder:
                folder.chmod(0o755)
                yield Draft(folder)
                if not cls.exists(folder):
                    raise RuntimeError(f"the draft of {out} was never finished")
                claim(out, overwrite)  # it may have come to be there meanwhile
                _replace(folder, out)


@dataclass
class Draft:
    """A folder on its way to become an `Artifact`."""

    path: Path

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, last of all, and make sure that everything is on the disk."""
        for path in _files(self.path):
            path.chmod(0o644)  # some writers leave files that only their owner can read
        files = {
            path.relative_to(self.path).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            for path in _files(self.path)
        }
        content = {**manifest.to_json(), "files": files}
        write_atomically(
            self.path / MANIFEST, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )
        for path in (*_files(self.path), self.path):
            sync(path)


def claim(out: Path, overwrite: bool) -> None:
    """Refuse a place that is taken.

    Raises:
        ArtifactError: `out` exists, and is not a folder of ours that may be overwritten.
    """
    with writable(out):
        _put_back(out)
        if out.is_symlink():
            raise ArtifactError(f"{out} is a symbolic link, which cannot be replaced; give the folder it leads to")
        if not out.exists():
            with suppress(FileNotFoundError):
                out.parent.stat()  # `exists` says nothing of links that lead in a circle
            return
    if out.is_mount() and not Artifact.exists(out):
        raise ArtifactError(f"{out} is a mount point, which cannot be replaced; give a folder in it: {out / 'model'}")
    if not overwrite:
        raise ArtifactError(f"{out} exists already; choose another --out, or replace it with --overwrite")
    if not (out.is_dir() and (Artifact.exists(out) or not any(out.iterdir()))):
        raise ArtifactError(f"{out} was not written by theseus, so --overwrite leaves it alone; choose another --out")
    if Path.cwd().is_relative_to(out.resolve()):
        raise ArtifactError(f"{out} is where this command runs, and cannot be replaced; choose another --out")


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for what nobody keeps, gone afterwards; those of processes that were killed go first."""
    with ExitStack() as until_done:
        with temporary():
            folder = until_done.enter_context(_draft_beside(Path(tempfile.gettempdir()) / "theseus"))
        yield folder


def fingerprint(folder: Path) -> str:
    """Hash the content of a model folder: the parent hash that a manifest keeps.

    Of one that is not ours only the files that a model consists of, so that git, the Hub's clients and whoever adds a
    README beside them leave it the model that it was.
    """
    if Artifact.exists(folder):
        return Artifact.open(folder).sha256
    patterns = [*MODEL_FILES, *([] if any((folder / name).is_file() for name in WEIGHTS) else [OLD_WEIGHTS])]
    files = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return _hash_of_hashes({path.name: sha256_of(path) for path in files})


def _replace(draft: Path, out: Path) -> None:
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
        try:
            out.replace(old)
        except OSError:
            old.rmdir()
            raise
        try:
            draft.replace(out)
        except OSError:
            old.replace(out)
            raise
    else:
        draft.replace(out)
    sync(out.parent)
    for left in _beside(out, "old"):
        shutil.rmtree(left, ignore_errors=True)


def _put_back(out: Path) -> None:
    """Undo a replacement that a crash cut in two: the old folder was moved away, the new one never came."""
    for old in _beside(out, "old"):
        if not out.exists() and _is_whole(old):
            old.replace(out)


def _is_whole(folder: Path) -> bool:
    try:
        return Artifact.open(folder).is_whole()
    except ArtifactError:
        return False


@contextmanager
def _draft_beside(out: Path) -> Iterator[Path]:
    """Give a locked folder beside `out` that goes with its process; the next one removes what a killed one left."""
    _sweep(out)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
        try:
            with locked(folder) as held:
                if held is not False and folder.exists():  # else another process swept it before it had its lock
                    yield folder
                    return
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(out: Path) -> None:
    """Remove the drafts of `out` whose writers were killed: nobody holds their locks."""
    for draft in _beside(out, "tmp"):
        with locked(draft) as held:
            if held:
                shutil.rmtree(draft, ignore_errors=True)


def _beside(out: Path, suffix: str) -> list[Path]:
    """Find what `mkdtemp` made for `out`: with eight characters in between, for `out.int8` has such folders too."""
    return sorted(out.parent.glob(f".{glob.escape(out.name)}.{'?' * 8}.{suffix}"))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)


def _hash_of_hashes(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()
