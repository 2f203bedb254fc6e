"""Folders of ours, made of next to nothing, and what may lie in their place already."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from theseus_deploy.artifact import Artifact, Draft, Manifest, Parent, Source
from theseus_deploy.configs import FinetuneConfig
from theseus_deploy.data import Corpus
from theseus_deploy.errors import ArtifactError
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task

CORPUS = Corpus("tweets.csv", ("text",), "mood", {"train": Split("train", [("a",), ("b",)], ["x", "y"])})
PARENT = Parent("encoder", "0" * 64)


def manifest(**changes: Any) -> Manifest:
    facts = {
        "kind": "checkpoint", "stage": "finetune", "config": FinetuneConfig().to_json(), "parent": PARENT,
        "data": Source.of(CORPUS), "task": Task("single-label", ("x", "y"), ("text",), "mood", metric="f1"),
        "parameters": 7, "layers": 2, "scores": {"validation": {"accuracy": 0.5}},
    }  # fmt: skip
    return Manifest(**{**facts, **changes})


def fill(draft: Draft, weights: bytes = b"weights", **changes: Any) -> None:
    (draft.path / "model.safetensors").write_bytes(weights)
    (draft.path / "config.json").write_text("{}")
    (draft.path / "sub").mkdir()
    (draft.path / "sub" / "words.txt").write_text("é")
    draft.finish(manifest(**changes))


def make(out: Path, weights: bytes = b"weights", overwrite: bool = False, **changes: Any) -> Artifact:
    with Artifact.writing(out, overwrite) as draft:
        fill(draft, weights, **changes)
    return Artifact.open(out)


def refuse(work: Callable[[], object]) -> str:
    with pytest.raises(ArtifactError) as caught:
        work()
    message = str(caught.value)
    assert "\n" not in message
    return message


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def occupy(out: Path, kind: str) -> Path:
    """Put something in a place, and return the place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if kind == "ours":
        make(out, b"old")
    elif kind == "foreign":
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
    elif kind == "empty":
        out.mkdir()
    elif kind == "file":
        out.write_text("x")
    return out


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}
