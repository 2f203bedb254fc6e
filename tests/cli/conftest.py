"""Run the program as a user does, in this process: the same entry point, its exit code and both streams."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from theseus_deploy_cli.main import run


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def theseus(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1" if name.startswith("HF") else "error")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")

    def call(*words: object) -> Ran:
        monkeypatch.setattr("sys.argv", ["theseus", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run()
        out, err = capfd.readouterr()
        return Ran(int(stopped.value.code or 0), out, err)

    return call
