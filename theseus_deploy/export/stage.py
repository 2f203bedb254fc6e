"""The stage: checkpoint -> bundle, on objects and on paths."""

import gc
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theseus_deploy.artifact import Artifact, Manifest, Source, claim, ledger_entry
from theseus_deploy.configs import ExportConfig
from theseus_deploy.data import Corpus, open_data
from theseus_deploy.errors import ConfigError, ExportError
from theseus_deploy.execution import evaluating, torch_threads
from theseus_deploy.export.card import model_card
from theseus_deploy.export.onnx import to_onnx
from theseus_deploy.export.parity import (
    Answers,
    Parity,
    Texts,
    ask,
    checkpoint_answer,
    choose_texts,
    compare,
    probe_texts,
    sides,
)
from theseus_deploy.export.quantize.choose import check_request, check_rows, quantise
from theseus_deploy.export.quantize.judge import Judge
from theseus_deploy.export.quantize.tournament import FP32, Timer
from theseus_deploy.export.strip import Predecessor, prove_strip
from theseus_deploy.manifest import GRAPH, TOKENIZER
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.models.tokenizer import write_tokenizer
from theseus_deploy.predictor import SESSION, Predictor
from theseus_deploy.probe import Probe
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CARD = "README.md"


@dataclass(frozen=True)
class Exported:
    """What an export made.

    `parity` holds by name: `parity` of the graph that ships, `parity_fp32` of the one it was quantised from, and where
    the model may be padded on the other side too, the same again with `_left` (or `_right`) behind.
    """

    precision: str
    parameters: int
    parity: Mapping[str, Parity]
    receipt: Mapping[str, Any]

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Return the part of the manifest's scores that export adds."""
        return {name: parity.to_json() for name, parity in self.parity.items()}


def export(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    texts: Texts,
    config: ExportConfig,
    folder: Path,
    progress: Progress = SILENT,
    *,
    corpus: Corpus | None = None,
    predecessor: Predecessor | None = None,
    timer: Timer | None = None,
) -> Exported:
    """Write a bundle's files but the manifest into `folder`, and prove on `texts` that the graph answers as the model.

    The fp32 graph must answer within `config.atol`, padded on every side that the model allows; of an int8 graph the
    difference is reported. `corpus` is what int8 is calibrated on and scored with, `timer` times what
    `--quantize auto` tries. The model must be float32, on the CPU, and is freed before the graph is loaded where its
    caller holds no reference to it. Of its `predecessor`, nothing may be in the graph but what the two share.

    Raises:
        ConfigError: what was asked needs a corpus, or a timer.
        ExportError: the model cannot be exported, its graph answers otherwise, or holds what was replaced.
    """
    original = _convert(model, tokenizer, task, texts, config, folder, predecessor, progress)
    del model
    gc.collect()  # the exporter leaves cycles that hold weights
    return _ship(original, config, folder, corpus, progress, timer)


def export_checkpoint(
    ref: str,
    out: Path,
    config: ExportConfig,
    *,
    data: str | None = None,
    text: tuple[str, ...] | None = None,
    label: str | None = None,
    overwrite: bool = False,
    reuse: bool = False,
    progress: Progress = SILENT,
    timer: Timer | None = None,
) -> Artifact:
    """Export the checkpoint `ref` and write the bundle to `out`, checked on texts of `data`, or on built-in ones.

    An `out` that exists is an error, unless `overwrite`; with `reuse` it is kept if the same was asked of it before.
    `--quantize auto` needs a `timer`, which is `race.race`.

    Raises:
        TheseusError: the checkpoint, the data or `out` cannot be used, or the graph answers otherwise than the
            checkpoint; nothing is written then.
    """
    check_request(config, None, data is not None, timer is not None)
    for flag, columns in (("--text", ",".join(text or ())), ("--label", label)):
        if columns and data is None:
            raise ConfigError(f"{flag} {columns} without --data, whose column it names; give both, or leave it out")
    claim(out, overwrite or reuse)
    checkpoint = open_checkpoint(ref)
    checkpoint.keep_from(out)
    task = replace(checkpoint.task, max_length=checkpoint.longest(config.max_length))
    check_request(config, task, data is not None, timer is not None)
    corpus = open_data(data, text, label, task) if data else None
    if corpus:
        task = task.reading(corpus.text, corpus.label, corpus.metric)
        check_rows(config, task, corpus)
    request = Artifact.request("export", config, checkpoint.parent, corpus)
    if reuse and (kept := Artifact.kept(out, request)):
        return kept
    texts = choose_texts(corpus.for_scoring().texts if corpus else [], task)
    before = checkpoint.artifact.manifest if checkpoint.artifact else None
    checkpoint.check_trained()
    tokenizer = checkpoint.tokenizer(task)
    if checkpoint.artifact is None and config.max_length is None:
        progress.say(f"inputs are cut at {task.max_length} tokens, for {ref} does not say where: see --max-length")
    with Artifact.writing(out, overwrite or reuse) as draft:
        exported = export(
            checkpoint.trained(), tokenizer, task, texts, config, draft.path, progress,
            corpus=corpus, predecessor=Predecessor.of(before, checkpoint.path), timer=timer,
        )  # fmt: skip
        manifest = Manifest(
            kind="bundle",
            stage="export",
            config=config.to_json(),
            parent=checkpoint.parent,
            data=Source.of(corpus) if corpus else None,
            task=task,
            parameters=exported.parameters,
            layers=before.layers if before else checkpoint.config.num_hidden_layers,
            precision=exported.precision,
            module_map=before.module_map if before else None,
            scores={**(before.scores if before else {}), **exported.scores},
            receipt=exported.receipt,
        )
        (draft.path / CARD).write_text(model_card(manifest, before), "utf-8")
        draft.finish(manifest)
    return Artifact.open(out)


@dataclass(frozen=True)
class _Original:
    """What is known of a checkpoint when its weights are gone: what it answered, and where it may be padded.

    `sides` begins with the tokenizer's own; `replaced` is what is left of a successor's predecessor.
    """

    task: Task
    texts: Texts
    expected: Answers
    sides: tuple[str, ...]
    parameters: int
    size: int
    replaced: Predecessor | None


def _convert(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    texts: Texts,
    config: ExportConfig,
    folder: Path,
    predecessor: Predecessor | None,
    progress: Progress,
) -> _Original:
    """Write the fp32 graph and the files beside it, and ask the checkpoint."""
    if not tokenizer("")["input_ids"]:
        raise ExportError(
            "the tokenizer makes no token of an empty text, and the model needs one; have its post-processor add "
            "special tokens, as it did in training"
        )
    model.config.save_pretrained(folder)
    save_tokenizer(tokenizer, task, folder)
    with evaluating(model), torch_threads(config.threads):
        progress.say(f"writing {GRAPH} (opset {config.opset})")
        to_onnx(model, tokenizer, folder / GRAPH, config.opset)
        expected = ask(checkpoint_answer(model, tokenizer, task), texts, progress, "asking the checkpoint")
        padded = sides(model, tokenizer, task, texts, expected, config.atol)
    return _Original(
        task, texts, expected, padded, model.num_parameters(), sum(weight.nbytes for weight in model.parameters()),
        predecessor.without(model) if predecessor else None,
    )  # fmt: skip


def _ship(
    original: _Original,
    config: ExportConfig,
    folder: Path,
    corpus: Corpus | None,
    progress: Progress,
    timer: Timer | None,
) -> Exported:
    """Prove the fp32 graph, quantise it, and write the probe of what ships; one session is open at a time."""
    graph, task, texts, replaced = folder / GRAPH, original.task, original.texts, original.replaced
    strip = {"strip": prove_strip(replaced, graph)} if replaced else {}
    ledger = [dict(replaced.entry)] if replaced and replaced.entry else []
    ledger.append(ledger_entry("checkpoint", original.parameters, original.size))

    def check(name: str) -> tuple[Predictor, dict[str, Parity]]:
        ledger.append(ledger_entry(name, _count_weights(graph), graph.stat().st_size))
        predictor = Predictor(folder, config.threads, task=task)
        title = f"asking the {name} graph"
        return predictor, {
            f"_{side}" if place else "": compare(
                original.expected, ask(predictor.padding_on(side).answer, texts, progress, title), texts, task
            )
            for place, side in enumerate(original.sides)
        }

    predictor, parity = check(FP32)
    for found in parity.values():
        found.require(config.atol)
    precision, named, quantised_by = FP32, {f"parity{side}": found for side, found in parity.items()}, 0.0
    receipt: dict[str, Any] = {"ledger": ledger, **strip, "padding": list(original.sides)}
    if config.quantize != "none":
        del predictor
        judge = Judge(folder, task, texts, original.expected, corpus, config.threads)
        chosen = quantise(graph, config, judge, progress, timer)
        receipt["quantization"] = chosen.receipt
        receipt |= {SESSION: dict(chosen.session)} if chosen.session else {}
        if chosen.precision == FP32:
            predictor = judge.open()
        else:
            predictor, quantised = check(chosen.precision)
            precision, quantised_by = chosen.precision, quantised[""].max_abs_diff
            named = {
                **{f"parity{side}": found for side, found in quantised.items()},
                **{f"parity_fp32{side}": found for side, found in parity.items()},
            }
    Probe.ask(predictor, probe_texts(task), quantised_by).write(folder)
    return Exported(precision, original.parameters, named, receipt)


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", task: Task, folder: Path) -> None:
    """Write the tokenizer's files; `tokenizer.json` says how to truncate and pad, for readers in any language.

    It has no place for `split_special_tokens`, by which a `</s>` in a text is text: it knows no special token then.
    """
    from tokenizers import Tokenizer

    write_tokenizer(tokenizer, folder)
    path = folder / TOKENIZER
    production = Tokenizer.from_file(str(path))
    if tokenizer.split_special_tokens:
        layout = json.loads(production.to_str())
        layout["added_tokens"] = [token for token in layout["added_tokens"] if not token["special"]]
        production = Tokenizer.from_str(json.dumps(layout))
    production.enable_truncation(task.max_length, direction=tokenizer.truncation_side)
    production.enable_padding(
        direction=tokenizer.padding_side,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=tokenizer.pad_token,
    )
    path.write_text(production.to_str(pretty=True), "utf-8")  # its own `save` raises no OSError on a full disk


def _count_weights(graph: Path) -> int:
    """Count the weights in a graph, without the scales and zero points that quantisation brings."""
    import onnx

    stored = tuple(getattr(onnx.TensorProto, kind) for kind in ("FLOAT", "FLOAT16", "INT8", "UINT8"))
    return sum(
        prod(tensor.dims)
        for tensor in onnx.load(graph).graph.initializer
        if tensor.dims  # a scalar is a constant of the graph
        and (tensor.data_type in stored or tensor.name.endswith("_quantized"))  # biases are int32 then
        and not tensor.name.endswith(("_scale", "_zero_point"))
    )
