"""Read the bundles that bundles.py wrote as others do, in an environment without us, and compare the answers.

Readers: plain onnxruntime and OpenVINO, fed by `tokenizers` as the model card shows, and optimum's ORTModelFor* fed by
transformers' AutoTokenizer. Each model repository's config.pbtxt is parsed as Triton's own message, and held against
the graph. Ends with 1 where anything differs.
"""

import json
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
from google.protobuf import text_format
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTModelForTokenClassification
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from tritonclient.grpc.model_config_pb2 import ModelConfig

PACKAGES = ("onnxruntime", "openvino", "optimum-onnx", "optimum", "transformers", "torch", "tritonclient")
FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
TYPES = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
Ask = Callable[[Any, bool], tuple[np.ndarray, list[int | None]]]  # of one text -> logits, and whose word each token is


def by_tokenizers(folder: Path, names: list[str], run: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Ask:
    """Ask a runtime with nothing but the bundle's tokenizer.json."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def ask(text: Any, words: bool) -> tuple[np.ndarray, list[int | None]]:
        one = list(text) if words else text[0] if len(text) == 1 else tuple(text)
        (encoded,) = tokenizer.encode_batch([one], is_pretokenized=words)
        return run({name: np.array([getattr(encoded, FIELDS[name])], np.int64) for name in names})[0], encoded.word_ids

    return ask


def with_onnxruntime(folder: Path) -> Ask:
    """Read the graph with onnxruntime alone."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return by_tokenizers(folder, names, lambda inputs: session.run(["logits"], inputs)[0])


def with_openvino(folder: Path) -> Ask:
    """Read the graph with OpenVINO, in full precision where it would choose bfloat16."""
    model = openvino.Core().compile_model(folder / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [node.get_any_name() for node in model.inputs]
    return by_tokenizers(folder, names, lambda inputs: model(inputs)["logits"])


def with_optimum(folder: Path) -> Ask:
    """Read the bundle with optimum and the tokenizer as transformers loads it."""
    task = json.loads((folder / "theseus.json").read_text("utf-8"))["task"]
    reader = ORTModelForTokenClassification if task["kind"] == "tokens" else ORTModelForSequenceClassification
    model = reader.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def ask(text: Any, words: bool) -> tuple[np.ndarray, list[int | None]]:
        arguments = ([list(text)],) if words else tuple([part] for part in text)
        encoded = tokenizer(
            *arguments, truncation=True, max_length=task["max_length"], is_split_into_words=words, return_tensors="np"
        )
        inputs = {name: encoded[name] for name in model.input_names}
        return model(**inputs).logits[0], encoded.word_ids(0)

    return ask


READERS = {"onnxruntime": with_onnxruntime, "openvino": with_openvino, "optimum": with_optimum}


def decide(kind: str, logits: np.ndarray, labels: Mapping[int, str]) -> list[Any]:
    """Say what follows from logits of shape (items, labels)."""
    if kind == "regression":
        return []
    if kind == "multi-label":
        return [[labels[place] for place in np.flatnonzero(row > 0)] for row in logits]
    return [labels[int(row.argmax())] for row in logits]


def compare(folder: Path, reader: str) -> str:
    """Ask one bundle all its questions through one reader, and return what differs, or nothing."""
    asked = json.loads(folder.with_name(f"{folder.name}.json").read_text("utf-8"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    labels = {int(place): name for place, name in config["id2label"].items()}
    kind, words, worst = asked["kind"], asked["kind"] == "tokens", 0.0
    ask = READERS[reader](folder)
    for text, expected, said in zip(asked["texts"], map(np.array, asked["logits"]), asked["said"], strict=True):
        logits, word_ids = ask(text, words)
        if words:
            first = [word_ids.index(word) if word in word_ids else -1 for word in range(len(text))]
            logits = np.array([logits[place] if place >= 0 else np.zeros(len(labels)) for place in first])
        logits = logits.reshape(expected.shape)
        worst = max(worst, float(np.abs(logits - expected).max()))
        certain = _margin(kind, expected) > 2 * asked["atol"]
        ours, theirs = decide(kind, expected, labels), decide(kind, logits, labels)
        if any(one != other for one, other, sure in zip(ours, theirs, certain, strict=False) if sure):
            return f"{text!r:.60} is {theirs}, not {ours}"
        if kind == "single-label" and certain[0] and said["label"] != theirs[0]:
            return f"{text!r:.60} is {theirs[0]}, and `theseus predict` says {said['label']}"
    if not worst <= asked["atol"]:
        return f"a logit differs by {worst:.3g}, more than {asked['atol']:.3g}"
    return ""


def _margin(kind: str, logits: np.ndarray) -> np.ndarray:
    """Return by how much each decision was taken."""
    if kind in ("multi-label", "regression"):
        return np.abs(logits).min(axis=1)
    ordered = np.sort(logits, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def check_triton(folder: Path) -> str:
    """Parse the config.pbtxt of a bundle's model repository, and return what in it the graph contradicts."""
    model = folder.parent / "triton" / folder.name
    config = text_format.Parse((model / "config.pbtxt").read_text("utf-8"), ModelConfig())
    session = onnxruntime.InferenceSession(str(model / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    for ours, theirs in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        told = [(one.name, ModelConfig.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number[one.data_type]
                 .name, list(one.dims)) for one in ours]  # fmt: skip
        true = [(one.name, TYPES[one.type], [axis if isinstance(axis, int) else -1 for axis in one.shape[1:]])
                for one in theirs]  # fmt: skip
        if told != true:
            return f"config.pbtxt has {told}, the graph {true}"
    named = [one.label_filename for one in config.output if one.label_filename]
    if (config.name, config.backend, config.HasField("dynamic_batching")) != (folder.name, "onnxruntime", True):
        return f"config.pbtxt is of {config.name}, backend {config.backend}"
    return "" if all((model / name).is_file() for name in named) else f"{named} is missing"


def main(place: Path) -> int:
    """Compare every bundle through every reader, and count what differs."""
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES), flush=True)
    differing = 0
    for questions in sorted(place.glob("*.json")):
        folder = questions.with_suffix("")
        found = {"triton": check_triton(folder)}
        for reader in READERS:
            try:
                found[reader] = compare(folder, reader)
            except Exception as error:
                found[reader] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        differing += sum(map(bool, found.values()))
        print(f"{folder.name:28}", ", ".join(f"{name} {what or 'ok'}" for name, what in found.items()), flush=True)
    print(f"{differing} differences" if differing else "every reader answers as we do")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
