"""Measure what each way of compressing keeps of the predecessor: arms x tasks x seeds, one JSON line a run.

    python benchmarks/accuracy.py --task mrpc=DIR --task demo:tweets --arm theseus --arm truncate --seeds 1,2,3

Every task has one predecessor, `demo:minilm` fine-tuned once. Every run compresses it to half its layers with the same
number of steps, and differs in its arm and its seed alone. `validation` is the held-out tenth of train (or the data's
own), which is what settings may be chosen by; `test` is the split to report. A run that is in the results already is
not repeated, so the command can be interrupted and repeated.
"""

import argparse
import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from theseus_deploy.artifact import Artifact, fingerprint
from theseus_deploy.benchmark.accuracy import loyalty
from theseus_deploy.compress.stage import compress_checkpoint
from theseus_deploy.configs import CompressConfig, FinetuneConfig
from theseus_deploy.data import open_data, tokenise
from theseus_deploy.finetune import finetune_checkpoint
from theseus_deploy.machine import this_machine, versions
from theseus_deploy.models import open_checkpoint
from theseus_deploy.progress import SILENT
from theseus_deploy.tasks import Array
from theseus_deploy.training import predict
from theseus_deploy_cli.console import progress as choose_progress

RESULTS = Path(__file__).parent / "results" / "accuracy.jsonl"
MODEL = "demo:minilm"
PREDECESSOR = FinetuneConfig(epochs=4, lr=5e-5)
EPOCHS = {"mrpc": 8.0, "cola": 6.0, "banking77": 6.0, "demo:tweets": 2.0}  # of compressing; 4 for other tasks

BASE = CompressConfig(lr=1e-4, base_rate=0.3, replace_until=0.5)
ARMS: dict[str, CompressConfig] = {
    "theseus": BASE,
    "theseus, thaw head": replace(BASE, thaw="head"),
    "theseus, thaw all": replace(BASE, thaw="all"),
    "theseus, constant 0.5": replace(BASE, schedule="constant", base_rate=0.5),
    "theseus, anti-curriculum": replace(BASE, schedule="anti"),
    "truncate": replace(BASE, method="truncate"),
    "truncate, thaw head": replace(BASE, method="truncate", thaw="head"),
    "truncate, thaw all": replace(BASE, method="truncate", thaw="all"),
    "distill, thaw all": replace(BASE, method="distill", thaw="all"),
}


def main() -> None:
    """Run what is asked and not there yet."""
    arguments = _arguments()
    done = [json.loads(line) for line in _lines(arguments.results)]
    progress = choose_progress(quiet=False)
    for task in arguments.task:
        name, _, data = task.partition("=")
        predecessor = arguments.work / f"{name.replace(':', '-')}-predecessor"
        finetune_checkpoint(MODEL, data or name, predecessor, PREDECESSOR, reuse=True, progress=progress)
        parent = fingerprint(predecessor)
        expected = _test_logits(predecessor, data or name)
        for seed in arguments.seeds:
            for arm in arguments.arm:
                config = replace(ARMS[arm], seed=seed, epochs=EPOCHS.get(name, 4.0))
                asked = {"task": name, "arm": arm, "seed": seed, "config": config.to_json(), "predecessor": parent}
                if any(asked.items() <= run.items() for run in done):
                    continue
                progress.say(f"— {name}, {arm}, seed {seed}")
                run = {**asked, **_run(predecessor, data or name, config, arguments.work / "successor", expected)}
                arguments.results.parent.mkdir(parents=True, exist_ok=True)
                with arguments.results.open("a") as file:
                    file.write(json.dumps(run) + "\n")
                progress.say(f"  test {run['test']}, loyalty {run['loyalty']}")


def _run(predecessor: Path, data: str, config: CompressConfig, out: Path, expected: Array) -> dict[str, Any]:
    start = time.perf_counter()
    made = compress_checkpoint(
        str(predecessor), data, out, config, overwrite=True, progress=choose_progress(quiet=False)
    )
    seconds = time.perf_counter() - start
    manifest = made.manifest
    logits = _test_logits(out, data)
    answer = {
        "validation": manifest.scores["validation"],
        "test": _test_scores(out, data, logits),
        "predecessor_validation": manifest.scores["predecessor"],
        "predecessor_test": _test_scores(out, data, expected),
        "loyalty": asdict(loyal) if (loyal := loyalty(manifest.task, logits, expected)) else None,
        "seconds": seconds,
        "versions": versions(),
        "machine": this_machine().to_json(),
    }
    shutil.rmtree(out)
    return answer


def _test_logits(folder: Path, data: str) -> Array:
    checkpoint = open_checkpoint(str(folder))
    corpus = open_data(data, task=checkpoint.task)
    tokenizer = checkpoint.tokenizer(checkpoint.task.tags_words)
    rows = tokenise(corpus.for_scoring(), checkpoint.task, tokenizer, corpus.ref)
    return predict(checkpoint.trained(), rows, tokenizer, torch.device("cpu"), SILENT)


def _test_scores(folder: Path, data: str, logits: Array) -> dict[str, float]:
    task = Artifact.open(folder).manifest.task
    split = open_data(data, task=task).for_scoring()
    return task.score(logits, task.encode(split.labels, data))


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", required=True, help="NAME=DATA, or a built-in data set's name")
    parser.add_argument("--arm", action="append", choices=list(ARMS), help="may be repeated; all of them by default")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=Path("accuracy-work"), help="where predecessors are kept")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.arm = arguments.arm or list(ARMS)
    return arguments


if __name__ == "__main__":
    main()
