"""Check a folder of ours from the outside: offline, on another machine, without torch."""

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path

from theseus_deploy.artifact import Artifact, fingerprint
from theseus_deploy.checks import Check
from theseus_deploy.errors import ArtifactError, brief
from theseus_deploy.models.find import places_of
from theseus_deploy.predictor import Predictor
from theseus_deploy.probe import FILE, Probe

LAYER_KEYS = ("num_hidden_layers", "n_layers")  # DistilBERT's configuration has its own word
SHOWN = 5  # labels in a line


def verify(folder: Path) -> list[Check]:
    """Check the manifest, every file's hash, what the files hold, and the lineage."""
    try:
        artifact = Artifact.open(folder)
    except ArtifactError as error:
        return [Check("manifest", False, str(error))]
    manifest = artifact.manifest
    shown = f"{manifest.kind} of stage {manifest.stage}, {manifest.layers} layers, {manifest.precision}"
    inside = _bundle if manifest.kind == "bundle" else _checkpoint
    return [Check("manifest", True, shown), _files(artifact), *inside(artifact), _lineage(artifact)]


def _files(artifact: Artifact) -> Check:
    problems = artifact.check_files()
    whole = f"{len(artifact.files)} files, {artifact.bytes / 1e6:.1f} MB, each as the manifest has it"
    return Check("files", not problems, "; ".join(problems) or whole)


def _bundle(artifact: Artifact) -> Iterator[Check]:
    try:
        predictor = Predictor(artifact.path, threads=1)
    except ArtifactError as error:
        yield Check("graph", False, str(error))
        return
    yield Check("graph", True, f"takes {', '.join(predictor.inputs)}, answers with {predictor.task.outputs} logits")
    yield _config(artifact)
    yield _probe(artifact, predictor)


def _probe(artifact: Artifact, predictor: Predictor) -> Check:
    """Ask again what the bundle was asked when it was made."""
    try:
        probe = Probe.read(artifact.path)
    except ArtifactError as error:
        return Check("probe", False, str(error))
    if probe is None:
        return Check("probe", FILE not in artifact.files, "no probe is here, so no answers were compared")
    shown = f"{len(probe.texts)} texts"
    try:
        distance = probe.distance(predictor)
    except Exception as error:  # onnxruntime's errors share no other base class
        return Check("probe", False, f"a probe of {shown} cannot be answered ({brief(error)})")
    same = distance <= probe.atol
    found = f"the logits differ by {distance:.2g} from those stored, and {probe.atol:.2g} is allowed"
    remedy = "" if same else "; use a CPU like that of the manifest, or export it again on this one"
    return Check("probe", same, f"{shown} answered: {found}{remedy}")


def _config(artifact: Artifact) -> Check:
    """Compare what config.json says, whose hash is known, with the manifest, whose hash is not."""
    manifest = artifact.manifest
    try:
        config = json.loads((artifact.path / "config.json").read_text("utf-8"))
        layers = next((config[key] for key in LAYER_KEYS if key in config), None)
        names = {int(place): str(name) for place, name in config.get("id2label", {}).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        return Check("config", False, f"config.json cannot be read ({error})")
    labels = tuple(names[place] for place in sorted(names))
    if manifest.task.labels and labels and labels != manifest.task.labels:
        return Check("config", False, f"labels {_brief(labels)}, and the manifest has {_brief(manifest.task.labels)}")
    return Check("config", layers == manifest.layers, f"{layers} layers, and the manifest has {manifest.layers}")


def _brief(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")


def _checkpoint(artifact: Artifact) -> Iterator[Check]:
    from safetensors import SafetensorError

    manifest = artifact.manifest
    yield _config(artifact)
    try:
        files = sorted(artifact.path.glob("*.safetensors"))
        parameters = sum(_count_parameters(path) for path in files)
        shown = f"{parameters} parameters, and the manifest has {manifest.parameters}"
        yield Check("weights", bool(files) and parameters == manifest.parameters, shown)
    except (OSError, SafetensorError) as error:
        yield Check("weights", False, f"the weights' header cannot be read ({error})")


def _count_parameters(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - it is no mapping


def _lineage(artifact: Artifact) -> Check:
    parent = artifact.manifest.parent
    if parent is None:
        return Check("lineage", True, "made from nothing that is recorded")
    problem = ""
    for place in places_of(parent.path, artifact.path):
        try:
            if (found := fingerprint(place)) == parent.sha256:
                return Check("lineage", True, f"made from {parent.path}, unchanged since (sha256 {found[:12]})")
            problem = f"made from {parent.path}, which has changed since; make this folder again from it"
        except PermissionError:  # another user's: to this one it is not here
            continue
        except ArtifactError as error:
            problem = f"made from {parent.path}: {error}"
    return Check("lineage", not problem, problem or f"made from {parent.path}, which is not here to be checked")
