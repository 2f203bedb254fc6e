"""Find a model's folder by its name: a local folder, what is built in, or an id of the Hugging Face Hub."""

from collections.abc import Iterator
from pathlib import Path

from theseus_deploy import builtin
from theseus_deploy.artifact import MANIFEST, MODEL_FILES, OLD_WEIGHTS, WEIGHTS, Artifact
from theseus_deploy.errors import ArtifactError, ModelError, brief, suggest


def locate(ref: str) -> Path:
    """Find the folder of a model, and download it once if it is on the Hub.

    Raises:
        ModelError: there is no such model.
        ArtifactError: it is one of ours, and its manifest cannot be read.
    """
    if ref in builtin.MODELS:
        return builtin.MODELS[ref]()
    path = Path(ref)
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{ref} is a file, not a model folder; give the folder that holds config.json")
    if ref.startswith("demo:"):
        raise ModelError(f"{ref} is no built-in model; {suggest(ref, list(builtin.MODELS))}")
    if ref.startswith((".", "/", "~")) or ref.count("/") > 1:
        raise ModelError(f"{ref} does not exist; give a model folder or a Hub id")
    return _download(ref)


def is_name(ref: str) -> bool:
    """Tell whether a reference ends in a name, as `.` and `..` do not."""
    return Path(ref).name not in ("", "..")


def is_folder(path: Path) -> bool:
    """Tell whether a folder is here; one that may not be looked into, another user's, is not."""
    try:
        return path.is_dir()
    except PermissionError:
        return False


def find_here(ref: str) -> Path | None:
    """Find a model on this disk by the name it once had, and fetch nothing; None where it is not here."""
    if is_folder(Path(ref)):
        return Path(ref)
    if ref in builtin.MODELS:
        try:
            return builtin.MODELS[ref]()
        except ModelError:
            return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(ref, "config.json")
    except HFValidationError:  # it is a path
        return None
    return Path(config).parent if isinstance(config, str) else None


def places_of(ref: str, folder: Path) -> Iterator[Path]:
    """Give the places on this disk where what `folder` was made from may be, by the name that it had then.

    A relative path began in a folder that is not recorded: this one, or any above `folder`.
    """
    if not is_name(ref):  # `.`, which was any folder
        return
    above = [] if Path(ref).is_absolute() else [base / ref for base in folder.resolve().parents]
    seen = dict[Path, Path]()
    for place in (find_here(ref), *above):
        if place and is_folder(place):
            seen.setdefault(place.resolve(), place)
    yield from seen.values()


def _download(ref: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(ref, allow_patterns=list(MODEL_FILES)))
        if not any((path / name).exists() for name in WEIGHTS):
            path = Path(snapshot_download(ref, allow_patterns=[*MODEL_FILES, OLD_WEIGHTS]))
        files = Artifact.open(path).files if Artifact.exists(path) else {}
        if any(not (path / name).is_file() for name in files):  # a checkpoint of ours is checked file by file
            path = Path(snapshot_download(ref, allow_patterns=[MANIFEST, *files]))
        return path
    except ArtifactError:
        raise
    except Exception as error:  # OSErrors, and those of whatever HTTP library is underneath
        raise ModelError(
            f"{ref} is no local folder, and the Hub could not give it ({brief(error)}); "
            "check the name and the network, or give a folder"
        ) from error
