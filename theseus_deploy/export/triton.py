"""A bundle as Triton Inference Server reads it: a model repository with the graph, its labels and a config.pbtxt."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from theseus_deploy.artifact import Artifact
from theseus_deploy.disk import writable
from theseus_deploy.errors import ArtifactError
from theseus_deploy.manifest import GRAPH, OUTPUT

LABELS = "labels.txt"
MAX_BATCH = 32  # requests that the server may answer together
LABELLED = ("single-label", "multi-label")  # kinds whose output is one number a label, which the server can name
NAME = re.compile(r"[A-Za-z0-9_.-]+")


def claim_repository(repository: Path, name: str, overwrite: bool) -> None:
    """Refuse a model that the repository has already, or that no server could call so.

    Raises:
        ArtifactError: `name` is taken, or has other characters than letters, digits, `_`, `.` and `-`; or the
            repository is a file.
    """
    if file := next((part for part in (repository, *repository.parents) if part.is_file()), None):
        raise ArtifactError(f"--triton {repository} cannot be a folder, for {file} is a file; choose another")
    if not NAME.fullmatch(name):
        raise ArtifactError(f"{name!r} is no name for a model of Triton; choose an --out of letters, digits, _, . or -")
    place = repository / name
    if place.exists() and not (overwrite and (place / "config.pbtxt").is_file()):
        remedy = "replace it with --overwrite" if (place / "config.pbtxt").is_file() else "move it away"
        raise ArtifactError(f"{place} exists already; choose another --triton, or {remedy}")


def write_repository(bundle: Artifact, repository: Path, overwrite: bool = False) -> Path:
    """Write `repository/<name of the bundle>`, complete or not at all, and return it.

    The server hands tokens to the graph: clients tokenise with the bundle's `tokenizer.json`, and pad the inputs that
    are to be answered together to one length, for the server batches only what has the same shape.

    Raises:
        ArtifactError: it is there already, or the disk is full.
    """
    import onnx

    place = repository / bundle.path.name
    claim_repository(repository, place.name, overwrite)
    task = bundle.manifest.task
    inputs = [value.name for value in onnx.load(bundle.path / GRAPH).graph.input]
    labelled = task.kind in LABELLED
    with writable(place, "--triton"):
        repository.mkdir(parents=True, exist_ok=True)
        parent = repository.parent if _takes_drafts(repository.parent, repository) else repository
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=parent))
        old = draft.with_suffix(".old")
        try:
            (draft / "1").mkdir()
            shutil.copyfile(bundle.path / GRAPH, draft / "1" / GRAPH)
            if labelled:
                (draft / LABELS).write_text(
                    "".join(f"{' '.join(label.splitlines())}\n" for label in task.labels), "utf-8"
                )
            config = configuration(place.name, inputs, task.outputs, by_token=task.tags_words, labelled=labelled)
            (draft / "config.pbtxt").write_text(config, "utf-8")
            draft.chmod(0o755)
            if place.exists():
                place.replace(old)
            draft.replace(place)
        finally:
            if old.exists() and not place.exists():
                old.replace(place)
            for left in (draft, old):
                shutil.rmtree(left, ignore_errors=True)
    return place


def _takes_drafts(parent: Path, repository: Path) -> bool:
    """Tell whether models can be made there and moved: on one disk, and where we may write."""
    return parent.stat().st_dev == repository.stat().st_dev and os.access(parent, os.W_OK | os.X_OK)


def configuration(name: str, inputs: list[str], outputs: int, *, by_token: bool, labelled: bool) -> str:
    """Return a `config.pbtxt`: int64 inputs of any length in tokens, float32 logits, batches made as requests come.

    Shapes are without the batch. Threads are left to the server's own default, all cores.
    """
    shape = f"[ -1, {outputs} ]" if by_token else f"[ {outputs} ]"
    return "".join(
        [
            f"name: {_quoted(name)}\n",
            'backend: "onnxruntime"\n',
            f"max_batch_size: {MAX_BATCH}\n",
            *(f"input {{ name: {_quoted(value)} data_type: TYPE_INT64 dims: [ -1 ] }}\n" for value in inputs),
            f"output {{ name: {_quoted(OUTPUT)} data_type: TYPE_FP32 dims: {shape}",
            f" label_filename: {_quoted(LABELS)} }}\n" if labelled else " }\n",
            "instance_group { count: 1 kind: KIND_CPU }\n",
            "dynamic_batching { }\n",
        ]
    )


def _quoted(text: str) -> str:
    return json.dumps(text)
