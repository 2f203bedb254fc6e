"""An unfinished training is continued by the request that began it, and by no other."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import CORPUS, PARENT, make
from theseus_deploy.artifact import Artifact
from theseus_deploy.configs import FinetuneConfig
from theseus_deploy.disk import locked
from theseus_deploy.errors import ArtifactError, TrainingError
from theseus_deploy.progress import Silent
from theseus_deploy.workspace import COMPLETE, REQUEST, Workspace, unfinished


class Listener(Silent):
    """Keep what is said."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def say(self, message: str) -> None:
        """Keep the message."""
        self.said.append(message)


def request(**config: Any) -> dict[str, Any]:
    return Artifact.request("finetune", FinetuneConfig(**config), PARENT, None)


def begin(out: Path, overwrite: bool = False, **config: Any) -> Workspace:
    return Workspace.open(out, request(**config), overwrite)


def refuse(out: Path, overwrite: bool = False, **config: Any) -> str:
    with pytest.raises(ArtifactError) as caught:
        begin(out, overwrite, **config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mark(workspace: Workspace) -> Path:
    """Leave something in the workspace that shows whether it was continued."""
    path = workspace.path / "checkpoint-10"
    path.mkdir()
    (path / COMPLETE).touch()
    return path


def test_a_training_begins_beside_its_outcome(tmp_path: Path) -> None:
    workspace = begin(tmp_path / "deep" / "out")
    assert workspace.path == tmp_path / "deep" / "out.partial"
    assert [path.name for path in workspace.path.iterdir()] == [REQUEST]
    assert begin(tmp_path / "model.v2").path == tmp_path / "model.v2.partial"


def test_the_folder_one_stands_in_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(ArtifactError, match=r"^\. exists already"):
        Workspace.finished(Path(), request(), overwrite=False, reuse=False)


def test_the_same_request_resumes(tmp_path: Path) -> None:
    left = mark(begin(tmp_path / "out", report_to=("wandb",)))
    assert begin(tmp_path / "out", report_to=("wandb",)).path == left.parent
    assert left.exists()


def test_another_request_is_refused_with_the_value_that_differs(tmp_path: Path) -> None:
    left = mark(begin(tmp_path / "out", lr=1e-4))
    assert refuse(tmp_path / "out", lr=2e-4) == (
        f"{left.parent} is an unfinished run with config.lr = 0.0001, not 0.0002; repeat that command to resume it, "
        "or discard it with --overwrite"
    )
    assert "config.max_steps = None, not 5" in refuse(tmp_path / "out", lr=1e-4, max_steps=5)
    assert left.exists()


def test_a_key_of_another_version_is_a_difference(tmp_path: Path) -> None:
    Workspace.open(tmp_path / "out", {"stage": "finetune", "config": {"old": None}}, overwrite=False)
    with pytest.raises(ArtifactError, match=r"config\.old = None, not None"):
        Workspace.open(tmp_path / "out", {"stage": "finetune", "config": {}}, overwrite=False)


def test_overwriting_discards_another_request(tmp_path: Path) -> None:
    left = mark(begin(tmp_path / "out", lr=1e-4))
    said: list[str] = []
    Workspace.open(tmp_path / "out", request(lr=2e-4), overwrite=True, progress=Listener(said))
    assert not left.exists()
    assert said == [f"discarding {left.parent}, an unfinished run with config.lr = 0.0001, not 0.0002"]
    mark(begin(tmp_path / "out", lr=2e-4))


def test_a_request_that_cannot_be_read_is_another_one(tmp_path: Path) -> None:
    workspace = begin(tmp_path / "out")
    for damage in ("{", "[]", "\xff"):
        (workspace.path / REQUEST).write_text(damage, "latin-1")
        assert "or discard it with --overwrite" in refuse(tmp_path / "out")
    begin(tmp_path / "out", overwrite=True)
    begin(tmp_path / "out")


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "out.partial"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        assert "is in the way and was not written by theseus; move it, or choose another --out" in refuse(
            tmp_path / "out", overwrite
        )
    assert (foreign / "thesis.tex").exists()
    (tmp_path / "two.partial").write_text("x")
    assert "is in the way" in refuse(tmp_path / "two", True)


def test_a_beginning_that_was_killed_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    begin(tmp_path / "out").close()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / f".{REQUEST}.k2j1").write_text("{")
    assert [path.name for path in begin(tmp_path / "out").path.iterdir()] == [REQUEST]


def test_a_place_that_is_taken_is_refused_before_the_training(tmp_path: Path) -> None:
    make(tmp_path / "out")
    assert "exists already" in refuse(tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()
    begin(tmp_path / "out", overwrite=True)
    assert Artifact.exists(tmp_path / "out")


def test_a_place_that_cannot_be_written_is_refused_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot be written (Not a directory); free space or choose another --out" in refuse(
        tmp_path / "file" / "out"
    )


def test_the_last_checkpoint_is_the_newest_that_is_whole(tmp_path: Path) -> None:
    workspace = begin(tmp_path / "out")
    assert workspace.last_checkpoint() is None
    for step, whole in ((9, True), (10, True), (200, True), (1000, False)):
        folder = workspace.path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x")
        if whole:
            (folder / COMPLETE).touch()
    assert workspace.last_checkpoint() == workspace.path / "checkpoint-200"


@pytest.mark.parametrize("lr", [5e-5, 1e-3])
def test_only_the_training_of_what_is_there_is_removed_beside_it(tmp_path: Path, lr: float) -> None:
    made, asked = make(tmp_path / "out"), Artifact.request("finetune", FinetuneConfig(), PARENT, CORPUS)
    left = tmp_path / "out.partial"
    left.mkdir()
    (left / REQUEST).write_text(json.dumps(Artifact.request("finetune", FinetuneConfig(lr=lr), PARENT, CORPUS)))
    kept = Workspace.finished(made.path, asked, overwrite=False, reuse=True)
    assert kept is not None
    assert kept.path == made.path
    assert left.exists() == (lr != FinetuneConfig.lr)


def test_a_training_that_goes_on_beside_an_outcome_is_left_alone(tmp_path: Path) -> None:
    made, asked = make(tmp_path / "out"), Artifact.request("finetune", FinetuneConfig(), PARENT, CORPUS)
    left = tmp_path / "out.partial"
    left.mkdir()
    (left / REQUEST).write_text(json.dumps(asked))
    with locked(left):  # as another process does that is to replace it
        assert Workspace.finished(made.path, asked, overwrite=False, reuse=True)
    assert left.exists()
    assert Workspace.finished(made.path, asked, overwrite=False, reuse=True)
    assert not left.exists()


def test_what_is_not_ours_beside_an_outcome_is_left_alone(tmp_path: Path) -> None:
    made, asked = make(tmp_path / "out"), Artifact.request("finetune", FinetuneConfig(), PARENT, CORPUS)
    foreign = tmp_path / "out.partial" / "thesis.tex"
    foreign.parent.mkdir()
    foreign.write_text("years of work")
    with pytest.raises(ArtifactError, match="is in the way and was not written by theseus; move it"):
        Workspace.finished(made.path, asked, overwrite=False, reuse=True)
    assert foreign.exists()


def test_a_training_that_is_killed_while_it_is_removed_is_still_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = begin(tmp_path / "out", lr=1e-4)
    mark(workspace)
    (workspace.path / "log.jsonl").touch()
    remove = shutil.rmtree

    def killed(path: Path) -> None:
        if path != workspace.path:
            remove(path)
            return
        (path / REQUEST).unlink()  # in no order that is known
        raise KeyboardInterrupt

    with monkeypatch.context() as kill:
        kill.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(tmp_path / "out", overwrite=True, lr=2e-4)
    assert [path.name for path in begin(tmp_path / "out", lr=2e-4).path.iterdir()] == [REQUEST]


def test_what_is_left_of_a_training_that_was_discarded_is_not_resumed_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = begin(tmp_path / "out", lr=1e-4)
    (mark(workspace) / "optimizer.pt").touch()

    def killed(path: Path) -> None:
        (path / "optimizer.pt").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as kill:
        kill.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(tmp_path / "out", overwrite=True, lr=2e-4)
    assert begin(tmp_path / "out", lr=1e-4).last_checkpoint() is None


def test_a_finished_training_leaves_nothing(tmp_path: Path) -> None:
    workspace = begin(tmp_path / "out")
    mark(workspace)
    workspace.close()
    assert list(tmp_path.iterdir()) == []


def test_one_process_trains_in_a_workspace_and_the_next_waits_or_goes_elsewhere(tmp_path: Path) -> None:
    other = "import sys; from pathlib import Path; from theseus_deploy.workspace import Workspace\n"
    other += "with Workspace.held(Path(sys.argv[1]), {}, overwrite=False): print('held', flush=True); sys.stdin.read()"
    line = f"{tmp_path / 'out.partial'} is where another process trains now; wait for it, or choose another --out"
    command = [sys.executable, "-c", other, tmp_path / "out"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        left = mark(Workspace(tmp_path / "out.partial"))
        for asked, overwrite in (({}, False), ({"stage": "another"}, True)):
            with pytest.raises(ArtifactError) as caught, Workspace.held(tmp_path / "out", asked, overwrite):
                pass
            assert str(caught.value) == line
            assert left.exists()
        process.kill()
    with Workspace.held(tmp_path / "out", {}, overwrite=False) as workspace:
        assert left.parent == workspace.path


def test_a_training_that_fails_leaves_what_can_be_resumed_and_no_empty_folder(tmp_path: Path) -> None:
    def fail(after: Callable[[Workspace], object], error: BaseException) -> None:
        with Workspace.held(tmp_path / "out", {}, overwrite=False) as workspace:
            after(workspace)
            raise error

    def half(workspace: Workspace) -> None:
        (workspace.path / "checkpoint-10").mkdir()  # not whole
        (workspace.path / "runs").mkdir()  # of a tracker

    for after, kept in ((str, False), (half, False), (Workspace.close, False), (mark, True)):
        for error in (TrainingError("the loss is nan"), KeyboardInterrupt()):
            shutil.rmtree(tmp_path / "out.partial", ignore_errors=True)
            with pytest.raises(type(error)) as caught:
                fail(after, error)
            assert caught.value is error
            assert (tmp_path / "out.partial").exists() == kept


def test_what_belongs_to_an_unfinished_training_is_known(tmp_path: Path) -> None:
    workspace = begin(tmp_path / "out")
    inside = mark(workspace)
    for path in (tmp_path / "out", workspace.path, inside):
        assert unfinished(path) == workspace.path
    for path in (tmp_path, tmp_path / "other", inside / "deeper" / "still", Path(), Path(".."), Path("/")):
        assert unfinished(path) is None
    (tmp_path / "out").mkdir()  # the run was to replace it, and it is there until then
    assert unfinished(tmp_path / "out") is None
    (tmp_path / "mine.partial").mkdir()
    assert unfinished(tmp_path / "mine") is unfinished(tmp_path / "mine.partial") is None
