"""Every family under every head, from a checkpoint to answers: tiny random models with their own kinds of tokenizer."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.export.graphs import DYNAMIC, LEVELS, STATIC, answers, optimised, ranges_of
from tests.families import FAMILIES, LABELS, SENTENCES, save_tiny
from theseus_deploy.artifact import Artifact
from theseus_deploy.configs import ExportConfig
from theseus_deploy.export.parity import MIXED
from theseus_deploy.export.quantize.fp16 import FP16, to_fp16
from theseus_deploy.export.quantize.int8 import to_int8
from theseus_deploy.export.quantize.scheme import INT8, Scheme
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.lesson import predict
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.predictor import Predictor
from theseus_deploy.splits import Split
from theseus_deploy.tokens import tokenise
from theseus_deploy.verify import verify

FAST = ("bert", "tokens")
THOROUGH = (("roberta", "single-label"), ("deberta-v2", "tokens"), ("modernbert", "tokens"))
SLOW = [(family, kind) for family in FAMILIES for kind in LABELS if (family, kind) not in (FAST, *THOROUGH)]
CASES = [
    FAST,
    *(pytest.param(*case, marks=pytest.mark.thorough) for case in THOROUGH),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW),
]
# Absolute positions that count from the left, and heads that read the first token, want their padding on the right.
EITHER_SIDE = {
    (family, "tokens") for family in ("roberta", "xlm-roberta", "camembert", "mpnet", "deberta-v2", "modernbert")
}
TEXTS = ["", *SENTENCES, "good film " * 60, *(" ".join(SENTENCES[1].split()[:count]) for count in range(1, 9))]


def inputs_of(kind: str) -> Sequence[tuple[str, ...]]:
    """The texts as a data set has them: with one column, or as words, one of which no tokenizer keeps."""
    if kind != "tokens":
        return [(text,) for text in TEXTS]
    return [*(tuple(text.split()) for text in TEXTS if text), ("a", "", "film", ",")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_bundle_answers_as_training_does(name: str, kind: str, family: Callable[[str, str], Path]) -> None:
    folder = family(name, kind)
    checkpoint, predictor = open_checkpoint(str(folder / "checkpoint")), Predictor(folder / "bundle", threads=1)
    task, texts = predictor.task, list(inputs_of(kind))
    assert (task.kind, task.labels) == (kind, LABELS[kind])
    tokenizer = checkpoint.tokenizer(task)
    labels = {"tokens": [("O",) * len(words) for words in texts], "multi-label": [()] * len(texts)}
    said = labels.get(kind, ["0"] * len(texts))
    rows = tokenise(Split("test", texts, said, words=task.tags_words), task, tokenizer, "here")
    expected = predict(checkpoint.trained(), rows, tokenizer, torch.device("cpu"), batch_size=1)
    for batch_size in (1, 5):
        np.testing.assert_allclose(predictor.logits(texts, batch_size), expected, atol=2e-5)
    assert max(len(predictor.encode([text])["input_ids"][0]) for text in texts) == task.max_length


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_manifest_tells_of_parity_on_every_side_that_the_family_allows(
    name: str, kind: str, family: Callable[[str, str], Path]
) -> None:
    folder = family(name, kind) / "bundle"
    manifest = Artifact.open(folder).manifest
    sides = ["right", "left"] if (name, kind) in EITHER_SIDE else ["right"]
    assert manifest.receipt["padding"] == sides
    assert list(manifest.scores) == ["parity", "parity_left"][: len(sides)]
    for parity in manifest.scores.values():
        assert parity["max_abs_diff"] < 2e-5
        assert parity.get("label_agreement", 1.0) == 1.0
        assert parity["texts"] == 256
    assert all(check.ok for check in verify(folder))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_graphs_axes_are_batch_and_sequence_whatever_the_family(
    name: str, kind: str, family: Callable[[str, str], Path]
) -> None:
    graph = onnx.load(family(name, kind) / "bundle" / "model.onnx").graph
    named = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    width = len(LABELS[kind]) or 1
    assert named.pop("logits") == (["batch", "sequence", width] if kind == "tokens" else ["batch", width])
    assert named.keys() >= {"input_ids", "attention_mask"}
    assert ("token_type_ids" in named) == (name in ("bert", "electra", "deberta", "deberta-v2"))
    assert all(axes == ["batch", "sequence"] for axes in named.values())


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_static_int8_of_every_family_runs_as_int8(
    name: str, kind: str, family: Callable[[str, str], Path], tmp_path: Path
) -> None:
    bundle = family(name, kind) / "bundle"
    receipt = to_int8(bundle / "model.onnx", tmp_path / "int8.onnx", STATIC, ranges_of(bundle))
    assert receipt.operators["MatMul"][INT8] >= 6
    fused = onnx.load(optimised(tmp_path / "int8.onnx", tmp_path / "fused.onnx", LEVELS["extended"])).graph
    stored = {tensor.name: tensor.data_type for tensor in fused.initializer}
    for node in fused.node:
        if node.op_type in ("MatMul", "Gemm", "FusedMatMul", "FusedGemm"):
            assert node.input[1] not in stored, f"{node.name} multiplies in fp32"
        if node.op_type == "Gather" and node.input[0] in stored:
            assert stored[node.input[0]] != onnx.TensorProto.FLOAT, f"{node.name} keeps an fp32 table"
    expected, found = answers(bundle, bundle / "model.onnx"), answers(bundle, tmp_path / "int8.onnx")
    assert np.abs(expected - found).max() > 0
    assert np.abs(expected - found).mean() < 0.15 * expected.std()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_fp16_of_every_family(name: str, kind: str, family: Callable[[str, str], Path], tmp_path: Path) -> None:
    bundle = family(name, kind) / "bundle"
    receipt = to_fp16(bundle / "model.onnx", tmp_path / "fp16.onnx")
    assert receipt["method"] == FP16
    assert receipt["operators"]["MatMul"].keys() == {FP16}
    graph = onnx.load(tmp_path / "fp16.onnx").graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert kinds.pop("logits") == onnx.TensorProto.FLOAT
    assert set(kinds.values()) == {onnx.TensorProto.INT64}
    assert (tmp_path / "fp16.onnx").stat().st_size < 0.8 * (bundle / "model.onnx").stat().st_size
    expected, found = answers(bundle, bundle / "model.onnx"), answers(bundle, tmp_path / "fp16.onnx")
    assert np.abs(expected - found).mean() < 0.03 * expected.std()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("scheme", [DYNAMIC, STATIC], ids=lambda scheme: scheme.method)
@pytest.mark.parametrize(
    ("name", "kind"),
    [FAST, *(pytest.param(*case, marks=pytest.mark.thorough) for case in THOROUGH if case[0] != "modernbert")],
)
def test_a_graph_that_onnxruntime_optimised_is_quantised_too(
    name: str, kind: str, scheme: Scheme, level: str, family: Callable[[str, str], Path], tmp_path: Path
) -> None:
    bundle = family(name, kind) / "bundle"
    graph = optimised(bundle / "model.onnx", tmp_path / "optimised.onnx", LEVELS[level])
    receipt = to_int8(graph, tmp_path / "int8.onnx", scheme, ranges_of(bundle, graph))
    plain = to_int8(bundle / "model.onnx", tmp_path / "plain.onnx", scheme, ranges_of(bundle))
    assert receipt.weights[INT8] == plain.weights[INT8]
    expected, found = answers(bundle, tmp_path / "plain.onnx"), answers(bundle, tmp_path / "int8.onnx")
    assert np.abs(expected - found).mean() < 0.05 * expected.std()


@pytest.mark.slow
def test_words_as_int8_on_the_users_own_rows_on_both_sides_and_said_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save_tiny("deberta-v2", "tokens", tmp_path / "checkpoint")
    rows = [
        f'{{"tokens": ["Anna", "saw"{", 7" * (row % 9)}], "ner_tags": [1, 0{", 0" * (row % 9)}]}}' for row in range(300)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    padded, run = list[bool](), Predictor.run

    def spy(predictor: Predictor, encoded: dict[str, np.ndarray]) -> np.ndarray:
        padded.append(not encoded["attention_mask"][:, 0].all())
        return run(predictor, encoded)

    monkeypatch.setattr(Predictor, "run", spy)
    config = ExportConfig(quantize="dynamic", threads=1)
    capfd.readouterr()
    artifact = export_checkpoint(
        str(tmp_path / "checkpoint"), tmp_path / "bundle", config, data=str(tmp_path / "rows.jsonl")
    )
    assert capfd.readouterr() == ("", "")
    assert sum(padded) >= 2 * MIXED  # batches of both graphs
    scores = artifact.manifest.scores
    assert list(scores) == ["parity", "parity_left", "parity_fp32", "parity_fp32_left"]
    assert scores["parity_fp32"]["max_abs_diff"] < 2e-5 < scores["parity"]["max_abs_diff"] < 1
    assert "saw" not in (artifact.path / "probe.json").read_text()  # the user's data stays with the user
    assert all(check.ok for check in verify(artifact.path))
