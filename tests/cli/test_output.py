"""What a command prints about a folder is what the folder says of itself."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran
from theseus_deploy.artifact import Artifact
from theseus_deploy_cli.console import LogProgress, print_artifact


def test_json_is_the_manifest_as_it_was_written(int8_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = int8_bundle / "theseus.json"
    artifact = Artifact.open(int8_bundle)
    print_artifact(artifact, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"path": str(int8_bundle), **json.loads(written.read_text())}
    assert artifact.manifest.to_json().keys() < artifact.to_json().keys()  # `files` is the folder's, not the stage's


@pytest.mark.thorough
def test_an_export_ends_with_the_ledger_and_the_proof_of_strip(
    successor_bundle: Path, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = Artifact.open(successor_bundle)
    print_artifact(artifact, as_json=False)
    *ledger, proof = capsys.readouterr().out.splitlines()[-5:]
    for line, entry in zip(ledger, artifact.manifest.receipt["ledger"], strict=True):
        assert line.split()[:3] == [entry["name"], f"{entry['parameters']:,}", "parameters"]
    assert proof == f"  strip: none of the 29 tensors replaced in {tiny_bert} is in the fp32 graph"


def test_an_unproven_strip_is_printed_with_its_reason(
    int8_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(int8_bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "theseus.json").read_text())
    manifest["receipt"]["strip"] = {"predecessor": "gone", "unproven": "it is not here"}
    (folder / "theseus.json").write_text(json.dumps(manifest))
    print_artifact(Artifact.open(folder), as_json=False)
    proof = capsys.readouterr().out.splitlines()[-1]
    assert proof == "  strip: whether the graph holds weights of gone is unproven, for it is not here"


@pytest.mark.parametrize("command", ["verify", "doctor"])
def test_quiet_leaves_out_progress_and_no_result(theseus: Callable[..., Ran], int8_bundle: Path, command: str) -> None:
    ran = theseus(command, *[int8_bundle] * (command == "verify"), "--quiet")
    assert ran.out.startswith(("ok ", "BAD"))


def test_an_old_console_gets_what_it_can_show() -> None:
    """A sign that its encoding lacks is replaced, and JSON says it otherwise: neither is a bug."""
    code = """
from theseus_deploy_cli import console, main
import sys
sys.argv = ["theseus", "--version"]
try:
    main.run()
except SystemExit:
    print("≤")
    console.print_json({"label": "≤ 😂"})
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, check=True
    )
    _, sign, *document = ran.stdout.decode("cp1252").splitlines()
    assert sign == "?"
    assert json.loads("\n".join(document)) == {"label": "≤ 😂"}


@pytest.mark.parametrize("unbuffered", [True, False])  # found out while printing, and at the end
def test_a_reader_that_leaves_is_no_bug(unbuffered: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, *["-u"] * unbuffered, "-m", "theseus_deploy_cli.main", "--version"]
    ran = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is full")
@pytest.mark.parametrize("unbuffered", [pytest.param(True, marks=pytest.mark.thorough), False])
def test_a_disk_that_takes_no_more_output_is_one_line(unbuffered: bool) -> None:
    command = [sys.executable, *["-u"] * unbuffered, "-m", "theseus_deploy_cli.main", "doctor", "--json"]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (
        2, "theseus: the output cannot be written (No space left on device); free space, or write it elsewhere",
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="a shell closes its streams so")
@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-"])
def test_with_stderr_closed_a_command_says_nothing_and_its_exit_code_is_true(int8_bundle: Path, closed: str) -> None:
    def run(*words: object) -> tuple[int, str]:
        command = [
            "sh",
            "-c",
            f'exec "$0" "$@" {closed}',
            sys.executable,
            "-m",
            "theseus_deploy_cli.main",
            *map(str, words),
        ]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        return ran.returncode, ran.stdout

    code = "import sys; from theseus_deploy_cli.main import run; sys.argv[1:] = ['--version']\n"
    code += "try: run()\nexcept SystemExit: print(sys.stderr.fileno())"
    shell = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert shell.stdout.splitlines()[-1] == "2"  # else what libraries write there went to the next file opened
    assert run("plan", "nowhere.json", "--qps", 10, "--p99-ms", 20, "--json") == (2, "")
    code, answer = run("predict", int8_bundle, "good film")
    assert (code, json.loads(answer).keys()) == (0, {"label", "score", "scores"})


def test_the_time_left_of_a_resumed_training_is_that_of_the_steps_it_makes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 5.0, 25.0, 45.0, 45.0])  # it begins, has loaded its checkpoint, and makes 2 steps of 20 s
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with LogProgress().track("training", 1000) as tracker:
        tracker.advance(900)
        tracker.advance(1)
        tracker.advance(1, loss=0.25)
    assert capsys.readouterr().err.splitlines() == [
        "  training: 901/1000, 1980 s left ",
        "  training: 902/1000, 1960 s left loss 0.25",
        "  training: 1000 in 45.0 s",
    ]
