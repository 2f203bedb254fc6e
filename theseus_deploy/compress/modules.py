"""Modules that can be replaced, inside an unforked transformers model (section 3.1 of the paper)."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from theseus_deploy.compress.families import layers_of, set_layer_count
from theseus_deploy.compress.module_map import ModuleMap


class TheseusModule(nn.Module):
    """One module of the predecessor beside its successor; stands in the model where one layer stood.

    In training, `replaced` chooses the branch: y' = r scc(y) + (1 - r) prd(y), and only the chosen one runs. In
    evaluation it is always the successor. Hidden states go through it in the shape (batch, sequence, width).
    """

    def __init__(self, predecessor: Sequence[nn.Module], successor: nn.Module) -> None:
        super().__init__()
        self.predecessor = nn.ModuleList(predecessor)
        self.successor = successor
        self.replaced = True

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Pass through the successor, or through the predecessor's layers one after another."""
        if self.replaced or not self.training:
            return self.successor(hidden_states, *args, **kwargs)
        output: Any = hidden_states
        for layer in self.predecessor:
            # Some families answer with the hidden states alone, some with a tuple that they lead.
            output = layer(output[0] if isinstance(output, tuple) else output, *args, **kwargs)
        return output


def assemble(model: PreTrainedModel, module_map: ModuleMap, init: str = "bottom") -> PreTrainedModel:
    """Put a `TheseusModule` for every module into `model`, in place, and leave only the successors trainable.

    Each successor starts as a copy of one predecessor layer (`ModuleMap.sources`) and shares no storage with it.
    Predecessor layers, embeddings, pooler and head are frozen: no gradient is computed for them.
    """
    layers = layers_of(model)
    successors = [deepcopy(layers[source]) for source in module_map.sources(init)]
    modules = [
        TheseusModule([layers[index] for index in indices], successor)
        for indices, successor in zip(module_map.modules, successors, strict=True)
    ]
    del layers[:]
    layers.extend(modules)
    model.requires_grad_(False)
    for module in modules:
        module.successor.requires_grad_(True)
    return model


def strip(model: PreTrainedModel) -> PreTrainedModel:
    """Take the predecessor's layers out, in place: what is left is a plain model with one layer for each module."""
    layers = layers_of(model)
    successors = [module.successor for module in theseus_modules(model)]
    del layers[:]
    layers.extend(successors)
    _renumber(layers)
    set_layer_count(model.config, len(successors))
    return model.requires_grad_(True)


def truncate(model: PreTrainedModel, sources: Sequence[int]) -> PreTrainedModel:
    """Keep only the layers named, in place: where a successor starts, and what truncation is."""
    layers = layers_of(model)
    kept = [layers[source] for source in sources]
    del layers[:]
    layers.extend(kept)
    _renumber(layers)
    set_layer_count(model.config, len(kept))
    return model


def theseus_modules(model: nn.Module) -> list[TheseusModule]:
    """Return the replaceable modules of an assembled model, in order."""
    return [module for module in model.modules() if isinstance(module, TheseusModule)]


def set_mask(model: nn.Module, mask: Sequence[bool]) -> None:
    """Choose each module's branch for the next forward pass."""
    for module, replaced in zip(theseus_modules(model), mask, strict=True):
        module.replaced = replaced


def successor_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Iterate over the parameters of all successors."""
    for module in theseus_modules(model):
        yield from module.successor.parameters()


def _renumber(layers: nn.ModuleList) -> None:
    for index, layer in enumerate(layers):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                setattr(part, "layer_idx", index)  # noqa: B010 - not a tensor, which mypy takes it for
