from pathlib import Path

import pytest

from theseus_deploy.artifact import Artifact
from theseus_deploy.delivery import delivered
from theseus_deploy.errors import ArtifactError


def never() -> Artifact:
    raise AssertionError("the bundle was made before it was known that it cannot be delivered")


@pytest.mark.parametrize("place", ["", "."])
def test_a_repository_in_the_bundle_itself_is_refused_before_any_work(tmp_path: Path, place: str) -> None:
    out = tmp_path / "sub" / ".." / "bundle"
    with pytest.raises(ArtifactError, match=r"--triton .* would write into .*bundle, the bundle; choose a folder"):
        delivered(never, out, triton=tmp_path / "bundle" / place)
    with pytest.raises(ArtifactError, match=r"--triton .* would write into .*bundle, the bundle; choose a folder"):
        delivered(never, out, triton=tmp_path / place)


@pytest.mark.parametrize("place", ["file", "file/models"])
def test_a_repository_that_is_a_file_is_refused_before_any_work(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=rf"--triton \S*{place} cannot be a folder, for \S*file is a file"):
        delivered(never, tmp_path / "bundle", triton=tmp_path / place)
