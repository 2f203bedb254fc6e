import gc
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from tests.families import save_tiny
from tests.watcher import Watcher
from theseus_deploy.artifact import Artifact, fingerprint
from theseus_deploy.configs import ExportConfig
from theseus_deploy.errors import ArtifactError, ExportError, ModelError
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.predictor import Predictor
from theseus_deploy.verify import verify


def test_the_manifest_of_an_int8_bundle(int8_bundle: Path, tiny_bert: Path, corpus: Path) -> None:
    manifest = Artifact.open(int8_bundle).manifest
    assert (manifest.kind, manifest.stage, manifest.precision, manifest.layers) == (
        "bundle",
        "export",
        "int8-dynamic",
        4,
    )
    assert manifest.parent is not None
    assert (manifest.parent.path, manifest.parent.sha256) == (str(tiny_bert), fingerprint(tiny_bert))
    assert manifest.data is not None
    assert manifest.data.ref == str(corpus)
    assert manifest.task.text == ("text",)
    assert manifest.config["quantize"] == "dynamic"
    assert manifest.scores["parity_fp32"]["max_abs_diff"] < 1e-5
    assert manifest.scores["parity"]["max_abs_diff"] > manifest.scores["parity_fp32"]["max_abs_diff"]
    assert 0.9 < manifest.scores["parity"]["label_agreement"] <= 1.0
    assert manifest.scores["parity"]["texts"] == 256


def test_a_tokenizer_that_makes_nothing_of_an_empty_text_is_refused(shallow_bert: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(shallow_bert, tmp_path / "bare")
    told = json.loads((bare / "tokenizer.json").read_text())
    (bare / "tokenizer.json").write_text(json.dumps({**told, "post_processor": None}))
    with pytest.raises(ExportError, match="makes no token of an empty text, and the model needs one; have its"):
        export_checkpoint(str(bare), tmp_path / "out", ExportConfig(threads=1))
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


@pytest.mark.thorough
@pytest.mark.parametrize("length", [None, 16])
def test_where_inputs_are_cut_is_said_or_asked(shallow_bert: Path, tmp_path: Path, length: int | None) -> None:
    watcher = Watcher()
    config = ExportConfig(threads=1, max_length=length)
    made = export_checkpoint(str(shallow_bert), tmp_path / "out", config, progress=watcher)
    assert made.manifest.task.max_length == (length or 64)
    assert Predictor(made.path, threads=1).encode(["film " * 100])["input_ids"].shape == (1, length or 64)
    said = f"inputs are cut at 64 tokens, for {shallow_bert} does not say where: see --max-length"
    assert (said in watcher.told) == (length is None)
    with pytest.raises(ModelError, match="--max-length 65 is more than the 64 positions"):
        export_checkpoint(str(shallow_bert), tmp_path / "other", replace(config, max_length=65))


@pytest.mark.thorough
def test_the_checkpoint_has_made_room_when_its_graph_is_loaded(shallow_bert: Path, tmp_path: Path) -> None:
    class Counter(Watcher):
        def say(self, message: str) -> None:
            super().say(f"{message}: {sum(issubclass(type(one), PreTrainedModel) for one in gc.get_objects())}")

    counter = Counter()
    gc.collect()
    counter.say("before")
    export_checkpoint(str(shallow_bert), tmp_path / "out", ExportConfig(threads=1), progress=counter)
    alive = {title: int(count) for title, count in (line.rsplit(": ", 1) for line in counter.told)}
    assert alive["asking the checkpoint"] > alive["before"] == alive["asking the fp32 graph"]


def test_an_fp32_bundle_has_one_parity_and_no_quantization(fp32_bundle: Path) -> None:
    manifest = Artifact.open(fp32_bundle).manifest
    assert manifest.precision == "fp32"
    assert manifest.scores.keys() == {"parity"}
    assert manifest.scores["parity"]["label_agreement"] == 1.0
    assert manifest.receipt.keys() == {"ledger", "padding"}
    assert manifest.receipt["padding"] == ["right"]  # BERT counts positions from the left


def test_the_ledger_follows_the_bytes(int8_bundle: Path) -> None:
    manifest = Artifact.open(int8_bundle).manifest
    ledger = {entry["name"]: entry for entry in manifest.receipt["ledger"]}
    assert list(ledger) == ["checkpoint", "fp32", "int8-dynamic"]
    assert ledger["checkpoint"] == {
        "name": "checkpoint", "parameters": manifest.parameters, "bytes": 4 * manifest.parameters,
    }  # fmt: skip
    assert ledger["fp32"]["parameters"] == ledger["int8-dynamic"]["parameters"]
    assert ledger["fp32"]["parameters"] < manifest.parameters  # equal weights, here biases of zeros, are stored once
    assert ledger["int8-dynamic"]["bytes"] == (int8_bundle / "model.onnx").stat().st_size < ledger["fp32"]["bytes"]


@pytest.mark.thorough
def test_what_the_checkpoint_was_and_scored_is_carried_on(pair_bundle: Path, pair_successor: Path) -> None:
    before, after = Artifact.open(pair_successor).manifest, Artifact.open(pair_bundle).manifest
    assert after.module_map == before.module_map == [[0, 1], [2, 3]]
    assert after.scores["validation"] == before.scores["validation"] == {"pearson": 0.5}
    assert (after.layers, after.parameters, after.task) == (2, before.parameters, before.task)
    assert after.scores["parity"].keys() == {"max_abs_diff", "texts"}  # a regression has no labels to agree on


def test_transformers_reads_the_bundles_configuration_and_tokenizer(int8_bundle: Path) -> None:
    config = AutoConfig.from_pretrained(int8_bundle)
    assert config.id2label == {0: "negative", 1: "positive"}
    assert config.num_hidden_layers == 4
    assert AutoTokenizer.from_pretrained(int8_bundle)("good film")["input_ids"] == [2, 5, 16, 3]


@pytest.mark.thorough
@pytest.mark.parametrize("model", ["roberta", "bert"])
def test_special_tokens_in_a_text_are_text_where_the_tokenizer_has_it_so(tmp_path: Path, model: str) -> None:
    checkpoint = tmp_path / "checkpoint"
    save_tiny(model, "single-label", checkpoint)
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({**settings, "split_special_tokens": True}))
    made = export_checkpoint(str(checkpoint), tmp_path / "out", ExportConfig(threads=1))
    predictor = Predictor(made.path, threads=1)
    for folder in (checkpoint, made.path):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        texts = [f"bad {token} good" for token in tokenizer.all_special_tokens]
        expected = tokenizer(texts, padding=True)["input_ids"]
        assert predictor.encode(texts)["input_ids"].tolist() == expected
    assert all(check.ok for check in verify(made.path))


def test_an_output_that_exists_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ArtifactError, match="exists already"):
        export_checkpoint(str(tiny_bert), tmp_path / "bundle", ExportConfig())
    assert not list((tmp_path / "bundle").iterdir())


def test_a_bundle_is_no_checkpoint(int8_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a bundle \(int8-dynamic\)"):
        export_checkpoint(str(int8_bundle), tmp_path / "bundle", ExportConfig())
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_the_same_request_is_kept(fp32_bundle: Path, tiny_bert: Path, corpus: Path) -> None:
    before = (fp32_bundle / "theseus.json").stat()
    config = ExportConfig(threads=1)
    artifact = export_checkpoint(str(tiny_bert), fp32_bundle, config, data=str(corpus), reuse=True)
    assert artifact == Artifact.open(fp32_bundle)
    assert (fp32_bundle / "theseus.json").stat() == before


def test_importing_the_stage_is_cheap() -> None:
    code = """
import sys, theseus_deploy.export.stage
heavy = ("torch", "transformers", "onnx", "onnxruntime", "pandas", "sklearn", "scipy")
sys.exit(", ".join(name for name in heavy if name in sys.modules) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
