"""Measure what each way of compressing keeps of the predecessor: tasks x arms x learning rates x seeds.

    python benchmarks/accuracy.py --task mrpc=DIR --task demo:tweets --arm theseus --arm truncate --seeds 1,2,3

Every task has one predecessor, `demo:minilm` fine-tuned once. Every run makes 3 layers of its 6 in the same number of
steps, and differs in arm, learning rate and seed alone. Settings are chosen by `validation`, which is the data's own
or a tenth of train, and never the rows that are reported: `test`, or the validation split of data without one.

A run is one line of the results. One that is there already is not repeated, so the command can be interrupted, and be
run several times at once on tasks or arms of their own.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, Literal

import torch

from theseus_deploy.artifact import fingerprint
from theseus_deploy.benchmark.accuracy import loyalty
from theseus_deploy.compress.families import count_layers
from theseus_deploy.compress.stage import compress, map_of
from theseus_deploy.configs import CompressConfig, FinetuneConfig
from theseus_deploy.data import Corpus, open_data, tokenise
from theseus_deploy.finetune import finetune_checkpoint
from theseus_deploy.machine import this_machine, versions
from theseus_deploy.models import Checkpoint, open_checkpoint
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.tasks import Array
from theseus_deploy.training import Lesson, Plan, predict
from theseus_deploy.workspace import Workspace
from theseus_deploy_cli.console import progress as choose_progress

RESULTS = Path(__file__).parent / "results" / "accuracy.jsonl"
MODEL = "demo:minilm"
PREDECESSOR = FinetuneConfig(epochs=4, lr=5e-5)
EPOCHS = {"mrpc": 8.0, "cola": 6.0, "banking77": 6.0, "demo:tweets": 2.0}  # of compressing; 4 for other tasks
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Arm:
    """A way to compress; `start` says whose layers the successor begins as."""

    config: CompressConfig
    start: Literal["predecessor", "pretrained"] = "predecessor"


BASE = CompressConfig(thaw="none", decay="linear", init="bottom", base_rate=0.3, replace_until=0.5)
WHOLE = replace(BASE, thaw="all")
ARMS: dict[str, Arm] = {
    "pretrained": Arm(replace(WHOLE, method="truncate"), "pretrained"),
    "truncate": Arm(replace(BASE, method="truncate")),
    "truncate, thaw all": Arm(replace(WHOLE, method="truncate")),
    "distill": Arm(replace(WHOLE, method="distill")),
    "distill, thaw none": Arm(replace(BASE, method="distill")),
    "distill pretrained": Arm(replace(WHOLE, method="distill"), "pretrained"),
    "theseus, constant 0.5": Arm(replace(BASE, schedule="constant", base_rate=0.5)),
    "theseus, anti-curriculum": Arm(replace(BASE, schedule="anti")),
    "theseus": Arm(BASE),
    "theseus, thaw head": Arm(replace(BASE, thaw="head")),
    "theseus, thaw all": Arm(WHOLE),
    "theseus, decay successor": Arm(replace(BASE, decay="successor")),
    "theseus, decay successor, thaw all": Arm(replace(WHOLE, decay="successor")),
    "theseus, decay none": Arm(replace(BASE, decay="none")),
    "theseus, until 0.25": Arm(replace(BASE, replace_until=0.25)),
    "theseus, until 0.75": Arm(replace(BASE, replace_until=0.75)),
    "theseus, init last": Arm(replace(BASE, init="last")),
    "theseus, init every-other": Arm(replace(BASE, init="every-other")),
    "theseus+distill": Arm(replace(BASE, method="theseus+distill")),
    "theseus+distill, thaw all": Arm(replace(WHOLE, method="theseus+distill")),
}


def main() -> None:
    """Run what is asked and not there yet."""
    arguments = _arguments()
    progress = choose_progress(quiet=False)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for task in arguments.task:
        name, _, data = task.partition("=")
        bench = Bench.prepare(name, data or name, arguments.work, progress)
        for seed in arguments.seeds:
            for lr in arguments.lr:
                for arm in arguments.arm:
                    config = replace(ARMS[arm].config, lr=lr, seed=seed, epochs=EPOCHS.get(name, 4.0))
                    asked = {
                        "task": name, "arm": arm, "seed": seed, "lr": lr, "config": config.to_json(),
                        "predecessor": bench.parent,
                    }  # fmt: skip
                    if any(asked.items() <= json.loads(line).items() for line in _lines(arguments.results)):
                        continue
                    progress.say(f"— {name}, {arm}, lr {lr:g}, seed {seed}")
                    run = {**asked, **bench.run(config, ARMS[arm].start, progress)}
                    arguments.results.parent.mkdir(parents=True, exist_ok=True)
                    with arguments.results.open("a") as file:
                        file.write(json.dumps(run) + "\n")
                    progress.say(f"  validation {run['validation']}, test {run['test']}, loyalty {run['loyalty']}")


@dataclass(frozen=True)
class Bench:
    """A task with its predecessor."""

    corpus: Corpus
    checkpoint: Checkpoint
    lesson: Lesson

    @classmethod
    def prepare(cls, name: str, data: str, work: Path, progress: Progress) -> "Bench":
        """Fine-tune the predecessor, unless it is in `work`."""
        place = work / name.replace(":", "-")
        folder, files = place / "predecessor", place / "data"
        if not files.exists():
            place.mkdir(parents=True, exist_ok=True)
            _write_splits(open_data(data), files)
        finetune_checkpoint(MODEL, str(files), folder, PREDECESSOR, reuse=True, progress=progress)
        checkpoint = open_checkpoint(str(folder))
        corpus = open_data(str(files), task=checkpoint.task)
        train, validation = corpus.for_training()
        tokenizer = checkpoint.tokenizer(checkpoint.task.tags_words)
        lesson = Lesson.prepare(train, validation, checkpoint.task, tokenizer, name)
        return cls(corpus, checkpoint, lesson)

    @cached_property
    def expected(self) -> Array:
        """Return the predecessor's answers to the rows that are reported."""
        return self.logits(self.checkpoint.trained())

    @cached_property
    def parent(self) -> str:
        """Name the predecessor by its content."""
        return fingerprint(self.checkpoint.path)

    def run(self, config: CompressConfig, start: str, progress: Progress) -> dict[str, Any]:
        """Compress once; answer with what came of it."""
        predecessor, task, began = self.checkpoint.trained(), self.lesson.task, time.perf_counter()
        model = predecessor if start == "predecessor" else open_checkpoint(MODEL).fresh(task, config.seed)
        plan, module_map = Plan.of(config, len(self.lesson.train)), map_of(config, count_layers(model.config))
        with TemporaryDirectory() as place:
            workspace = Workspace.open(Path(place) / "out", {}, overwrite=False)
            successor = compress(
                model, self.lesson, plan, module_map, config, workspace, progress, teacher=self.checkpoint.trained()
            )
        seconds, logits = time.perf_counter() - began, self.logits(successor)
        assert self.checkpoint.artifact is not None
        return {
            "steps": plan.steps,
            "validation": self.lesson.score(successor, CPU, SILENT, ""),
            "test": self.scores(logits),
            "predecessor_validation": self.checkpoint.artifact.manifest.scores["validation"],
            "predecessor_test": self.scores(self.expected),
            "loyalty": asdict(loyal) if (loyal := loyalty(task, logits, self.expected)) else None,
            "metric": task.primary,
            "seconds": seconds,
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "machine": this_machine().to_json(),
        }

    def logits(self, model: Any) -> Array:
        """Answer the rows that are reported."""
        rows = tokenise(self.corpus.for_scoring(), self.lesson.task, self.lesson.tokenizer, self.corpus.ref)
        return predict(model, rows, self.lesson.tokenizer, CPU)

    def scores(self, logits: Array) -> dict[str, float]:
        """Score answers to the rows that are reported."""
        references = self.lesson.task.encode(self.corpus.for_scoring().labels, self.corpus.ref)
        return self.lesson.task.score(logits, references)


def _write_splits(corpus: Corpus, folder: Path) -> None:
    """Write train, validation and test, so that nobody chooses by the rows that are reported."""
    test = corpus.for_scoring()
    others = {name: split for name, split in corpus.splits.items() if split is not test}
    train, validation = replace(corpus, splits=others).for_training()
    place = Path(mkdtemp(dir=folder.parent))
    for name, split in (("train", train), ("validation", validation), ("test", test)):
        rows = (
            {**dict(zip(corpus.text, text, strict=True)), corpus.label: label}
            for text, label in zip(split.texts, split.labels, strict=True)
        )
        (place / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    place.rename(folder)


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", required=True, help="NAME=DATA, or a built-in data set's name")
    parser.add_argument("--arm", action="append", choices=list(ARMS), help="may be repeated; all of them by default")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--lr", type=lambda text: [float(part) for part in text.split(",")], default=[BASE.lr])
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--work", type=Path, default=Path("accuracy-work"), help="where predecessors are kept")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.arm = arguments.arm or list(ARMS)
    return arguments


if __name__ == "__main__":
    main()
