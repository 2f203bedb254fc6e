"""A folder of ours is complete or absent, whatever happens, and says what became of it since."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from theseus_deploy.artifact import (
    MANIFEST,
    Artifact,
    Draft,
    Manifest,
    Parent,
    Source,
    claim,
    fingerprint,
    locked,
    scratch,
    write_atomically,
)
from theseus_deploy.configs import FinetuneConfig
from theseus_deploy.data import Corpus
from theseus_deploy.errors import ArtifactError
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task

ROOT = Path(__file__).parents[1]
CORPUS = Corpus("tweets.csv", ("text",), "mood", {"train": Split("train", [("a",), ("b",)], ["x", "y"])})
PARENT = Parent("encoder", "0" * 64)
CONTRACT = {
    "schema", "kind", "stage", "config", "parent", "task", "files", "parameters", "layers", "precision", "module_map",
    "scores", "versions", "machine", "created",
}  # fmt: skip
ADDED = {"data", "receipt"}


def manifest(**changes: Any) -> Manifest:
    facts = {
        "kind": "checkpoint", "stage": "finetune", "config": FinetuneConfig().to_json(), "parent": PARENT,
        "data": Source.of(CORPUS), "task": Task("single-label", ("x", "y"), ("text",), "mood", metric="f1"),
        "parameters": 7, "layers": 2, "scores": {"validation": {"accuracy": 0.5}},
    }  # fmt: skip
    return Manifest(**{**facts, **changes})


def fill(draft: Draft, weights: bytes = b"weights", **changes: Any) -> None:
    (draft.path / "model.safetensors").write_bytes(weights)
    (draft.path / "config.json").write_text("{}")
    (draft.path / "sub").mkdir()
    (draft.path / "sub" / "words.txt").write_text("é")
    draft.finish(manifest(**changes))


def make(out: Path, weights: bytes = b"weights", overwrite: bool = False, **changes: Any) -> Artifact:
    with Artifact.writing(out, overwrite) as draft:
        fill(draft, weights, **changes)
    return Artifact.open(out)


def refuse(work: Callable[[], object]) -> str:
    with pytest.raises(ArtifactError) as caught:
        work()
    message = str(caught.value)
    assert "\n" not in message
    return message


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    artifact = make(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(artifact.path) == ["config.json", "model.safetensors", "sub", MANIFEST]
    assert artifact.manifest == manifest()
    content = json.loads((artifact.path / MANIFEST).read_text("utf-8"))
    assert content.keys() == CONTRACT | ADDED
    assert content["schema"] == 1
    assert content["parent"] == {"path": "encoder", "sha256": "0" * 64}
    assert content["task"].keys() == {"kind", "labels", "text", "label", "max_length", "metric"}
    assert content["machine"].keys() == {"cpu", "isa", "cores"}
    assert content["data"] == {"ref": "tweets.csv", "sha256": CORPUS.sha256, "rows": {"train": 2}}
    assert content["versions"]["torch"]
    assert content["created"].endswith("+00:00")


def test_every_file_is_hashed(tmp_path: Path) -> None:
    artifact = make(tmp_path / "out")
    assert artifact.files == {
        "config.json": {"sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "bytes": 2},
        "model.safetensors": {
            "sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
            "bytes": 7,
        },
        "sub/words.txt": {"sha256": "4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c", "bytes": 2},
    }
    assert artifact.bytes == 11
    assert artifact.check_files() == []


def test_files_are_readable_by_all(tmp_path: Path) -> None:
    with Artifact.writing(tmp_path / "out") as draft:
        (draft.path / "weights").write_bytes(b"x")
        (draft.path / "weights").chmod(0o600)
        draft.finish(manifest())
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {0o644}


def fail_in_the_middle(out: Path, overwrite: bool = False) -> None:
    with Artifact.writing(out, overwrite) as draft:
        (draft.path / "weights").write_bytes(b"x")
        raise ZeroDivisionError


def fail_at_the_end(out: Path, overwrite: bool = False) -> None:
    with Artifact.writing(out, overwrite) as draft:
        fill(draft, b"new")
        raise ZeroDivisionError


@pytest.mark.parametrize("work", [fail_in_the_middle, fail_at_the_end])
def test_an_exception_leaves_nothing(tmp_path: Path, work: Callable[[Path], None]) -> None:
    with pytest.raises(ZeroDivisionError):
        work(tmp_path / "deep" / "out")
    assert names(tmp_path / "deep") == []


def test_a_draft_that_was_never_finished_is_a_bug_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="was never finished"), Artifact.writing(tmp_path / "out") as draft:
        (draft.path / "weights").write_bytes(b"x")
    assert names(tmp_path) == []


def test_a_score_that_is_no_number_never_reaches_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        make(tmp_path / "out", scores={"validation": {"accuracy": float("nan")}})
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["ours", "foreign", "empty", "file"])
def test_a_place_that_is_taken_is_refused(tmp_path: Path, kind: str) -> None:
    out = occupy(tmp_path / "out", kind)
    before = snapshot(tmp_path)
    message = refuse(lambda: make(out))
    assert message == f"{out} exists already; choose another --out, or replace it with --overwrite"
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("kind", ["ours", "empty"])
def test_overwriting_replaces_what_is_ours_or_empty(tmp_path: Path, kind: str) -> None:
    artifact = make(occupy(tmp_path / "out", kind), b"new", overwrite=True)
    assert (artifact.path / "model.safetensors").read_bytes() == b"new"
    assert artifact.check_files() == []
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["foreign", "file"])
def test_overwriting_leaves_alone_what_is_not_ours(tmp_path: Path, kind: str) -> None:
    out = occupy(tmp_path / "out", kind)
    before = snapshot(tmp_path)
    assert "was not written by theseus, so --overwrite leaves it alone" in refuse(lambda: make(out, overwrite=True))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("where", [".", ".."])
def test_the_folder_we_stand_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    make(tmp_path / "out")
    (tmp_path / "out" / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "out" if where == "." else tmp_path / "out" / "inner")
    assert "is where this command runs" in refuse(lambda: make(Path(where), overwrite=True))


@pytest.mark.parametrize("work", [fail_in_the_middle, fail_at_the_end])
def test_an_overwriting_that_fails_keeps_the_old(tmp_path: Path, work: Callable[[Path, bool], None]) -> None:
    old = make(tmp_path / "out", b"old")
    with pytest.raises(ZeroDivisionError):
        work(old.path, True)
    assert Artifact.open(old.path).files == old.files
    assert old.check_files() == []
    assert names(tmp_path) == ["out"]


def test_what_another_process_finished_meanwhile_is_kept(tmp_path: Path) -> None:
    def lose_the_race() -> None:
        with Artifact.writing(tmp_path / "out") as draft:
            fill(draft, b"late")
            make(tmp_path / "out", b"first")

    assert "exists already" in refuse(lose_the_race)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"first"
    assert names(tmp_path) == ["out"]


def test_a_file_in_the_place_of_a_parent_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out", tmp_path / ("x" * 300)):
        assert "cannot be written (" in refuse(lambda out=out: make(out))
    assert names(tmp_path) == ["file"]


KILLED = """
import sys, time
from pathlib import Path
from tests.test_artifact import Artifact, manifest

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


def test_a_crash_in_the_middle_of_a_replacement_loses_nothing(tmp_path: Path) -> None:
    out, request = tmp_path / "out", Artifact.request("finetune", FinetuneConfig(), PARENT, CORPUS)
    old = make(out)
    for recover in (lambda: Artifact.kept(out, request), lambda: refuse(lambda: claim(out, overwrite=False))):
        out.rename(tmp_path / ".out.x1.old")  # the first of the two renames, and then the power fails
        assert recover()
        assert names(tmp_path) == ["out"]
        assert Artifact.open(out).files == old.files
    out.rename(tmp_path / ".out.x1.old")
    make(out, b"new", overwrite=True)
    assert names(tmp_path) == ["out"]


def test_what_a_crash_left_half_removed_is_not_put_back(tmp_path: Path) -> None:
    (make(tmp_path / ".out.x1.old").path / "model.safetensors").unlink()
    (make(tmp_path / ".out.x2.old").path / MANIFEST).write_text("{")
    (make(tmp_path / ".out.x3.old").path / MANIFEST).unlink()
    claim(tmp_path / "out", overwrite=False)
    assert not (tmp_path / "out").exists()
    make(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(make(tmp_path / "far").path)
    for overwrite in (False, True):
        with pytest.raises(ArtifactError, match=r"link is a symbolic link.*; give the folder it leads to"):
            make(tmp_path / "link", overwrite=overwrite)
    assert names(tmp_path) == ["far", "link"]


def test_leftovers_of_other_places_are_left_alone(tmp_path: Path) -> None:
    for name in (".out2.x.tmp", ".out.x.y", ".o.x.tmp", "out.tmp"):
        (tmp_path / name).mkdir()
    make(tmp_path / "out")
    make(tmp_path / "[out]")
    assert names(tmp_path) == [".o.x.tmp", ".out.x.y", ".out2.x.tmp", "[out]", "out", "out.tmp"]


FULL = """
import sys
from pathlib import Path
from tests.test_artifact import Artifact, ArtifactError, fill
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


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json was changed (another sha256)"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"weigh"), "model.safetensors has 5 bytes, not 7"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "extra.bin").write_bytes(b""), "extra.bin was added"),
        (lambda folder: (folder / "sub" / "words.txt").write_text("e!"), "sub/words.txt was changed (another sha256)"),
        (lambda folder: (folder / "sub" / MANIFEST).write_text("{}"), f"sub/{MANIFEST} was added"),
    ],
)  # fmt: skip
def test_what_was_done_to_a_file_is_found(tmp_path: Path, damage: Callable[[Path], object], problem: str) -> None:
    artifact = make(tmp_path / "out")
    damage(artifact.path)
    assert artifact.check_files() == [problem]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"schema": 2}', "has schema 2; this version reads 1: upgrade theseus-deploy"),
        ("{", "is damaged (Expecting property name"),
        ("[]", "is damaged ("),
        ("{}", "is damaged (it has no 'schema')"),
        ('{"schema": 1}', "is damaged (it has no 'files')"),
        (b"\xff", "is damaged ('utf-8' codec can't decode"),
        ({"files": []}, "is damaged ("),
        ({"files": {"a": 1}}, "is damaged ("),
        ({"task": {"kind": "poetry", "labels": [], "text": [], "label": "", "max_length": 8}}, "'poetry' is unknown"),
        ({"parent": {"path": "x"}}, "is damaged ("),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    artifact = make(tmp_path / "out")
    path = artifact.path / MANIFEST
    if isinstance(content, dict):
        content = json.dumps({**json.loads(path.read_text()), **content})
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert reason in refuse(lambda: Artifact.open(artifact.path))


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    assert f"has no readable {MANIFEST}; give a folder that theseus wrote" in refuse(lambda: Artifact.open(tmp_path))
    assert not Artifact.exists(tmp_path)


def test_a_folder_is_kept_for_the_same_request_only(tmp_path: Path) -> None:
    def kept(out: Path, **config: Any) -> bool:
        request = Artifact.request("finetune", FinetuneConfig(**config), parent, corpus)
        return Artifact.kept(out, request) is not None

    parent, corpus = PARENT, CORPUS
    artifact = make(tmp_path / "out")
    assert kept(artifact.path)
    assert not kept(artifact.path, seed=2)
    assert not kept(tmp_path / "elsewhere")
    parent = Parent("another name of the same", PARENT.sha256)
    assert kept(artifact.path)
    parent = Parent(PARENT.path, "1" * 64)
    assert not kept(artifact.path)
    parent, corpus = PARENT, Corpus("tweets.csv", ("text",), "mood", {"train": Split("train", [("a",)], ["x"])})
    assert not kept(artifact.path)
    corpus = CORPUS
    (artifact.path / "config.json").write_text("[]")
    assert not kept(artifact.path)


def test_a_stage_without_data_keeps_too(tmp_path: Path) -> None:
    artifact = make(tmp_path / "out", data=None)
    assert artifact.answers(Artifact.request("finetune", FinetuneConfig(), PARENT, None))
    assert not artifact.answers(Artifact.request("finetune", FinetuneConfig(), PARENT, CORPUS))
    assert not artifact.answers(Artifact.request("compress", FinetuneConfig(), PARENT, None))


def test_a_fingerprint_is_of_the_content_and_of_nothing_else(tmp_path: Path) -> None:
    ours = make(tmp_path / "one").path
    shutil.copytree(ours, tmp_path / "deep" / "two")
    assert fingerprint(ours) == fingerprint(tmp_path / "deep" / "two") == fingerprint(make(tmp_path / "three").path)
    assert fingerprint(make(tmp_path / "four", b"others").path) != fingerprint(ours)
    theirs = tmp_path / "deep" / "two"
    (theirs / MANIFEST).unlink()
    assert fingerprint(theirs) == fingerprint(ours)
    (theirs / "config.json").rename(theirs / "konfig.json")
    assert fingerprint(theirs) != fingerprint(ours)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.json"
    write_atomically(path, "old")
    no_text: Any = b"new"
    with pytest.raises(TypeError):
        write_atomically(path, no_text)
    assert path.read_text() == "old"
    write_atomically(path, '["donn\udce9es"]')
    assert json.loads(path.read_text("utf-8")) == ["donn\udce9es"]
    write_atomically(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert names(path.parent) == ["report.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def occupy(out: Path, kind: str) -> Path:
    """Put something in a place, and return the place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if kind == "ours":
        make(out, b"old")
    elif kind == "foreign":
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
    elif kind == "empty":
        out.mkdir()
    elif kind == "file":
        out.write_text("x")
    return out


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


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
