"""The doctor names what it checked, and for what is wrong the remedy."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires, version
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from theseus_deploy.checks import Check
from theseus_deploy.doctor import EXTRAS, KNOWN_BAD, TESTED, diagnose
from theseus_deploy.machine import Machine

NOWHERE = "http://127.0.0.1:9"
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


class Hub(BaseHTTPRequestHandler):
    """Answers for any model as the Hub does for one that it has."""

    def do_GET(self) -> None:
        body = b'{"id": "any/model", "modelId": "any/model", "siblings": []}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)


def install(site: Path, name: str, version: str, *wanted: str) -> None:
    """Write what pip leaves behind of a package: the metadata that says it is installed."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {it}" for it in wanted),
    ]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")


def examine() -> dict[str, Check]:
    checks = diagnose()
    assert all("\n" not in check.detail for check in checks)
    found = {check.name: check for check in checks}
    assert len(found) == len(checks)
    return found


def test_this_machine_is_well() -> None:
    found = examine()
    assert [check for check in found.values() if not check.ok] == []
    required = [Requirement(line) for line in requires("theseus-deploy") or []]
    assert found.keys() == {
        *(requirement.name for requirement in required if requirement.marker is None),
        *("CPU", "cores", "int8", "bf16", "AMX", "GPU", "Hub"),
        *(" + ".join(pair.packages) for pair in KNOWN_BAD),
        *(f"extra {extra}" for extra in EXTRAS),
    }
    assert all(check.detail for check in found.values())


def test_the_extras_are_those_of_the_package() -> None:
    required = [Requirement(line) for line in requires("theseus-deploy") or []]
    for extra, (package, _) in EXTRAS.items():
        assert any(it.name == package and it.marker and it.marker.evaluate({"extra": extra}) for it in required)


def test_a_package_that_is_missing_or_old_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ("nowhere-to-be-found>=1.2", "too-old>=2", "just-right>=1.0,<2", 'another-extra>=9; extra == "demo"')
    install(tmp_path, "theseus-deploy", "0.0.1", *wanted)
    install(tmp_path, "too-old", "1.9")
    install(tmp_path, "just-right", "1.5.dev3")
    monkeypatch.syspath_prepend(tmp_path)
    found = examine()
    missing, old = found["nowhere-to-be-found"], found["too-old"]
    assert not missing.ok
    assert missing.detail == "missing (wanted >=1.2); install it: pip install 'nowhere-to-be-found>=1.2'"
    assert not old.ok
    assert old.detail == "1.9 (wanted >=2); install it: pip install 'too-old>=2'"
    assert found["just-right"].ok
    assert "another-extra" not in found


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_library_that_cannot_be_imported_is_no_good_machine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    found = examine()[name]
    assert not found.ok
    assert found.detail.startswith(f"{version(name)} (wanted ")
    assert found.detail.endswith(f"; install the library that it lacks, or {name} again")


def test_the_tested_releases_are_those_of_the_constraints() -> None:
    pinned = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    assert {name: ".".join(pinned[name].split(".")[:2]) for name in TESTED} == TESTED


def test_a_release_that_was_not_tested_is_told_from_one_that_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "theseus-deploy", "0.0.1", "onnx>=1.0", "torch>=2.0")
    install(tmp_path, "onnx", "1.99.1")
    install(tmp_path, "torch", f"{TESTED['torch']}.9+cpu")
    monkeypatch.syspath_prepend(tmp_path)
    found = examine()
    assert found["onnx"] == Check("onnx", True, f"1.99.1 (wanted >=1.0, tested with {TESTED['onnx']})")
    assert found["torch"].detail == f"{TESTED['torch']}.9+cpu (wanted >=2.0)"


@pytest.mark.parametrize(
    ("isa", "said"),
    [
        (("avx2",), {"int8": "not native (no VNNI)", "bf16": "not native", "AMX": "none"}),
        (
            ("avx512_vnni", "avx512_bf16"),
            {"int8": "native (avx512_vnni)", "bf16": "native (avx512_bf16)", "AMX": "none"},
        ),
        (
            ("avx512_vnni", "amx_bf16", "amx_int8"),
            {"int8": "native (avx512_vnni, amx_int8)", "bf16": "native (amx_bf16)", "AMX": "amx_bf16, amx_int8"},
        ),
    ],
)
def test_a_cpus_features_are_said_with_what_they_mean(
    monkeypatch: pytest.MonkeyPatch, isa: tuple[str, ...], said: dict[str, str]
) -> None:
    monkeypatch.setattr("theseus_deploy.doctor.this_machine", lambda: Machine("a CPU", isa, 2))
    found = examine()
    assert {name: found[name].detail.partition(":")[0] for name in said} == said


def test_threads_beyond_the_cores_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert "OMP_NUM_THREADS=4096 is more than that" in examine()["cores"].detail
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS" not in examine()["cores"].detail


def test_the_hub_is_asked_and_need_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine()["Hub"].detail.startswith(f"not reachable at {NOWHERE} (")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        monkeypatch.setenv("HF_ENDPOINT", here := f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        assert examine()["Hub"] == Check("Hub", True, f"reachable at {here}")
        server.shutdown()


def test_an_extra_that_is_missing_is_no_illness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "onnxruntime-gpu", "9.9")
    monkeypatch.syspath_prepend(tmp_path)
    found = examine()
    assert found["extra gpu"] == Check("extra gpu", True, "9.9")
    pair = found["onnxruntime + onnxruntime-gpu"]
    assert not pair.ok
    assert "onnxruntime-gpu 9.9: both write the same files, and the CPU's won: pip install --force" in pair.detail


def test_both_wheels_of_onnxruntime_are_well_where_the_gpus_won(monkeypatch: pytest.MonkeyPatch) -> None:
    (pair,) = (pair for pair in KNOWN_BAD if "onnxruntime-gpu" in pair.packages)
    both = (Version("1.31"), Version("1.31"))
    for provider, bad in (("CPUExecutionProvider", True), ("CUDAExecutionProvider", False)):  # of whichever wheel won
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda found=provider: [found])
        assert pair.when(*both) is bad


def test_a_missing_extra_is_named_with_its_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "poetry", ("nowhere-to-be-found", "rhymes"))
    assert examine()["extra poetry"] == Check(
        "extra poetry", True, "not installed; for rhymes: pip install 'theseus-deploy[poetry]'"
    )


@pytest.mark.parametrize(
    ("packages", "versions", "bad"),
    [
        ("onnxruntime onnxruntime-gpu", ("1.31", "1.31"), True),
        ("onnxruntime onnxruntime-gpu", ("1.31", None), False),
        ("onnxruntime onnxruntime-gpu", (None, "1.31"), False),
        ("optimum-onnx transformers", ("0.1.0", "5.23.0"), True),
        ("optimum-onnx transformers", ("0.1.0", "4.57.6"), False),
        ("optimum-onnx transformers", ("0.2.0", "5.23.0"), False),
        ("optimum-onnx transformers", (None, "5.23.0"), False),
        ("optimum-onnx transformers", ("0.1.0", None), False),
        ("torch torchvision", ("2.13.0", "0.28.0"), False),
        ("torch torchvision", ("2.13.0+cpu", "0.28.1+cpu"), False),
        ("torch torchvision", ("2.13.0", "0.27.0"), True),
        ("torch torchvision", ("2.0.1", "0.15.2"), False),
        ("torch torchvision", ("2.13.0", None), False),
        ("torch torchvision", (None, "0.28.0"), True),
        ("torch torchvision", (None, None), False),
    ],
)
def test_a_pair_that_is_known_to_be_bad_is_told_from_a_good_one(
    packages: str, versions: tuple[str | None, ...], bad: bool
) -> None:
    (pair,) = (pair for pair in KNOWN_BAD if pair.packages == tuple(packages.split()))
    assert bool(pair.when(*(version and Version(version) for version in versions))) is bad
    assert ": " in pair.remedy


def test_a_bad_pair_is_reported_with_its_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "torchvision", "0.1")
    install(tmp_path, "optimum-onnx", "0.1.0")
    monkeypatch.syspath_prepend(tmp_path)
    found = examine()
    assert not found["torch + torchvision"].ok
    assert "torchvision 0.1: torchvision belongs to another torch" in found["torch + torchvision"].detail
    assert not found["optimum-onnx + transformers"].ok
    assert "in an environment of its own" in found["optimum-onnx + transformers"].detail
