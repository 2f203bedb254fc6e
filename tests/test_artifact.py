"""A folder of ours is complete or absent, takes no place of others, and says what became of it since."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import CORPUS, PARENT, fill, make, manifest, names, occupy, refuse, snapshot
from theseus_deploy.artifact import MANIFEST, Artifact, Parent, claim, fingerprint
from theseus_deploy.configs import FinetuneConfig
from theseus_deploy.data import Corpus
from theseus_deploy.disk import write_atomically
from theseus_deploy.errors import ArtifactError
from theseus_deploy.splits import Split
from theseus_deploy.workspace import Workspace


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


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_place_that_cannot_be_moved_is_one_line_and_keeps_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    old, move = make(tmp_path / "out", b"old"), Path.replace

    def refuse_to_move(path: Path, target: Path) -> Path:  # a mount point, or a lower layer of a container's image
        if path == old.path:
            raise OSError(number, os.strerror(number), str(path))
        return move(path, target)

    monkeypatch.setattr(Path, "replace", refuse_to_move)
    assert f"{old.path} cannot be written ({os.strerror(number)})" in refuse(lambda: make(old.path, overwrite=True))
    assert old.check_files() == []
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(not Path("/dev/shm").is_mount(), reason="nothing is mounted there")
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_mount_point_is_refused_before_any_work(overwrite: bool) -> None:
    assert refuse(lambda: claim(Path("/dev/shm"), overwrite)) == (
        "/dev/shm is a mount point, which cannot be replaced; give a folder in it: /dev/shm/model"
    )


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


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has a file system that takes no folders")
@pytest.mark.parametrize("out", ["/proc/out", "/proc/deep/out", "out", "deep/out"])
@pytest.mark.parametrize("work", [make, lambda out: Workspace.open(out, {}, overwrite=False)])
def test_a_parent_that_takes_no_folders_is_one_line(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[Path], object], out: str
) -> None:
    monkeypatch.chdir("/proc")
    message = refuse(lambda: work(Path(out)))
    assert message == f"{out} cannot be written (No such file or directory); free space or choose another --out"


def test_links_that_lead_in_a_circle_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for out in (tmp_path / "circle" / "out", tmp_path / "circle" / "deep" / "out"):
        message = refuse(lambda out=out: claim(out, overwrite=False))
        assert "cannot be written (Too many levels of symbolic links)" in message


@pytest.mark.parametrize("missing", ["draft/weights", "elsewhere/weights", "weights"])
def test_a_file_that_is_missing_elsewhere_is_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def work() -> None:
        with Artifact.writing(Path("out")) as draft:
            Path(missing.replace("draft", str(draft.path))).read_bytes()

    with pytest.raises(FileNotFoundError, match="weights"):
        work()


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


def test_what_somebody_added_is_no_reason_to_make_it_again(tmp_path: Path) -> None:
    artifact = make(tmp_path / "out")
    (artifact.path / "NOTES.md").write_text("mine")
    assert artifact.is_whole()
    (artifact.path / "config.json").unlink()
    assert not artifact.is_whole()


def test_a_folder_of_a_longer_name_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "out")
    theirs = tmp_path / ".out.int8.abcd1234.old"
    make(tmp_path / "int8").path.rename(theirs)
    make(tmp_path / "out", overwrite=True)
    assert theirs.is_dir()
    shutil.rmtree(tmp_path / "out")
    assert Artifact.kept(tmp_path / "out", {}) is None
    assert theirs.is_dir()


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


def test_a_model_of_anybodys_is_the_files_that_a_model_consists_of(tmp_path: Path) -> None:
    theirs = make(tmp_path / "theirs").path
    (theirs / MANIFEST).unlink()
    before = fingerprint(theirs)
    assert before == fingerprint(shutil.copytree(theirs, tmp_path / "deep" / "copy"))
    for beside in ("README.md", ".git/index", "onnx/model.onnx"):
        (theirs / beside).parent.mkdir(exist_ok=True)
        (theirs / beside).write_text("new")
        assert fingerprint(theirs) == before
    for name in ("vocab.txt", "tokenizer.json"):
        (theirs / name).write_text("new")
        assert fingerprint(theirs) != before
        (theirs / name).unlink()
    (theirs / "pytorch_model.bin").write_text("old")
    assert fingerprint(theirs) == before  # a download leaves them out, where there are others
    (theirs / "model.safetensors").unlink()
    old = fingerprint(theirs)
    (theirs / "pytorch_model.bin").write_text("older")
    assert len({before, old, fingerprint(theirs)}) == 3
    (theirs / "pytorch_model.bin").unlink()
    (theirs / "model.safetensors").write_bytes(b"weights")
    assert fingerprint(theirs) == before
    (theirs / "config.json").rename(theirs / "konfig.json")
    assert fingerprint(theirs) != before


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
