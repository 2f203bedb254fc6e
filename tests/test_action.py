"""The GitHub Action does what it says: its script is run by bash, with the true program, as a runner would."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from theseus_deploy.benchmark.report import BenchmarkReport

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
EXAMPLE = yaml.safe_load((ROOT / "examples" / "benchmark-workflow.yml").read_text())
QUICK = "--batch 4 --min-samples 5 --max-seconds 1 --threads 1 --no-reference"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the action's script is bash")


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """What GitHub sets for a step, with `theseus` on the PATH as an installation puts it there."""
    program = tmp_path / "bin" / "theseus"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m theseus_deploy_cli.main "$@"\n')
    program.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}",
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "REPORTS": str(tmp_path / "reports"),
    }


def step() -> dict[str, Any]:
    return next(step for step in ACTION["runs"]["steps"] if step.get("id") == "benchmark")


def run(runner: dict[str, str], bundle: Path, corpus: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    defaults = {"CANDIDATES": f"  {bundle}\n\n", "BASELINE": str(bundle), "DATA": str(corpus), "UNDECIDED": "fail"}
    environment = {**runner, **defaults, **inputs}
    assert environment.keys() >= step()["env"].keys()
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step()["run"]],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.thorough
def test_a_failed_gate_fails_the_job_and_leaves_its_reports(
    runner: dict[str, str], fp32_bundle: Path, corpus: Path
) -> None:
    ran = run(runner, fp32_bundle, corpus, GATES=f"--max-size-ratio 0.5\n{QUICK}")
    assert ran.returncode == 3, ran.stderr
    assert Path(runner["GITHUB_OUTPUT"]).read_text() == "verdict=fail\n"
    reports = Path(runner["REPORTS"])
    assert {path.name for path in reports.iterdir()} == {"report.json", "report.md", "report.html", "report.xml"}
    assert Path(runner["GITHUB_STEP_SUMMARY"]).read_text() == (reports / "report.md").read_text()
    assert BenchmarkReport.open(reports / "report.json").verdict == "fail"


@pytest.mark.thorough
def test_a_wrong_request_is_no_verdict(runner: dict[str, str], fp32_bundle: Path, tmp_path: Path) -> None:
    stale = Path(runner["REPORTS"]) / "report.md"
    stale.parent.mkdir()
    stale.write_text("## theseus benchmark: pass")
    ran = run(runner, fp32_bundle, tmp_path / "nowhere", GATES="")
    assert ran.returncode == 2
    assert "nowhere does not exist" in ran.stderr
    assert not stale.exists()
    assert not Path(runner["GITHUB_OUTPUT"]).exists()
    assert not Path(runner["GITHUB_STEP_SUMMARY"]).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gate", "undecided", "code", "verdict"),
    [
        ("--max-size-ratio 1.0", "fail", 0, "pass"),
        ("", "fail", 0, ""),
        ("--max-metric-drop 0.0001", "fail", 4, "inconclusive"),
        ("--max-metric-drop 0.0001", "warn", 0, "inconclusive"),
    ],
)
def test_every_verdict_reaches_the_job(
    runner: dict[str, str], fp32_bundle: Path, corpus: Path, gate: str, undecided: str, code: int, verdict: str
) -> None:
    ran = run(runner, fp32_bundle, corpus, GATES=f"{gate}\n{QUICK}", UNDECIDED=undecided)
    assert ran.returncode == code, ran.stderr
    assert Path(runner["GITHUB_OUTPUT"]).read_text() == f"verdict={verdict}\n"
    assert ("::warning::theseus benchmark: metric-drop of " in ran.stdout) == (undecided == "warn")


def test_the_script_explains_itself(runner: dict[str, str], tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "ci_gate.sh"
    ran = subprocess.run(["bash", script], env=runner, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "ci_gate.sh: 0 arguments, at least 2 are needed" in ran.stderr
    (tmp_path / "file").touch()
    for first in ("", "--baseline", str(tmp_path / "file")):
        ran = subprocess.run(["bash", script, first, "b"], env=runner, capture_output=True, text=True, check=False)
        assert (ran.returncode, f"{first} is no folder" in ran.stderr) == (2, True)


def test_the_script_wants_a_folder_that_takes_reports(runner: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "taken" / "report.md").mkdir(parents=True)
    for place in (tmp_path / "taken", "/dev/null/x"):
        command = ["bash", ROOT / "benchmarks" / "ci_gate.sh", place, "a"]
        ran = subprocess.run(command, env=runner, capture_output=True, text=True, check=False)
        assert (ran.returncode, f"{place} takes no reports; name another" in ran.stderr) == (2, True)


@pytest.mark.parametrize("words", [["--against", "REPORT"], ["--against=REPORT"]])
def test_the_script_keeps_what_is_compared_with(runner: dict[str, str], tmp_path: Path, words: list[str]) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    script = [ROOT / "benchmarks" / "ci_gate.sh", tmp_path, *(word.replace("REPORT", str(report)) for word in words)]
    ran = subprocess.run(["bash", *script], env=runner, capture_output=True, text=True, check=False)
    assert (ran.returncode, "report.json is compared with, and would be removed" in ran.stderr) == (2, True)
    assert report.exists()


@pytest.mark.thorough
def test_the_script_ends_what_it_began(runner: dict[str, str], tmp_path: Path, fp32_bundle: Path, corpus: Path) -> None:
    words = [str(fp32_bundle), "--baseline", str(fp32_bundle), "--data", str(corpus), "--max-seconds", "100"]
    with subprocess.Popen(
        ["bash", ROOT / "benchmarks" / "ci_gate.sh", tmp_path / "reports", *words, "--max-p50-ratio", "1.0"],
        env=runner, stderr=subprocess.PIPE, text=True,
    ) as script:  # fmt: skip
        assert script.stderr is not None
        script.stderr.readline()  # the benchmark is at work
        script.terminate()
        assert script.wait(timeout=60) == 130
    assert list((tmp_path / "reports").iterdir()) == []


def test_the_script_waits_for_what_it_began_however_often_it_is_told_to_end(
    runner: dict[str, str], tmp_path: Path
) -> None:
    program, done = tmp_path / "bin" / "theseus", tmp_path / "done"
    program.write_text(
        "#!/usr/bin/env bash\n"
        "trap : TERM\n"  # it takes its time to end
        "echo at work >&2\n"
        f"until [ -e {tmp_path}/leave ]; do sleep 0.1; done\n"
        f"touch {done}\n"
        "exit 130\n"
    )
    with subprocess.Popen(
        ["bash", ROOT / "benchmarks" / "ci_gate.sh", tmp_path / "reports", "bundle"],
        env=runner, stderr=subprocess.PIPE, text=True,
    ) as script:  # fmt: skip
        assert script.stderr is not None
        script.stderr.readline()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            script.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                script.wait(timeout=0.5)
        (tmp_path / "leave").touch()
        assert script.wait(timeout=60) == 130
    assert done.exists()


def test_inputs_never_become_shell_code() -> None:
    for one in ACTION["runs"]["steps"]:
        assert "${{" not in one.get("run", "")


def test_the_example_gives_the_action_what_it_takes() -> None:
    (used,) = (one for one in EXAMPLE["jobs"]["benchmark"]["steps"] if "theseus-deploy" in one.get("uses", ""))
    required = {name for name, one in ACTION["inputs"].items() if one.get("required")}
    assert required <= used["with"].keys() <= ACTION["inputs"].keys()
