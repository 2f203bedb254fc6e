"""A model's weights: loaded under a head for a task, and refused where they are not all there, or another model's."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.errors import ModelError, brief
from theseus_deploy.execution import quiet
from theseus_deploy.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Names of weights in a model whose modules are still being replaced: ours, and the original BERT-of-Theseus'.
ASSEMBLED = (".predecessor.", ".successor.", ".scc_layer.")
LAYER = re.compile(r"((encoder|transformer)\.)?layers?\.\d+\.")  # how the name of a layer's weight begins
BUFFERS = ("position_ids", "inv_freq")  # of older checkpoints, which a model computes by itself


def load_fresh(ref: str, path: Path, task: Task, seed: int) -> "PreTrainedModel":
    """Load the encoder under a head for `task`, drawn from `seed` where the folder has none of that shape.

    Raises:
        ModelError: the folder lacks weights of the encoder itself.
    """
    from transformers import set_seed

    set_seed(seed)
    model, *_ = _load(
        ref, path, task.facts.head, num_labels=task.outputs, problem_type=task.facts.problem_type, **_label_names(task)
    )
    return model


def load_trained(ref: str, path: Path, task: Task, **how: Any) -> "PreTrainedModel":
    """Load the model with the head it was trained with; `how` goes to transformers.

    Raises:
        ModelError: weights are missing from the folder, the head's for instance.
    """
    model, missing, reshaped = _load(ref, path, task.facts.head, **how)
    if reshaped:
        name, (saved, expected) = min(reshaped.items())
        labels = model.config.num_labels
        if saved and [*expected] == [labels, *saved[1:]]:
            raise ModelError(
                f"{ref} has a {name} of {saved[0]} outputs, and its config.json has {labels} labels; name as "
                "many in its id2label"
            )
        raise ModelError(
            f"{ref} has a {name} of shape {[*saved]}, not {[*expected]} as its config.json says; fetch both"
        )
    if missing:
        raise ModelError(
            f"{ref} has no trained weights for {_first(missing)}; a predecessor must be fine-tuned on the "
            "task first: run `theseus finetune`"
        )
    return model


def _load(
    ref: str, path: Path, head: str, **changes: Any
) -> tuple["PreTrainedModel", set[str], dict[str, tuple[Sequence[int], Sequence[int]]]]:
    """Load a model; return it with the head's weights that are missing, and the shapes of those of another one."""
    import torch
    import transformers
    from safetensors import SafetensorError

    try:
        with quiet():
            model, report = getattr(transformers, head).from_pretrained(
                path, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **changes
            )
    except SafetensorError as error:
        raise ModelError(f"{ref} holds damaged weights ({brief(error)}); fetch or train it again") from error
    except Exception as error:  # transformers has no error of its own: what it raises depends on the damage
        raise ModelError(
            f"{ref} is no text classifier that can be loaded ({brief(error)}); give another model"
        ) from error
    if half := {name for name in report["unexpected_keys"] if any(part in name for part in ASSEMBLED)}:
        raise ModelError(
            f"{ref} is a model whose modules are still being replaced (it holds {_first(half)}); finish its "
            "schedule with `theseus compress`, and give the successor that it writes"
        )
    missing = set(report["missing_keys"])
    reshaped = {name: shapes for name, *shapes in report["mismatched_keys"]}
    encoder = {
        name
        for name in missing | reshaped.keys()
        if name.startswith(model.base_model_prefix + ".") and ".pooler." not in name
    }
    if encoder:
        raise ModelError(
            f"{ref} has no weights, or none of the shape in its config.json, for {_first(encoder)}; "
            "fetch or train it again"
        )
    if lost := {name for name in report["unexpected_keys"] if _is_of_a_layer(name, model.base_model_prefix)}:
        raise ModelError(
            f"{ref} has weights of layers that have no place in the model ({_first(lost)}); correct "
            "num_hidden_layers in its config.json if that is why, else give another model: relative positions and "
            "adapters that were not merged are not supported"
        )
    return model, missing, reshaped


def _label_names(task: Task) -> dict[str, Any]:
    if not task.labels:
        return {}
    return {"id2label": dict(enumerate(task.labels)), "label2id": {name: i for i, name in enumerate(task.labels)}}


def _is_of_a_layer(name: str, prefix: str) -> bool:
    """Tell whether a weight is of a layer of the encoder; its name begins with a prefix, or with what comes behind."""
    inside = name.removeprefix(f"{prefix}.")
    return bool(LAYER.match(inside)) and not inside.endswith(BUFFERS)


def _first(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
