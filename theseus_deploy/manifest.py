"""What a folder of ours says of itself: `theseus.json`. Production reads it too, so that it imports next to nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.errors import ArtifactError, TheseusError
from theseus_deploy.machine import Machine, this_machine, versions
from theseus_deploy.tasks import Task

if TYPE_CHECKING:
    from theseus_deploy.data import Corpus

MANIFEST = "theseus.json"
GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"  # of a bundle
OUTPUT = "logits"  # of a graph
SCHEMA = 1
KNOWN = {
    "kind": ("checkpoint", "bundle"),
    "stage": ("finetune", "compress", "export"),
    "precision": ("fp32", "fp16", "int8-dynamic", "int8-static"),
}
KINDS_OF = {"kind": str, "stage": str, "precision": str, "parameters": int, "layers": int, "path": str, "sha256": str}
Files = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Parent:
    """What a folder was made from, and the hash its content had then."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """The data a stage read: the name it was asked for by, its content's hash, its rows."""

    ref: str
    sha256: str
    rows: Mapping[str, int]

    @classmethod
    def of(cls, corpus: "Corpus") -> "Source":
        """Describe a data set that was read."""
        return cls(corpus.ref, corpus.sha256, {name: len(split) for name, split in corpus.splits.items()})


@dataclass(frozen=True)
class Manifest:
    """The content of `theseus.json` but for `files`, which `Artifact` fills in from what is on the disk.

    `machine` is where the folder was made, once it is read; whoever writes it writes this machine.
    """

    kind: str
    stage: str
    config: Mapping[str, Any]
    parent: Parent | None
    data: Source | None
    task: Task
    parameters: int
    layers: int
    precision: str = "fp32"
    module_map: list[list[int]] | None = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    receipt: Mapping[str, Any] = field(default_factory=dict)
    machine: Machine | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `theseus.json` holds, with the versions and the machine of this moment."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "stage": self.stage,
            "config": dict(self.config),
            "parent": vars(self.parent) if self.parent else None,
            "data": {**vars(self.data), "rows": dict(self.data.rows)} if self.data else None,
            "task": self.task.to_json(),
            "parameters": self.parameters,
            "layers": self.layers,
            "precision": self.precision,
            "module_map": self.module_map,
            "scores": {name: dict(scores) for name, scores in self.scores.items()},
            "receipt": dict(self.receipt),
            "versions": versions(),
            "machine": this_machine().to_json(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Manifest":
        """Read what `to_json` wrote.

        Raises:
            ValueError: a value is of another kind than was written.
        """
        parent = Parent(**data["parent"]) if data["parent"] else None
        for name, value in {**data, **({} if parent is None else vars(parent))}.items():
            if not isinstance(value, KINDS_OF.get(name, object)):
                raise ValueError(f"{name} is {str(value)[:60]}")
            if name in KNOWN and value not in KNOWN[name]:
                raise ValueError(f"{name} is {str(value)[:60]}, and can be {', '.join(KNOWN[name])}")
        if not _is_map(data["module_map"]):
            raise ValueError(f"module_map is {str(data['module_map'])[:60]}")
        return cls(
            kind=data["kind"],
            stage=data["stage"],
            config=data["config"],
            parent=parent,
            data=Source(**data["data"]) if data.get("data") else None,
            task=Task.from_json(data["task"]),
            parameters=data["parameters"],
            layers=data["layers"],
            precision=data["precision"],
            module_map=data["module_map"],
            scores=data["scores"],
            receipt=dict(data.get("receipt") or {}),
            machine=Machine.from_json(data["machine"]) if data.get("machine") else None,
        )


def _is_map(modules: object) -> bool:
    """Tell whether this is what a manifest says of modules: lists of layers, or nothing."""
    if modules is None:
        return True
    return isinstance(modules, list) and all(
        isinstance(layers, list) and all(type(layer) is int for layer in layers) for layers in modules
    )


def read_manifest(folder: Path) -> tuple[Manifest, Files]:
    """Return a folder's manifest, and the hash and size of every file that it names.

    Raises:
        ArtifactError: there is no manifest, or it is not one that this version reads.
    """
    try:
        data = json.loads((folder / MANIFEST).read_text("utf-8"))
        if data["schema"] != SCHEMA:
            raise ArtifactError(
                f"{folder} has schema {data['schema']}; this version reads {SCHEMA}: upgrade theseus-deploy"
            )
        files = {name: {"sha256": facts["sha256"], "bytes": facts["bytes"]} for name, facts in data["files"].items()}
        if odd := next((name for name, facts in files.items() if type(facts["bytes"]) is not int), None):
            raise ValueError(f"the bytes of {odd} are {str(files[odd]['bytes'])[:60]}")
        return Manifest.from_json(data), files
    except ArtifactError:
        raise
    except OSError as error:
        raise ArtifactError(f"{folder} has no readable {MANIFEST}; give a folder that theseus wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, TheseusError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ArtifactError(f"{folder / MANIFEST} is damaged ({reason}); write the folder again") from error


def ledger_entry(name: str, parameters: int, size: int) -> dict[str, str | int]:
    """Return an entry of the `ledger` in a manifest's receipt: what the weights were at one step, `size` in bytes."""
    return {"name": name, "parameters": parameters, "bytes": size}
