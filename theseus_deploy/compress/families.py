"""Where each model family keeps its layers, and in what they are not alike: facts as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from theseus_deploy.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from torch.nn import ModuleList
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Family:
    """What has to be known of a family to give its models other layers.

    `layers` is the path from the base model (`model.base_model`) to the list of its layers. `first_lacks` names a part
    that every layer has but layer 0. `listed` pairs a list in the configuration, one entry a layer, with the layer's
    attribute that it holds.
    """

    layers: str
    first_lacks: str | None = None
    listed: tuple[tuple[str, str], ...] = ()


FAMILIES = {
    "bert": Family("encoder.layer"),
    "roberta": Family("encoder.layer"),
    "xlm-roberta": Family("encoder.layer"),
    "camembert": Family("encoder.layer"),
    "electra": Family("encoder.layer"),
    "mpnet": Family("encoder.layer"),
    "deberta": Family("encoder.layer"),
    "deberta-v2": Family("encoder.layer"),
    "distilbert": Family("transformer.layer"),
    "modernbert": Family("layers", first_lacks="attn_norm", listed=(("layer_types", "attention_type"),)),
}

REFUSED = {
    "albert": "all its layers share one set of weights, so there is nothing to replace",
}


def family_of(config: "PretrainedConfig") -> Family:
    """Look up a model's family.

    Raises:
        ModelError: the family is not in the table, or cannot be compressed layer by layer.
    """
    kind = config.model_type
    if kind in REFUSED:
        raise ModelError(f"model type {kind!r} cannot be compressed: {REFUSED[kind]}; use one of {', '.join(FAMILIES)}")
    if kind not in FAMILIES:
        raise ModelError(f"model type {kind!r} is no encoder we know; use one of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def check_sources(config: "PretrainedConfig", sources: Sequence[int]) -> None:
    """Check, before any weights are loaded, that layers which start as `sources` make a model that can be loaded.

    Raises:
        ConfigError: a layer would stand first that is not built as the family's first layer is, or the reverse.
        ModelError: the family cannot be compressed.
    """
    lacks = family_of(config).first_lacks
    for position, source in enumerate(sources):
        if lacks and (position == 0) != (source == 0):
            raise ConfigError(
                f"successor layer {position} would start as layer {source}, but in {config.model_type} layer 0, and "
                f"no other, is without {lacks}; use --init bottom or --init first, which keep it first"
            )


def layers_of(model: "PreTrainedModel") -> "ModuleList":
    """Return the list of layers inside a model."""
    return cast("ModuleList", model.base_model.get_submodule(family_of(model.config).layers))


def set_layers(model: "PreTrainedModel", layers: "ModuleList") -> None:
    """Put another list in the place of a model's layers; its configuration stays as it is."""
    model.base_model.set_submodule(family_of(model.config).layers, layers)


def count_layers(config: "PretrainedConfig") -> int:
    """Return the number of layers a configuration asks for, whatever its family calls them."""
    return int(_normalised(config).num_layers)


def describe_layers(model: "PreTrainedModel") -> None:
    """Write into a model's configuration which layers it has: how many, and what the family lists of each."""
    config, layers = model.config, layers_of(model)
    setattr(config, _normalised(config).NUM_LAYERS, len(layers))
    for name, attribute in family_of(config).listed:
        setattr(config, name, [getattr(layer, attribute) for layer in layers])


def _normalised(config: "PretrainedConfig") -> Any:
    from optimum.utils import NormalizedConfigManager

    family_of(config)
    return NormalizedConfigManager.get_normalized_config_class(config.model_type)(config)
