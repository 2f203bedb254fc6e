"""Modules that can be replaced, inside an unforked transformers model (section 3.1 of the paper).

The model's own loop stays in charge: it walks over a list that yields, for every module, the layers of the branch
that was chosen. So each layer gets from the loop what is its own - the mask and rotary embedding of its kind of
attention in ModernBERT - and what the loop does around a layer - the convolution after DeBERTa-v2's first - it does
around the ones that run.
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from typing import cast

from torch import nn
from transformers import PreTrainedModel

from theseus_deploy.compress.families import check_sources, describe_layers, layers_of, set_layers
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.configs import Thaw


class TheseusModule(nn.Module):
    """One module of the predecessor beside its successor.

    In training, `replaced` chooses the branch: y' = r scc(y) + (1 - r) prd(y), and only the chosen one runs. In
    evaluation it is always the successor.
    """

    def __init__(self, predecessor: Iterable[nn.Module], successor: nn.Module) -> None:
        super().__init__()
        self.predecessor = nn.ModuleList(predecessor)
        self.successor = successor
        self.replaced = True

    @property
    def chosen(self) -> Sequence[nn.Module]:
        """Return the layers of the chosen branch, in order: the successor, or the predecessor's."""
        if self.replaced or not self.training:
            return [self.successor]
        return list(self.predecessor)


class TheseusLayers(nn.ModuleList):
    """The list of layers in an assembled model: it holds its modules, and yields the layers that run now."""

    def __iter__(self) -> Iterator[nn.Module]:
        """Yield the layers of every module's chosen branch, as the model's own loop is to run them."""
        for module in super().__iter__():
            yield from cast(TheseusModule, module).chosen


def assemble(model: PreTrainedModel, module_map: ModuleMap, init: str = "bottom") -> PreTrainedModel:
    """Put a `TheseusModule` for every module into `model`, in place, and leave only the successors trainable.

    Each successor starts as a copy of one predecessor layer (`ModuleMap.sources`) and shares no storage with it.
    Predecessor layers, embeddings, pooler and head are frozen: no gradient is computed for them.

    Raises:
        ConfigError: a successor cannot start as that layer (`check_sources`).
    """
    sources = module_map.sources(init)
    check_sources(model.config, sources)
    layers = layers_of(model)
    model.requires_grad_(False)
    modules = TheseusLayers(
        TheseusModule([layers[index] for index in indices], deepcopy(layers[source]).requires_grad_(True))
        for indices, source in zip(module_map.modules, sources, strict=True)
    )
    set_layers(model, modules.train(model.training))
    return model


def strip(model: PreTrainedModel) -> PreTrainedModel:
    """Take the predecessor's layers out, in place: what is left is a plain model with one layer for each module."""
    keep(model, [module.successor for module in theseus_modules(model)])
    return model.requires_grad_(True)


def truncate(model: PreTrainedModel, sources: Sequence[int]) -> PreTrainedModel:
    """Keep only the layers named, in place: where a successor starts, and what truncation is.

    Raises:
        ConfigError: a layer cannot stand where it would (`check_sources`).
    """
    check_sources(model.config, sources)
    layers = layers_of(model)
    keep(model, [layers[source] for source in sources])
    return model


def theseus_modules(model: nn.Module) -> list[TheseusModule]:
    """Return the replaceable modules of an assembled model, in order."""
    return [module for module in model.modules() if isinstance(module, TheseusModule)]


def set_mask(modules: Sequence[TheseusModule], mask: Sequence[bool]) -> None:
    """Choose each module's branch for the next forward pass."""
    for module, replaced in zip(modules, mask, strict=True):
        module.replaced = replaced


def successor_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Iterate over the parameters of all successors."""
    for module in theseus_modules(model):
        yield from module.successor.parameters()


def trainable_parameters(model: PreTrainedModel, thaw: Thaw) -> list[nn.Parameter]:
    """Return what trains once the rate is 1, in an assembled model or a plain one, in the model's own order.

    `none`: the successors, in a plain model its layers. `head`: these, the pooler, and all outside the base model.
    `all`: everything but the predecessor's layers.
    """
    modules, base = theseus_modules(model), model.base_model
    layers = [module.successor for module in modules] or [layers_of(model)]
    pooler = getattr(base, "pooler", None)
    body = _parameters([base]) - _parameters([pooler] if pooler else [])
    everything = _parameters([model])
    trained = {
        "none": _parameters(layers),
        "head": _parameters(layers) | everything - body,
        "all": everything - _parameters(module.predecessor for module in modules),
    }[thaw]
    return [weight for weight in model.parameters() if weight in trained]


def keep(model: PreTrainedModel, layers: Sequence[nn.Module]) -> None:
    """Make these the layers of a plain model, in place."""
    set_layers(model, nn.ModuleList(layers))
    describe_layers(model)
    for index, layer in enumerate(layers):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                setattr(part, "layer_idx", index)  # noqa: B010 - not a tensor, which mypy takes it for


def _parameters(modules: Iterable[nn.Module]) -> set[nn.Parameter]:
    return {weight for module in modules for weight in module.parameters()}
