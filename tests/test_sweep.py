"""Ten families, two heads: predecessor -> compress -> a plain Hugging Face folder that answers as what was trained."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.families import FAMILIES, LABELS, SENTENCES, save_tiny
from theseus_deploy.artifact import Artifact
from theseus_deploy.compress.families import FAMILIES as COMPRESSIBLE
from theseus_deploy.compress.families import count_layers
from theseus_deploy.compress.stage import compress_checkpoint
from theseus_deploy.configs import CompressConfig
from theseus_deploy.data import open_data
from theseus_deploy.lesson import predict
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.tasks import KINDS
from theseus_deploy.tokens import tokenise

LAYERS = 4
QUICK = ("bert", "distilbert", "modernbert")  # embeddings of three kinds, layers in three places
AS_ANOTHER = ("xlm-roberta", "camembert", "electra")  # RoBERTa's code, or BERT's


def marked(family: str) -> Any:
    """Return a family as a parameter: all but a few take minutes together."""
    if family in QUICK:
        return family
    return pytest.param(family, marks=pytest.mark.slow if family in AS_ANOTHER else pytest.mark.thorough)


CONFIG = CompressConfig(  # the rate is 1 after the first epoch, whose end may not be chosen then: the last step is
    max_steps=8, replace_until=0.75, batch_size=8, layers=2, lr=1e-2, precision="fp32", threads=1, seed=5
)


@pytest.fixture(scope="module", params=["single-label", pytest.param("tokens", marks=pytest.mark.slow)])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    draw, folder = random.Random(2), tmp_path_factory.mktemp("corpus")
    words = " ".join(SENTENCES).split()
    for split, count in [("train", 32), ("validation", 16)]:
        rows = []
        for _ in range(count):
            chosen = draw.choices(words, k=draw.randint(1, 20))
            tags = [draw.choice(LABELS["tokens"]) for _ in chosen]
            single = {"text": " ".join(chosen), "label": draw.choice(LABELS["single-label"])}
            rows.append({"tokens": chosen, "ner_tags": tags} if request.param == "tokens" else single)
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return request.param, folder


def test_every_family_that_can_be_compressed_is_swept() -> None:
    assert set(FAMILIES) == set(COMPRESSIBLE)


@pytest.mark.parametrize("family", [marked(name) for name in FAMILIES])
def test_a_family_is_compressed_into_a_folder_that_anybody_loads(
    corpus: tuple[str, Path], family: str, tmp_path: Path
) -> None:
    kind, data = corpus
    predecessor = save_tiny(family, kind, tmp_path / "predecessor", LAYERS)
    made = compress_checkpoint(str(predecessor), str(data), tmp_path / "successor", CONFIG)
    assert (made.manifest.layers, made.manifest.module_map) == (2, [[0, 1], [2, 3]])

    head = getattr(transformers, KINDS[kind].head)
    loaded, report = head.from_pretrained(made.path, output_loading_info=True)
    assert not any(report.values()), report
    assert loaded.config.model_type == family
    assert count_layers(loaded.config) == 2
    assert loaded.num_parameters() == made.manifest.parameters

    checkpoint = open_checkpoint(str(made.path))
    task, tokenizer = checkpoint.task, checkpoint.tokenizer(checkpoint.task)
    rows = tokenise(open_data(str(data), task=task).splits["validation"], task, tokenizer, "")
    logits = predict(loaded, rows, tokenizer, torch.device("cpu"))
    assert task.score(logits, list(rows["reference"])) == made.manifest.scores["validation"]

    def moved(successor: Artifact) -> set[str]:
        before, after = (head.from_pretrained(path).state_dict() for path in (predecessor, successor.path))
        return {name for name in after if not torch.equal(after[name], before[name])}

    layers = {name for name in moved(made) if "layer." in name or "layers." in name}
    assert layers
    for thawed in ("embeddings", "classifier"):
        assert any(thawed in name for name in moved(made) - layers), f"{thawed} did not train"
    frozen = replace(CONFIG, thaw="none")
    assert moved(compress_checkpoint(str(predecessor), str(data), tmp_path / "frozen", frozen)) == layers
