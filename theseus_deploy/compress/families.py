"""Where each model family keeps its layers: facts as a table."""

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from theseus_deploy.errors import ModelError

if TYPE_CHECKING:
    from torch.nn import ModuleList
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Family:
    """`layers` is the path from the base model (`model.base_model`) to the list of its layers."""

    layers: str


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
}

REFUSED = {
    "albert": "all its layers share one set of weights, so there is nothing to replace",
    "modernbert": "its layers alternate between local and global attention, which modules cannot mix yet",
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
    if kind == "deberta-v2" and getattr(config, "conv_kernel_size", None):
        raise ModelError(
            "this DeBERTa-v2 has a convolution between its first two layers, which no module could hold; "
            "use a DeBERTa-v3, which has none"
        )
    return FAMILIES[kind]


def layers_of(model: "PreTrainedModel") -> "ModuleList":
    """Return the list of layers inside a model, to read or to replace in place."""
    layers: ModuleList = attrgetter(family_of(model.config).layers)(model.base_model)
    return layers


def count_layers(config: "PretrainedConfig") -> int:
    """Return the number of layers a configuration asks for, whatever its family calls them."""
    return int(_normalised(config).num_layers)


def set_layer_count(config: "PretrainedConfig", layers: int) -> None:
    """Write the number of layers into a configuration, under its family's own name."""
    setattr(config, _normalised(config).NUM_LAYERS, layers)


def _normalised(config: "PretrainedConfig") -> Any:
    from optimum.utils import NormalizedConfigManager

    family_of(config)
    return NormalizedConfigManager.get_normalized_config_class(config.model_type)(config)
