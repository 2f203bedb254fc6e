"""A model of the Hub comes whole; a Hub that cannot be reached is one quick error."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest
import torch
from safetensors.torch import load_file

from tests.artifacts import manifest
from tests.checkpoints import MOODS, refuse
from tests.conftest import make_bert, make_tokenizer
from tests.hub import Hub
from theseus_deploy.artifact import Artifact
from theseus_deploy.models.checkpoint import open_checkpoint, save_checkpoint


@pytest.mark.parametrize("ref", ["not a name!", "a--b", "owner/..", "x" * 200])
def test_what_is_no_hub_id_is_refused(ref: str) -> None:
    assert f"{ref} is no local folder, and the Hub could not give it (" in refuse(lambda: open_checkpoint(ref))


REACH = """
import sys, time
from theseus_deploy.errors import ModelError
from theseus_deploy.models.checkpoint import open_checkpoint
for ref in sys.argv[1:]:
    began = time.monotonic()
    try:
        open_checkpoint(ref)
    except ModelError as error:
        print(f"{time.monotonic() - began:.0f} {error}")
"""


class Refusal(BaseRequestHandler):
    """A proxy that lets nothing through."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")


@pytest.fixture
def proxy() -> Iterator[str]:
    with ThreadingTCPServer(("127.0.0.1", 0), Refusal) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("how", ["down", "forbidden", "offline"])
def test_a_hub_that_cannot_be_reached_is_one_quick_error(how: str, proxy: str, tmp_path: Path) -> None:
    ways = {
        "down": {"HF_ENDPOINT": "http://127.0.0.1:9"},
        "forbidden": {"HTTPS_PROXY": proxy},
        "offline": {"HF_HUB_OFFLINE": "1"},
    }
    settings = {**os.environ, "HF_HOME": str(tmp_path), **ways[how]}
    refs = ["bert-base-uncased", "textattack/bert-base-uncased-MRPC"]
    command = [sys.executable, "-c", REACH, *refs]
    found = subprocess.run(command, env=settings, capture_output=True, text=True, check=True, timeout=120)
    assert found.stderr == ""
    for ref, line in zip(refs, found.stdout.splitlines(), strict=True):
        seconds, _, message = line.partition(" ")
        assert int(seconds) < 10
        assert message.startswith(f"{ref} is no local folder, and the Hub could not give it (")
        assert message.endswith("check the name and the network, or give a folder")


class ModelHub(Hub):
    """A Hub of models: what is asked of them differs from data sets in the path alone."""

    def do_GET(self) -> None:  # noqa: N802
        asks = "/api/" in self.path
        self.path = self.path.replace("/api/models/", "/api/datasets/") if asks else f"/datasets{self.path}"
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815


def fetch(code: str, home: Path) -> str:
    """Run code in a process whose Hub is on this machine; return what it prints."""
    with ThreadingHTTPServer(("127.0.0.1", 0), ModelHub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1",
                    "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-c", f"from theseus_deploy.models.checkpoint import open_checkpoint; {code}"],
            env={**os.environ, **settings}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        server.shutdown()
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.thorough
def test_a_model_that_has_old_weights_alone_comes_with_them_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(make_bert(), make_tokenizer(), tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    monkeypatch.setitem(Hub.data_sets, "owner/old", {path.name: path.read_bytes() for path in tmp_path.iterdir()})
    code = "print(open_checkpoint('owner/old').trained().num_parameters())"
    assert fetch(code, tmp_path / "home") == str(make_bert().num_parameters())


def test_a_checkpoint_of_ours_comes_whole_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Artifact.writing(tmp_path / "out") as draft:
        save_checkpoint(make_bert(labels=3), make_tokenizer(), draft.path)
        (draft.path / "log.jsonl").write_text("{}\n")
        (draft.path / "runs").mkdir()
        (draft.path / "runs" / "events.0").write_text("x")
        draft.finish(manifest(task=MOODS))
    out = tmp_path / "out"
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setitem(Hub.data_sets, "owner/model", {**files, ".gitattributes": b"x", "pytorch_model.bin": b"y"})
    found = Path(fetch("print(open_checkpoint('owner/model').path)", tmp_path / "home"))
    assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == files.keys()


@pytest.mark.parametrize("ref", ["./missing", "../missing", "~/missing", "a/b/c"])
def test_a_path_that_is_not_there_is_refused(ref: str) -> None:
    assert refuse(lambda: open_checkpoint(ref)) == f"{ref} does not exist; give a model folder or a Hub id"


def test_a_builtin_mistyped_is_suggested() -> None:
    assert refuse(lambda: open_checkpoint("demo:minlm")).endswith("did you mean 'demo:minilm'?")
