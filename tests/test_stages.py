"""The trainings on paths: what they write, what is recorded, and what a crash leaves."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.conftest import BAD, FILLER, GOOD, write_csv
from tests.watcher import Watcher
from theseus_deploy.artifact import Artifact
from theseus_deploy.compress.stage import compress_checkpoint
from theseus_deploy.configs import CompressConfig, FinetuneConfig
from theseus_deploy.errors import ArtifactError, ConfigError, ModelError
from theseus_deploy.finetune import finetune_checkpoint
from theseus_deploy.progress import SILENT, Silent
from theseus_deploy.workspace import REQUEST

CONTRACT = {
    "schema", "kind", "stage", "config", "parent", "task", "files", "parameters", "layers", "precision", "module_map",
    "scores", "versions", "machine", "created",
}  # fmt: skip
SHORT = CompressConfig(max_steps=12, batch_size=16, layers=2, precision="fp32")


def compress(tiny_bert: Path, corpus: Path, out: Path, config: CompressConfig = SHORT, **flags: bool) -> Artifact:
    return compress_checkpoint(str(tiny_bert), str(corpus), out, config, **flags)


def test_finetune_makes_a_predecessor_out_of_an_encoder(encoder_only: Path, corpus: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(max_steps=8, batch_size=16, precision="fp32")
    artifact = finetune_checkpoint(str(encoder_only), str(corpus), tmp_path / "out", config)
    manifest = json.loads((tmp_path / "out" / "theseus.json").read_text())
    assert manifest.keys() >= CONTRACT
    assert (manifest["kind"], manifest["stage"], manifest["layers"]) == ("checkpoint", "finetune", 4)
    assert manifest["task"]["labels"] == ["negative", "positive"]
    assert manifest["config"] == config.to_json()
    assert manifest["parent"]["path"] == str(encoder_only)
    assert set(manifest["scores"]["validation"]) == {"accuracy", "f1", "macro_f1", "matthews"}
    assert artifact.check_files() == []
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.num_parameters() == manifest["parameters"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_tags_that_our_own_hold_out_hides_from_training_are_known(encoder_only: Path, tmp_path: Path) -> None:
    rows = ({"tokens": ["good", "film"], "ner_tags": ["O", f"B-{row}"]} for row in range(20))
    (tmp_path / "rare.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = FinetuneConfig(max_steps=1, threads=1, precision="fp32")
    made = finetune_checkpoint(str(encoder_only), str(tmp_path / "rare.jsonl"), tmp_path / "out", config)
    assert {f"B-{row}" for row in range(20)} < set(made.manifest.task.labels)


def test_finetune_refuses_what_could_not_be_compressed_before_it_trains(
    encoder_only: Path, corpus: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(encoder_only, tmp_path / "albert")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "albert"}))
    with pytest.raises(ModelError, match="'albert' cannot be compressed: all its layers share one set of weights"):
        finetune_checkpoint(str(other), str(corpus), tmp_path / "out", FinetuneConfig(max_steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["albert"]


def test_a_rival_is_not_held_to_a_schedule_that_nothing_of_it_follows(
    tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    late = replace(SHORT, method="truncate", init="bottom", max_steps=2, replace_until=1.0)
    assert compress(tiny_bert, corpus, tmp_path / "out", replace(late, decay="linear")).manifest.layers == 2
    with pytest.raises(ConfigError, match="--replace-until 1 leaves none of 2 steps at rate 1"):
        compress(tiny_bert, corpus, tmp_path / "late", late)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_finetune_learns_a_regression_from_fractions(encoder_only: Path, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        rows = (corpus / f"{split}.csv").read_text().replace("negative", "0.25").replace("positive", "0.75")
        (tmp_path / "data" / f"{split}.csv").write_text(rows)
    config = FinetuneConfig(max_steps=6, batch_size=16, precision="fp32")
    artifact = finetune_checkpoint(str(encoder_only), str(tmp_path / "data"), tmp_path / "out", config)
    assert (artifact.manifest.task.kind, artifact.manifest.task.labels) == ("regression", ())
    assert set(artifact.manifest.scores["validation"]) == {"pearson", "spearman"}
    again = compress_checkpoint(str(tmp_path / "out"), str(tmp_path / "data"), tmp_path / "successor", SHORT)
    assert again.manifest.task.kind == "regression"


@pytest.mark.parametrize("metric", [pytest.param("accuracy", marks=pytest.mark.thorough), "matthews"])
def test_the_best_evaluation_is_the_one_of_the_metric_asked_for(
    encoder_only: Path, tmp_path: Path, metric: str
) -> None:
    """What is learned first is that most rows are positive; what the words say is worth less on this validation."""
    data = tmp_path / "data"
    data.mkdir()
    kinds = {"train": [(GOOD, "positive")] * 3 + [(BAD, "negative")]}
    kinds["validation"] = [*[(GOOD, "positive")] * 5, *[(BAD, "positive")] * 4, (BAD, "negative")]
    for split, rows in kinds.items():
        draw = random.Random(4)
        texts = [(" ".join(draw.choices([*FILLER[:3], *words], k=8)), label) for words, label in rows * 16]
        write_csv(data / f"{split}.csv", texts)
    config = FinetuneConfig(epochs=6, batch_size=8, lr=1e-3, precision="fp32", threads=1, metric=metric)
    made = finetune_checkpoint(str(encoder_only), str(data), tmp_path / "out", config)
    lines = [json.loads(line) for line in (made.path / "log.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "eval_matthews" in line]
    best = {name: max(scored, key=lambda line: line[f"eval_{name}"]) for name in ("accuracy", "matthews")}
    assert best["accuracy"]["step"] != best["matthews"]["step"]
    assert made.manifest.scores["validation"]["matthews"] == best[metric]["eval_matthews"]
    successor = compress(made.path, data, tmp_path / "successor")
    assert successor.manifest.task.primary == metric
    assert list(successor.manifest.scores["retained"]) == [metric]


def test_compress_writes_an_ordinary_folder_that_says_where_it_comes_from(
    tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    artifact = compress(tiny_bert, corpus, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "config.json", "log.jsonl", "model.safetensors", "theseus.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    manifest = json.loads((tmp_path / "out" / "theseus.json").read_text())
    assert manifest.keys() >= CONTRACT
    assert manifest["module_map"] == [[0, 1], [2, 3]]
    assert (manifest["config"]["init"], manifest["receipt"]["start"].keys()) == ("auto", {"init", "agreement"})
    assert (manifest["stage"], manifest["layers"], manifest["precision"]) == ("compress", 2, "fp32")
    assert set(manifest["scores"]) == {"predecessor", "validation", "retained"}
    assert set(manifest["files"]) == set(names) - {"theseus.json"}
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert (model.config.num_hidden_layers, model.num_parameters()) == (2, artifact.manifest.parameters)
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("the good film")["input_ids"][0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("method", ["theseus+distill", "truncate"])
def test_a_stage_takes_the_threads_it_was_given_from_its_first_answer_on(
    tiny_bert: Path, corpus: Path, tmp_path: Path, method: Any
) -> None:
    seen = {}

    class Listener(Silent):
        def track(self, title: str, total: int) -> Any:
            seen[title] = torch.get_num_threads()
            return SILENT.track(title, total)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        config = replace(SHORT, threads=1, method=method)
        compress_checkpoint(str(tiny_bert), str(corpus), tmp_path / "out", config, progress=Listener())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert {"scoring the predecessor", "training", "scoring the successor"} <= seen.keys()
    assert set(seen.values()) == {1}


def test_what_was_asked_before_is_reused_and_anything_else_is_not(
    tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    created = compress(tiny_bert, corpus, tmp_path / "out").manifest
    stamp = (tmp_path / "out" / "theseus.json").stat().st_mtime_ns
    kept = compress(tiny_bert, corpus, tmp_path / "out", reuse=True)
    assert kept.manifest == created
    assert kept.to_json() == json.loads((tmp_path / "out" / "theseus.json").read_text())
    assert (tmp_path / "out" / "theseus.json").stat().st_mtime_ns == stamp
    with pytest.raises(ArtifactError, match="exists already"):
        compress(tiny_bert, corpus, tmp_path / "out")
    other = CompressConfig(max_steps=12, batch_size=16, layers=1, precision="fp32")
    assert compress(tiny_bert, corpus, tmp_path / "out", other, reuse=True).manifest.layers == 1
    weights = tmp_path / "out" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")  # damaged, so not to be kept
    assert compress(tiny_bert, corpus, tmp_path / "out", other, reuse=True).check_files() == []


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    def weights(name: str, seed: int) -> str:
        config = CompressConfig(max_steps=12, batch_size=16, layers=2, precision="fp32", seed=seed)
        return str(compress(tiny_bert, corpus, tmp_path / name, config).files["model.safetensors"]["sha256"])

    assert weights("one", 1) == weights("again", 1) != weights("other", 2)


def start(tiny_bert: Path, corpus: Path, out: Path) -> subprocess.Popen[bytes]:
    words = ["compress", tiny_bert, "--data", corpus, "--out", out, "--layers", "2", "--max-steps", "160",
             "--batch-size", "16", "--precision", "fp32", "--threads", "1", "--thaw", "all", "--quiet"]  # fmt: skip
    command = [sys.executable, "-c", "from theseus_deploy_cli.main import run; run()", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_a_killed_compress_resumes_and_ends_bit_equal(tiny_bert: Path, corpus: Path, tmp_path: Path) -> None:
    killed = start(tiny_bert, corpus, tmp_path / "killed")
    partial = tmp_path / "killed.partial"
    while not list(partial.glob("checkpoint-*/complete")):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed").exists()
    saved = max(int(path.parent.name.split("-")[1]) for path in partial.glob("checkpoint-*/complete"))
    assert 0 < saved < 160
    assert start(tiny_bert, corpus, tmp_path / "killed").wait() == 0
    compress(tiny_bert, corpus, tmp_path / "straight", replace(SHORT, max_steps=160, threads=1, thaw="all"))
    assert not partial.exists()
    one, other = (Artifact.open(tmp_path / name) for name in ("straight", "killed"))
    assert one.sha256 == other.sha256


def test_a_run_that_was_killed_between_its_result_and_its_end_is_finished_by_the_same_command(
    tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    done = compress(tiny_bert, corpus, tmp_path / "out")
    left, made = tmp_path / "out.partial", done.manifest
    (left / "checkpoint-12").mkdir(parents=True)
    assert made.parent is not None
    assert made.data is not None
    asked = {"stage": made.stage, "config": made.config, "parent": made.parent.sha256, "data": made.data.sha256}
    (left / REQUEST).write_text(json.dumps(asked))
    assert compress(tiny_bert, corpus, tmp_path / "out").to_json() == done.to_json()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(ArtifactError, match="out exists already; choose another --out, or replace it"):
        compress(tiny_bert, corpus, tmp_path / "out", replace(SHORT, seed=9))


def test_a_replacement_that_was_interrupted_goes_on_and_is_not_taken_for_done(
    tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = compress(tiny_bert, corpus, out).to_json()
    with pytest.raises(KeyboardInterrupt):
        compress_checkpoint(
            str(tiny_bert), str(corpus), out, SHORT, overwrite=True, progress=Watcher("scoring the successor")
        )
    assert Artifact.open(out).to_json() == before
    os.utime(out / "theseus.json", (0, 0))
    again = Watcher()
    compress_checkpoint(str(tiny_bert), str(corpus), out, SHORT, overwrite=True, progress=again)
    assert "scoring the successor" in again.told
    assert (out / "theseus.json").stat().st_mtime > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_a_compress_that_is_killed_at_random_moments_ends_bit_equal(
    tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    began = time.monotonic()
    assert start(tiny_bert, corpus, tmp_path / "straight").wait() == 0
    draw, kills, whole = random.Random(4), 0, time.monotonic() - began
    killed = tmp_path / "killed"
    while not killed.exists() or (tmp_path / "killed.partial").exists():  # a kill may come after all is done
        running = start(tiny_bert, corpus, killed)
        try:
            assert running.wait(timeout=draw.uniform(0.2, 0.95) * whole) == 0
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            kills += 1
            assert not killed.exists() or Artifact.open(killed).check_files() == []
        assert kills < 40
    assert kills >= 2
    one, other = (Artifact.open(tmp_path / name) for name in ("straight", "killed"))
    assert one.sha256 == other.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"report_to": ("tensorbord",)}, "--report-to tensorbord is no tracker .*; did you mean 'tensorboard'"),
        ({"report_to": ("wandb",)}, "--report-to wandb is not installed; install it with `pip install wandb`"),
        ({"precision": "fp16", "method": "truncate", "device": "cpu"}, "--precision fp16 needs a GPU"),
    ],
)
def test_what_the_trainer_cannot_do_is_refused_before_anything_is_written(
    tiny_bert: Path, corpus: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compress(tiny_bert, corpus, tmp_path / "out", replace(SHORT, **change))
    assert not list(tmp_path.iterdir())


def test_a_batch_that_the_processes_cannot_share_is_refused_before_anything_is_written(
    tiny_bert: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="--batch-size 16 cannot be divided among 3 processes"):
        compress(tiny_bert, corpus, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_is_not_continued_with_another_configuration(
    tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.partial").mkdir()
    request = {"stage": "compress", "config": {**SHORT.to_json(), "layers": 3}, "parent": "", "data": ""}
    (tmp_path / "out.partial" / "request.json").write_text(json.dumps(request))
    with pytest.raises(ArtifactError, match=r"config\.layers = 3, not 2; repeat that command to resume it"):
        compress(tiny_bert, corpus, tmp_path / "out")
    assert compress(tiny_bert, corpus, tmp_path / "out", overwrite=True).manifest.layers == 2
