"""An upload is refused before any work, or arrives whole: at a small server that plays the Hub."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from theseus_deploy.artifact import Artifact

Push = Callable[..., subprocess.CompletedProcess[str]]


class Hub(BaseHTTPRequestHandler):
    """What an upload asks of the Hub; files travel inside the commit, and are kept as they arrive."""

    commits: ClassVar[list[dict[str, bytes]]] = []
    created: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer hf_known"
        self.answer(200 if known else 401, {"type": "user", "name": "team"} if known else {"error": "Invalid token"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/api/repos/create"):
            self.created.append(json.loads(body))
            taken = self.created[-1]["name"] == "forbidden"
            self.answer(403 if taken else 200, {"url": f"{self.home}/team/model", "error": "not yours"})
        elif "/preupload/" in self.path:
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for one in json.loads(body)["files"]]  # fmt: skip
            self.answer(200, {"files": files})
        elif "/commit/" in self.path:
            values = [line["value"] for line in map(json.loads, body.splitlines()) if line["key"] == "file"]
            self.commits.append({value["path"]: base64.b64decode(value["content"]) for value in values})
            self.answer(200, {"commitUrl": f"{self.home}/team/model/commit/abc", "commitOid": "abc"})
        else:
            self.answer(200, {})

    @property
    def home(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def push(shallow_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Push]:
    """Export `shallow_bert` to `out` and push it, in a process of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    home = tmp_path_factory.mktemp("home")

    def run(repository: str, out: Path, token: str = "hf_known", up: bool = True) -> subprocess.CompletedProcess[str]:
        settings = {
            "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "HF_TOKEN": token,
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port if up else 9}",
        }  # fmt: skip
        words = ["export", shallow_bert, "--out", out, "--threads", "1", "--push-to-hub", repository]
        command = [sys.executable, "-c", "from theseus_deploy_cli.main import run; run()", *map(str, words)]
        return subprocess.run(
            command, env={**os.environ, **settings}, capture_output=True, text=True, check=False, timeout=120
        )

    yield run
    server.shutdown()
    server.server_close()


@pytest.mark.thorough
def test_a_bundle_arrives_as_it_is_in_one_commit_to_a_private_repository(push: Push, tmp_path: Path) -> None:
    ran = push("team/model", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("on the Hub: http://127.0.0.1:")
    assert Hub.created[-1]["visibility"] == "private"
    bundle = Artifact.open(tmp_path / "out")
    sent = Hub.commits.pop()
    assert sent == {name: (bundle.path / name).read_bytes() for name in (*bundle.files, "theseus.json")}
    assert b"library_name: onnx" in sent["README.md"]
    assert not Hub.commits


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"token": "hf_unknown"}, "Invalid user token"),
        pytest.param({"token": ""}, "oken", marks=pytest.mark.slow),
        ({"up": False}, "onnection refused"),
        pytest.param({"repository": "no/such/id"}, "no/such/id", marks=pytest.mark.slow),
    ],
)
def test_who_cannot_upload_is_told_so_before_any_work(
    push: Push, tmp_path: Path, how: dict[str, Any], reason: str
) -> None:
    ran = push(**{"repository": "team/model", "out": tmp_path / "out", **how})
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"theseus: --push-to-hub {how.get('repository', 'team/model')} was refused (")
    assert reason in line
    assert line.endswith("; log in with `hf auth login`, and check the name and the network")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_bundle_that_the_hub_refuses_is_kept(push: Push, tmp_path: Path) -> None:
    ran = push("team/forbidden", tmp_path / "out")
    assert ran.returncode == 2
    assert "--push-to-hub team/forbidden was refused (" in ran.stderr.splitlines()[-1]
    assert Artifact.open(tmp_path / "out").check_files() == []
