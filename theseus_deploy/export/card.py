"""The model card of a bundle: what it is, its scores, where it comes from, how to load it. Its text is `card.md.j2`."""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from theseus_deploy.artifact import Manifest, Parent
from theseus_deploy.predictor import SESSION
from theseus_deploy.tasks import Task

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
PURPOSE: Mapping[str, str] = {
    "single-label": "It gives {} one label.",
    "multi-label": "It gives {} any number of labels.",
    "regression": "It gives {} a number.",
    "tokens": "It finds entities: every word of {} gets a tag.",
}


def model_card(manifest: Manifest, checkpoint: Manifest | None) -> str:
    """Return a bundle's `README.md`, with the front matter that the Hugging Face Hub reads.

    `checkpoint` is the manifest of what the bundle was made from, where it has one. Paths of this machine stay out of
    the card, which may be published.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"inline": _inline, "cell": _cell}
    template = environment.from_string(files(__package__).joinpath("card.md.j2").read_text("utf-8"))
    parents = [manifest.parent, checkpoint.parent if checkpoint else None]
    hub_id = next((parent.path for parent in parents if parent and _is_hub_id(parent.path)), None)
    task = manifest.task
    metrics = list(dict.fromkeys(metric for scores in manifest.scores.values() for metric in scores))
    head = task.facts.head.removeprefix("AutoModel")
    return template.render(
        name=_name(manifest.parent),
        purpose=PURPOSE[task.kind].format("a pair of texts" if len(task.text) == 2 else "a text"),
        pipeline_tag="token-classification" if task.tags_words else "text-classification",
        optimum_class=f"ORTModel{head}",
        base_model=hub_id,
        precision=manifest.precision,
        layers=manifest.layers,
        parameters=manifest.parameters,
        module_map=manifest.module_map,
        labels=task.labels,
        max_length=task.max_length,
        padding=manifest.receipt["padding"],
        ledger=manifest.receipt["ledger"],
        strip=manifest.receipt.get("strip"),
        faster_runtime=manifest.receipt.get("quantization", {}).get("tournament", {}).get("faster_runtime"),
        session=manifest.receipt.get(SESSION),
        metrics=metrics,
        rows=[
            (where.replace("_", " "), [_shown(scores.get(metric)) for metric in metrics])
            for where, scores in manifest.scores.items()
        ],
        lineage=_lineage(manifest, checkpoint),
        example=_example(task),
    )


def _lineage(manifest: Manifest, checkpoint: Manifest | None) -> list[dict[str, Any]]:
    steps = []
    if checkpoint and checkpoint.parent:
        before = max((layer for module in checkpoint.module_map or [] for layer in module), default=-1) + 1
        steps.append(_step(checkpoint.stage, checkpoint.parent, before or ""))
    if manifest.parent:
        steps.append(_step(f"{manifest.stage} ({manifest.precision})", manifest.parent, manifest.layers))
    return steps


def _step(what: str, parent: Parent, layers: int | str) -> dict[str, Any]:
    return {"what": what, "name": _name(parent), "sha256": parent.sha256, "layers": layers}


def _name(parent: Parent | None) -> str:
    """Return a Hub id as it is, and of a folder its name alone."""
    if parent is None:
        return "a model"
    return parent.path if _is_hub_id(parent.path) else re.split(r"[/\\]", parent.path.rstrip("/\\"))[-1]


def _is_hub_id(path: str) -> bool:
    """Tell whether a model was fetched from the Hub to this machine; `runs/successor` looks like one that was."""
    from huggingface_hub import try_to_load_from_cache

    return bool(HUB_ID.fullmatch(path)) and isinstance(try_to_load_from_cache(path, "config.json"), str)


def _inline(name: str) -> str:
    """Write a name so that it stays within a line and a pair of backticks."""
    return " ".join(name.splitlines()).replace("`", "'")


def _cell(name: str) -> str:
    """Write a name so that it stays within a cell of a table."""
    return _inline(name).replace("|", "\\|")


def _shown(score: float | None) -> str:
    return "" if score is None else f"{score:.4g}"


def _example(task: Task) -> str:
    return '("one text", "and another")' if len(task.text) == 2 else '"a text"'
