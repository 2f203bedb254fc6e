"""What a command prints about a folder is what the folder says of itself."""

import json
from pathlib import Path

import pytest

from theseus_deploy.artifact import Artifact
from theseus_deploy_cli.console import print_artifact


def test_json_is_the_manifest_as_it_was_written(int8_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = int8_bundle / "theseus.json"
    artifact = Artifact.open(int8_bundle)
    print_artifact(artifact, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"path": str(int8_bundle), **json.loads(written.read_text())}
    assert artifact.manifest.to_json().keys() < artifact.to_json().keys()  # `files` is the folder's, not the stage's
