"""Every head, from pretrained encoder to successor: labels read, losses that fit, scores that mean something."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.conftest import BAD, FILLER, GOOD
from theseus_deploy.cache import cache_folder
from theseus_deploy.compress.stage import compress_checkpoint
from theseus_deploy.configs import CompressConfig, FinetuneConfig
from theseus_deploy.data import open_data
from theseus_deploy.finetune import finetune_checkpoint
from theseus_deploy.lesson import predict
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.tokens import tokenise

TAUGHT = FinetuneConfig(max_steps=200, lr=3e-3, batch_size=16, precision="fp32", threads=1)
SHORT = CompressConfig(max_steps=40, lr=1e-3, batch_size=16, precision="fp32", threads=1)


def tags(words: list[str]) -> list[str]:
    return ["B-good" if word in GOOD else "B-bad" if word in BAD else "O" for word in words]


def present(words: list[str]) -> list[str]:
    return [name for name, of in [("negative", BAD), ("positive", GOOD)] if set(words) & set(of)]


ROWS: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "tokens": lambda words: {"tokens": words, "ner_tags": tags(words)},
    "multi-label": lambda words: {"text": " ".join(words), "labels": present(words)},
    "regression": lambda words: {"text": " ".join(words), "score": sum(word in GOOD for word in words) / 2 + 0.25},
    "single-label": lambda words: {"text": " ".join(words), "label": "good" if set(words) & set(GOOD) else "bad"},
}
HEADS = {"tokens": "BertForTokenClassification"}


def write_corpus(kind: str, folder: Path) -> Path:
    draw = random.Random(11)
    for split, count in [("train", 512), ("validation", 96)]:
        rows = []
        for _ in range(count):
            words = draw.choices(FILLER, k=draw.randint(1, 12))
            for word in draw.choices([*GOOD, *BAD], k=draw.randint(0, 2)):
                words.insert(draw.randrange(len(words) + 1), word)
            rows.append(ROWS[kind](words))
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


# One label is what most other tests are about.
@pytest.fixture(
    scope="module",
    params=[
        "tokens",
        pytest.param("multi-label", marks=pytest.mark.thorough),
        pytest.param("regression", marks=pytest.mark.thorough),
        pytest.param("single-label", marks=pytest.mark.slow),
    ],
)
def taught(
    request: pytest.FixtureRequest, encoder_only: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path]:
    """A kind of task, its corpus, and a predecessor that has learned it."""
    data = write_corpus(request.param, tmp_path_factory.mktemp("corpus"))
    out = tmp_path_factory.mktemp("models") / "predecessor"
    finetune_checkpoint(str(encoder_only), str(data), out, TAUGHT)
    return request.param, data, out


def test_the_kind_is_read_off_the_data_and_learned(taught: tuple[str, Path, Path]) -> None:
    kind, _, folder = taught
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.artifact is not None
    manifest = checkpoint.artifact.manifest
    assert manifest.task.kind == kind
    assert manifest.scores["validation"][manifest.task.primary] > 0.65
    assert type(checkpoint.trained()).__name__ == HEADS.get(kind, "BertForSequenceClassification")
    assert replace(checkpoint, artifact=None).task.kind == kind  # read off config.json alone


@pytest.mark.parametrize(
    "method",
    [
        "theseus",
        pytest.param("distill", marks=pytest.mark.thorough),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("truncate", "theseus+distill")),
    ],
)
def test_every_method_compresses_every_kind(taught: tuple[str, Path, Path], tmp_path: Path, method: Any) -> None:
    kind, data, folder = taught
    made = compress_checkpoint(str(folder), str(data), tmp_path / "out", replace(SHORT, method=method))
    scores, primary = made.manifest.scores, made.manifest.task.primary
    assert scores["validation"][primary] > 0.5
    assert scores["retained"][primary] == scores["validation"][primary] / scores["predecessor"][primary]
    head = getattr(transformers, HEADS.get(kind, "BertForSequenceClassification"))
    plain = head.from_pretrained(made.path)
    assert plain.config.num_hidden_layers == 2
    checkpoint = open_checkpoint(str(made.path))
    task, corpus = checkpoint.task, open_data(str(data), task=checkpoint.task)
    rows = tokenise(corpus.splits["validation"], task, checkpoint.tokenizer(), "")
    logits = predict(plain, rows, checkpoint.tokenizer(), torch.device("cpu"))
    assert task.score(logits, list(rows["reference"])) == scores["validation"]
    log = [json.loads(line) for line in (made.path / "log.jsonl").read_text().splitlines()]
    assert ("rate" in log[0]) == method.startswith("theseus")
    assert made.check_files() == []


@pytest.mark.slow
def test_the_predecessor_is_asked_once_for_all_runs(taught: tuple[str, Path, Path], tmp_path: Path) -> None:
    kind, data, folder = taught
    if kind not in ("tokens", "single-label"):  # the two shapes that a teacher's answers have
        return
    said: list[str] = []

    class Listener:
        def say(self, message: str) -> None:
            said.append(message)

        def track(self, title: str, total: int) -> Any:
            from theseus_deploy.progress import SILENT

            said.append(title)
            return SILENT.track(title, total)

    config = replace(SHORT, method="distill", max_steps=None, epochs=1.0)  # an epoch sees all rows, whatever the seed
    for path in cache_folder().glob("*.arrow"):
        path.unlink()
    for run in range(2):
        config = replace(config, seed=run)
        compress_checkpoint(str(folder), str(data), tmp_path / str(run), config, progress=Listener())
    assert said.count("asking the predecessor") == 1
    another = compress_checkpoint(str(folder), str(data), tmp_path / "another", replace(SHORT, max_steps=2, layers=3))
    compress_checkpoint(str(another.path), str(data), tmp_path / "last", config, progress=Listener())
    assert said.count("asking the predecessor") == 2


def test_logits_of_words_are_those_at_their_first_tokens_and_zeros_behind_the_cut(
    taught: tuple[str, Path, Path],
) -> None:
    kind, data, folder = taught
    if kind != "tokens":
        return
    checkpoint = open_checkpoint(str(folder))
    task = replace(checkpoint.task, max_length=6)
    split = open_data(str(data), task=task).splits["validation"]
    tokenizer = checkpoint.tokenizer(task)
    rows = tokenise(split, task, tokenizer, "")
    model = checkpoint.trained().eval()
    logits = predict(model, rows, tokenizer, torch.device("cpu"))
    assert len(logits) == sum(map(len, split.texts))
    start = 0
    for words in split.texts[:20]:
        encoded = tokenizer([list(words)], is_split_into_words=True, truncation=True, max_length=6, return_tensors="pt")
        with torch.inference_mode():
            alone = model(**encoded).logits[0].numpy()
        for position in range(len(words)):
            expected = alone[position + 1] if position < 4 else 0 * alone[0]  # every word of the corpus is one token
            assert logits[start + position] == pytest.approx(expected, abs=1e-5)
        start += len(words)
