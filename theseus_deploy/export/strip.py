"""Proof of strip: what the successor does not share with its predecessor is not in the graph."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.artifact import Manifest, Parent, fingerprint, ledger_entry
from theseus_deploy.errors import ArtifactError, ExportError
from theseus_deploy.models.find import places_of

if TYPE_CHECKING:
    import torch
    from onnx import GraphProto, TensorProto
    from transformers import PreTrainedModel

STAGE = "compress"
PREDECESSOR = "predecessor"  # its entry in the ledger


@dataclass(frozen=True)
class Tensor:
    """A weight as float32: its name, its elements, their hash as they lie and transposed.

    One of a single value throughout, an untouched bias for instance, is not `telling`: any model may have it.
    """

    name: str
    elements: int
    sha256: str
    transposed: str
    telling: bool


@dataclass(frozen=True)
class Predecessor:
    """What a successor was made from: its weights, or why they are unknown; its ledger entry where that is known."""

    ref: str
    entry: Mapping[str, Any] | None = None
    tensors: tuple[Tensor, ...] = field(default=(), repr=False)
    unknown: str = ""

    @classmethod
    def of(cls, successor: Manifest | None, folder: Path) -> "Predecessor | None":
        """Read the predecessor of the checkpoint in `folder` off the disk; None where the checkpoint is no successor.

        Its entry in the ledger is what compress counted. If it is not here any more, or not as it was, it is unknown.
        """
        if successor is None or successor.stage != STAGE or successor.parent is None:
            return None
        ref, entry = successor.parent.path, next(iter(successor.receipt.get("ledger", ())), None)
        places = list(places_of(ref, folder))
        if not places:
            return cls(ref, entry, unknown="it is not here")
        try:
            place = next((place for place in places if _is_unchanged(place, successor.parent)), None)
            if place is None:
                return cls(ref, entry, unknown="it has changed since")
            weights = sorted(place.glob("*.safetensors"))
            if not weights:
                return cls(ref, entry, unknown="its weights are not safetensors")
            tensors = tuple(tensor for path in weights for tensor in _read(path))
        except PermissionError:
            return cls(ref, entry, unknown="it cannot be read")
        elements = sum(tensor.elements for tensor in tensors)
        return cls(ref, entry or ledger_entry(PREDECESSOR, elements, 4 * elements), tensors)

    def without(self, model: "PreTrainedModel") -> "Predecessor":
        """Return what was replaced: the predecessor without the tensors that its successor has too."""
        kept = {_hash(weight) for weight in model.state_dict().values()} if self.tensors else set()
        replaced = (tensor for tensor in self.tensors if tensor.telling and tensor.sha256 not in kept)
        return replace(self, tensors=tuple(replaced))


def prove_strip(replaced: Predecessor, graph: Path) -> dict[str, Any]:
    """Look in a successor's fp32 graph for each tensor of its predecessor that was replaced (`Predecessor.without`).

    Returns the `strip` object of the manifest's receipt: how many tensors were `replaced` and looked for, or, where the
    predecessor cannot be read, why it is `unproven`.

    Raises:
        ExportError: the graph holds one, as it was or transposed.
    """
    import onnx

    if replaced.unknown:
        return {"predecessor": replaced.ref, "unproven": replaced.unknown}
    name_of = {sha256: tensor.name for tensor in replaced.tensors for sha256 in (tensor.sha256, tensor.transposed)}
    for stored in _constants(onnx.load(graph).graph):
        sha256 = hashlib.sha256(onnx.numpy_helper.to_array(stored).tobytes()).hexdigest()
        if sha256 in name_of:
            raise ExportError(
                f"the graph holds {name_of[sha256]} of the predecessor {replaced.ref} (as {stored.name}), which "
                "was replaced; compress it again and export what that writes"
            )
    return {"predecessor": replaced.ref, "replaced": len(replaced.tensors)}


def _is_unchanged(folder: Path, parent: Parent) -> bool:
    try:
        return fingerprint(folder) == parent.sha256
    except ArtifactError:  # its manifest is damaged
        return False


def _read(path: Path) -> Iterator[Tensor]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:  # numpy knows no bfloat16
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            weight = file.get_tensor(name)
            if weight.is_floating_point() and weight.numel():
                telling = bool((weight != weight.flatten()[0]).any())
                sha256 = _hash(weight)
                yield Tensor(name, weight.numel(), sha256, _hash(weight.T) if weight.ndim == 2 else sha256, telling)


def _hash(weight: "torch.Tensor") -> str:
    return hashlib.sha256(weight.float().numpy(force=True).tobytes()).hexdigest()


def _constants(graph: "GraphProto") -> Iterator["TensorProto"]:
    """Yield all that a graph stores: its weights, and what its nodes hold in their attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (*attribute.tensors, *([attribute.t] if attribute.HasField("t") else []))
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _constants(inner)
