from pathlib import Path

import pytest

from tests.watcher import Watcher
from theseus_deploy.artifact import Artifact
from theseus_deploy.delivery import delivered
from theseus_deploy.errors import ArtifactError, DeliveryError


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


def test_a_repository_in_a_model_is_refused_before_any_work(tiny_bert: Path, fp32_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()  # of a service, say
    delivered(lambda: Artifact.open(fp32_bundle), fp32_bundle, triton=tmp_path / "triton")
    for place in (tiny_bert, tiny_bert / "triton"):
        with pytest.raises(ArtifactError, match=rf"--triton .* would write into {tiny_bert}, a model; choose a folder"):
            delivered(never, tmp_path / "bundle", triton=place)


def test_an_interrupted_delivery_says_that_the_bundle_is_kept(fp32_bundle: Path, tmp_path: Path) -> None:
    bundle = Artifact.open(fp32_bundle)
    with pytest.raises(DeliveryError, match=r"interrupted; .* is written and kept, and was not delivered") as caught:
        delivered(lambda: bundle, fp32_bundle, triton=tmp_path, progress=Watcher(interrupt_at="for Triton"))
    assert caught.value.exit_code == 130
