"""Where a finished bundle goes beside its own folder: a model repository of Triton, the Hugging Face Hub."""

from collections.abc import Callable
from pathlib import Path

from theseus_deploy import hub
from theseus_deploy.artifact import MANIFEST, Artifact
from theseus_deploy.errors import ArtifactError, DeliveryError
from theseus_deploy.export import triton as server
from theseus_deploy.progress import SILENT, Progress

MODEL_FILES = (MANIFEST, "*.safetensors", "pytorch_model*.bin")


def delivered(
    make: Callable[[], Artifact],
    out: Path,
    *,
    triton: Path | None = None,
    push_to_hub: str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Artifact:
    """Make the bundle `out`, and then deliver it; whether it can be delivered is asked before.

    Raises:
        TheseusError: a place is taken, in the bundle itself, or cannot be reached. A bundle that was made by then is
            kept.
        DeliveryError: it was made, and its delivery was ended.
    """
    if triton:
        place = (triton / out.name).resolve()
        if place.is_relative_to(out.resolve()):
            raise ArtifactError(f"--triton {triton} would write into {out}, the bundle; choose a folder of its own")
        if model := next((folder for folder in place.parents if _is_model(folder)), None):
            raise ArtifactError(f"--triton {triton} would write into {model}, a model; choose a folder of its own")
        server.claim_repository(triton, out.name, overwrite)
    if push_to_hub:
        hub.check_login(push_to_hub)
    bundle = make()
    try:
        if triton:
            progress.say(f"for Triton: {server.write_repository(bundle, triton, overwrite)}")
        if push_to_hub:
            progress.say(f"on the Hub: {hub.push(bundle.path, push_to_hub)}")
    except KeyboardInterrupt as stop:
        raise DeliveryError(
            f"interrupted; {out} is written and kept, and was not delivered: repeat the command with --overwrite"
        ) from stop
    return bundle


def _is_model(folder: Path) -> bool:
    """Tell whether a folder is a checkpoint or a bundle, which another file in it would damage."""
    return any(path.is_file() for pattern in MODEL_FILES for path in folder.glob(pattern))
