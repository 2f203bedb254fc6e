"""A folder of ours is complete or absent, though a process is killed, the power fails or the disk is full."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import CORPUS, PARENT, make, names, occupy, refuse, snapshot
from theseus_deploy.artifact import MANIFEST, Artifact, claim, scratch
from theseus_deploy.benchmark.process import Worker
from theseus_deploy.configs import FinetuneConfig
from theseus_deploy.disk import locked
from theseus_deploy.errors import ArtifactError

ROOT = Path(__file__).parents[1]
KILLED = """
import sys, time
from pathlib import Path
from tests.artifacts import Artifact, manifest

def here(point):
    print(point, flush=True)
    if point == sys.argv[2]:
        time.sleep(60)

with Artifact.writing(Path(sys.argv[1]), overwrite=True) as draft:
    here("begun")
    with (draft.path / "model.safetensors").open("wb") as file:
        for _ in range(8):
            file.write(b"new" * 100_000)
            file.flush()
        here("writing")
    here("written")
    draft.finish(manifest())
    here("finished")
"""


@pytest.mark.parametrize("point", ["begun", "writing", "written", "finished"])
def test_a_killed_process_leaves_the_place_as_it_was(tmp_path: Path, point: str) -> None:
    for kind in ("absent", "ours"):
        out = occupy(tmp_path / kind / "out", kind)
        before = snapshot(out)
        kill_at(point, out)
        assert snapshot(out) == before
        assert [name for name in names(tmp_path / kind) if name.endswith(".tmp")]
        again = make(out, b"again", overwrite=True)
        assert again.check_files() == []
        assert names(tmp_path / kind) == ["out"]


def test_the_draft_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running("written", out):
        make(out, b"mine")
        assert [name for name in names(tmp_path) if name.endswith(".tmp")]
    assert (out / "model.safetensors").read_bytes() == b"mine"


SCRATCH = """
import sys, tempfile, time
from theseus_deploy.artifact import scratch
tempfile.tempdir = sys.argv[1]
with scratch() as place:
    (place / "model.onnx").write_text("x")
    print(sys.argv[2], flush=True)
    time.sleep(60)
"""


def test_what_nobody_keeps_goes_with_the_next_process_at_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with running("filled", tmp_path, SCRATCH):
        [living] = names(tmp_path)
        with scratch() as place:
            assert sorted(names(tmp_path)) == sorted([living, place.name])
        assert names(tmp_path) == [living]
    assert names(tmp_path) == [living]  # killed
    with scratch() as place:
        assert names(tmp_path) == [place.name]
    assert names(tmp_path) == []


def test_a_draft_that_is_swept_before_it_has_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may come between the making of a folder and its lock, and take it for a dead one's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    swept: list[Path] = []

    def late(folder: Path) -> Any:
        if not swept:
            swept.append(folder)
            folder.rmdir()
        return locked(folder)

    monkeypatch.setattr("theseus_deploy.artifact.locked", late)
    with scratch() as place:
        assert place.is_dir()
        assert place != swept[0]
    assert names(tmp_path) == []


def test_a_temporary_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    said = (
        r"no temporary file can be written \(No such file or directory\); free space, or name another folder in TMPDIR"
    )
    with pytest.raises(ArtifactError, match=said), scratch():
        pass
    with pytest.raises(ArtifactError, match=said):
        Worker("x", threads=1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(FileNotFoundError), scratch():
        (tmp_path / "nothing").read_text()  # what goes wrong within is told by whoever does it


def test_a_crash_in_the_middle_of_a_replacement_loses_nothing(tmp_path: Path) -> None:
    out, request = tmp_path / "out", Artifact.request("finetune", FinetuneConfig(), PARENT, CORPUS)
    old = make(out)
    for recover in (lambda: Artifact.kept(out, request), lambda: refuse(lambda: claim(out, overwrite=False))):
        out.rename(tmp_path / ".out.abcdefg1.old")  # the first of the two renames, and then the power fails
        assert recover()
        assert names(tmp_path) == ["out"]
        assert Artifact.open(out).files == old.files
    out.rename(tmp_path / ".out.abcdefg1.old")
    make(out, b"new", overwrite=True)
    assert names(tmp_path) == ["out"]


def test_what_a_crash_left_half_removed_is_not_put_back(tmp_path: Path) -> None:
    (make(tmp_path / ".out.abcdefg1.old").path / "model.safetensors").unlink()
    (make(tmp_path / ".out.abcdefg2.old").path / MANIFEST).write_text("{")
    (make(tmp_path / ".out.abcdefg3.old").path / MANIFEST).unlink()
    claim(tmp_path / "out", overwrite=False)
    assert not (tmp_path / "out").exists()
    make(tmp_path / "out")
    assert names(tmp_path) == ["out"]


FULL = """
import sys
from pathlib import Path
from tests.artifacts import Artifact, ArtifactError, fill
try:
    with Artifact.writing(Path(sys.argv[1])) as draft:
        fill(draft, b"x" * (64 << 20))
except ArtifactError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=8m tmpfs "$1" && "$2" -c "$0" "$1/out" && ls -A "$1"'
    namespace = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "mount", "-t", "tmpfs", "x", tmp_path]).returncode:
        pytest.skip("no file system can be mounted here")
    command = [*namespace, "sh", "-c", script, FULL, tmp_path, sys.executable]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [
        f"{tmp_path}/out cannot be written (No space left on device); free space or choose another --out"
    ]


def test_a_limit_on_file_sizes_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    pytest.importorskip("resource", reason="only Unix limits file sizes")
    command = [sys.executable, "-c", limit + FULL, tmp_path / "out"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == f"{tmp_path}/out cannot be written (File too large); free space or choose another --out\n"
    assert names(tmp_path) == []


class running:  # noqa: N801
    """A process that writes an artifact to `out` and waits at `point`; it is killed at the end."""

    def __init__(self, point: str, out: Path, script: str = KILLED) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, out, point], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.point = point

    def __enter__(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == self.point:
                return
        raise AssertionError(f"the process ended before {self.point}")

    def __exit__(self, *_: object) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL
        assert self.process.stdout is not None
        self.process.stdout.close()


def kill_at(point: str, out: Path) -> None:
    with running(point, out):
        pass
