"""Measure what each way of compressing keeps of the predecessor: tasks x arms x learning rates x seeds.

    python benchmarks/accuracy.py --task mrpc=DIR --task demo:tweets --arm theseus --arm truncate --seeds 1,2,3

Every task has one predecessor, `demo:minilm` fine-tuned once. Every run makes 3 layers of its 6, or as many as its arm
says, in the same number of steps, and differs in arm, learning rate and seed alone. Settings are chosen by
`validation`, which is the data's own or a tenth of train, and never the rows that are reported: `test`, or the
validation split of data without one. Where words are tagged, a label is a word's.

A run is one line of the results. One that is there already is not repeated, so the command can be interrupted, and be
run several times at once on tasks of their own, and on arms once a task has its predecessor. With `--repeat 0.1` a
random tenth of the runs that are there is made again from their lines alone, and what came of it is kept in
`accuracy_repeats.jsonl`. `predictions` are the labels given to the rows that are reported; those of the predecessor,
and the true ones, are in `accuracy_tasks.json` beside the results. A machine whose CPU has no bf16 trains in fp32 and
makes other predecessors: give its runs a file of their own with `--results`.
"""

import argparse
import base64
import json
import random
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.suspects import SUSPECTS
from theseus_deploy.artifact import fingerprint
from theseus_deploy.benchmark.accuracy import loyalty
from theseus_deploy.compress.families import count_layers
from theseus_deploy.compress.stage import compress, map_of
from theseus_deploy.compress.start import Start, choose_start
from theseus_deploy.configs import CompressConfig, FinetuneConfig, Init
from theseus_deploy.data import Corpus, open_data
from theseus_deploy.disk import write_atomically
from theseus_deploy.finetune import finetune_checkpoint
from theseus_deploy.lesson import Lesson, predict
from theseus_deploy.machine import this_machine, versions
from theseus_deploy.models.checkpoint import Checkpoint, open_checkpoint
from theseus_deploy.progress import SILENT, Progress
from theseus_deploy.tasks import Array
from theseus_deploy.tokens import tokenise
from theseus_deploy.training import Length
from theseus_deploy.workspace import Workspace
from theseus_deploy_cli.console import progress as choose_progress

RESULTS = Path(__file__).parent / "results" / "accuracy.jsonl"
MODEL = "demo:minilm"
PREDECESSOR = FinetuneConfig(epochs=4, lr=5e-5)
PREDECESSORS = {  # 77 labels take more, and many rows less
    "banking77": FinetuneConfig(epochs=6, lr=2e-4),
    "demo:tweets": FinetuneConfig(epochs=2, lr=5e-5),
    "wnut17": FinetuneConfig(epochs=6, lr=2e-4),  # 13 tags
    "reuters": FinetuneConfig(epochs=4, lr=2e-4),  # 52 labels
    "cola-by-matthews": replace(PREDECESSOR, metric="matthews"),  # `cola` keeps the best evaluation by accuracy
    "cola-long": replace(PREDECESSOR, metric="matthews"),
}
EPOCHS = {  # of compressing; 4 for other tasks
    "mrpc": 8.0, "cola": 6.0, "cola-by-matthews": 6.0, "banking77": 6.0, "demo:tweets": 2.0, "wnut17": 6.0,
    "products-long": 16.0, "posts": 14.0, "reuters": 7.25,  # a thousand steps, the least by default
    "mrpc-long": 16.0, "cola-long": 12.0,  # twice as long
}  # fmt: skip
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Arm:
    """A way to compress; `start` says whose layers the successor begins as, `suspect` what else trains it."""

    config: CompressConfig
    start: Literal["predecessor", "pretrained"] = "predecessor"
    suspect: str | None = None

    def to_json(self) -> dict[str, str]:
        """Return what of a run's line the configuration does not say."""
        return {"start": self.start, **({"suspect": self.suspect} if self.suspect else {})}


SHIPPED = CompressConfig()
FROZEN = replace(SHIPPED, thaw="none")
DROPPING = replace(FROZEN, dropout=True)
ALONE = replace(SHIPPED, method="theseus")  # with nothing but the task's loss
FAITHFUL = replace(ALONE, init="bottom", decay="linear", dropout=True)  # as in the official code
WHOLE = replace(FAITHFUL, thaw="all")
ARMS: dict[str, Arm] = {
    "theseus+distill": Arm(SHIPPED),
    "theseus+distill, init bottom": Arm(replace(SHIPPED, init="bottom")),
    "theseus+distill, init last": Arm(replace(SHIPPED, init="last")),
    "theseus+distill, until 0.25": Arm(replace(SHIPPED, replace_until=0.25)),
    "theseus+distill, init bottom, keep last": Arm(replace(SHIPPED, init="bottom", keep="last")),
    "theseus+distill, keep last": Arm(replace(SHIPPED, keep="last")),
    "theseus+distill, 4 layers": Arm(replace(SHIPPED, layers=4)),
    "theseus+distill, 5 layers": Arm(replace(SHIPPED, layers=5)),
    "theseus+distill, thaw none": Arm(FROZEN),
    "theseus+distill, thaw head": Arm(replace(SHIPPED, thaw="head")),
    "theseus+distill, thaw none, dropout": Arm(DROPPING),
    "theseus+distill, thaw none, dropout, init bottom": Arm(replace(DROPPING, init="bottom")),
    "theseus+distill, thaw none, dropout, init last": Arm(replace(DROPPING, init="last")),
    "theseus+distill, thaw none, dropout, alpha 0.9": Arm(replace(DROPPING, alpha=0.9)),
    "theseus+distill, thaw none, dropout, until 0.25": Arm(replace(DROPPING, replace_until=0.25)),
    "theseus+distill, dropout, thaw head": Arm(replace(DROPPING, thaw="head")),
    "theseus+distill, dropout, thaw all": Arm(replace(DROPPING, thaw="all")),
    "theseus": Arm(ALONE),
    "theseus, init bottom": Arm(replace(ALONE, init="bottom")),
    "theseus, init first": Arm(replace(ALONE, init="first")),
    "theseus, init last": Arm(replace(ALONE, init="last")),
    "theseus, decay linear": Arm(replace(ALONE, decay="linear")),
    "theseus, decay none": Arm(replace(ALONE, decay="none")),
    "theseus, thaw head": Arm(replace(ALONE, thaw="head")),
    "theseus, thaw all": Arm(replace(ALONE, thaw="all")),
    "theseus, until 0.25": Arm(replace(ALONE, replace_until=0.25)),
    "theseus, until 0.75": Arm(replace(ALONE, replace_until=0.75)),
    "theseus, constant 0.5": Arm(replace(ALONE, schedule="constant", base_rate=0.5)),
    "theseus, anti-curriculum": Arm(replace(ALONE, schedule="anti")),
    "theseus, official": Arm(FAITHFUL),
    "truncate, as shipped": Arm(replace(SHIPPED, method="truncate")),
    "truncate": Arm(replace(FAITHFUL, method="truncate")),
    "truncate, thaw all": Arm(replace(WHOLE, method="truncate")),
    "truncate, keep last": Arm(replace(FAITHFUL, method="truncate", keep="last")),
    "truncate, 4 layers": Arm(replace(FAITHFUL, method="truncate", layers=4)),
    "distill": Arm(replace(WHOLE, method="distill")),
    "distill, keep last": Arm(replace(WHOLE, method="distill", keep="last")),
    "distill, no dropout": Arm(replace(WHOLE, method="distill", dropout=False)),
    "distill, as shipped": Arm(replace(SHIPPED, method="distill")),
    "pretrained": Arm(replace(WHOLE, method="truncate"), "pretrained"),
    "pretrained, distill": Arm(replace(WHOLE, method="distill"), "pretrained"),
    **{f"theseus+distill, {name}": Arm(SHIPPED, suspect=name) for name in SUSPECTS},
    "theseus+distill, average, decay none": Arm(replace(SHIPPED, decay="none"), suspect="average"),
}


def main() -> None:
    """Run what is asked and not there yet, or again what is."""
    arguments = _arguments()
    progress = choose_progress(quiet=False)
    torch.set_num_threads(arguments.threads)
    for task in arguments.task:
        name, _, data = task.partition("=")
        bench = Bench.prepare(name, data or name, arguments.work, progress)
        if arguments.repeat:
            repeat(bench, name, arguments, progress)
            continue
        bench.keep_truth(name, arguments.results.with_name(f"{arguments.results.stem}_tasks.json"))
        for asked in grid(name, bench, arguments):
            if any(_is(run, asked) for run in _runs(arguments.results)):
                continue
            progress.say(f"— {name}, {asked['arm']}, lr {asked['lr']:g}, seed {asked['seed']}")
            run = {**asked, **bench.run(asked, progress)}
            _append(run, arguments.results)
            progress.say(f"  validation {run['validation']}, test {run['test']}, loyalty {run['loyalty']}")


def grid(task: str, bench: "Bench", arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Lay down what identifies each run of a task; a default that depends on the task is what it comes to."""
    for seed in arguments.seeds:
        for lr in arguments.lr:
            for name in arguments.arm:
                arm = ARMS[name]
                config = replace(
                    arm.config, init=bench.start(arm.config), dropout=arm.config.drops(bench.lesson.task.tags_words),
                    lr=lr, seed=seed, epochs=EPOCHS.get(task, 4.0),
                )  # fmt: skip
                yield {
                    "task": task, "arm": name, "seed": seed, "lr": lr, **arm.to_json(), "config": config.to_json(),
                    "predecessor": bench.parent,
                }  # fmt: skip


def repeat(bench: "Bench", task: str, arguments: argparse.Namespace, progress: Progress) -> None:
    """Run a random share of a task's runs again, each from its line alone, and keep whether they answer the same."""
    runs = [run for run in _runs(arguments.results) if run["task"] == task]
    for known in random.sample(runs, max(1, round(arguments.repeat * len(runs)))):
        again = bench.run(known, progress)
        found = {
            **{key: known[key] for key in ("task", "arm", "lr", "seed", "test")},
            "again": again["test"],
            "same": again["predictions"] == known["predictions"],
            "same_predecessor": bench.parent == known["predecessor"],
            "machines": [{**run["machine"], "threads": run["threads"]} for run in (known, again)],
        }
        _append(found, arguments.results.with_name(f"{arguments.results.stem}_repeats.jsonl"))
        answer = "the same predictions" if found["same"] else f"test {again['test']} instead of {known['test']}"
        print(f"{task}, {known['arm']}, lr {known['lr']:g}, seed {known['seed']}: {answer}")
        if not found["same_predecessor"]:
            print("  of another predecessor: it was fine-tuned elsewhere, or with other threads or versions")


@dataclass(frozen=True)
class Bench:
    """A task with its predecessor."""

    corpus: Corpus
    checkpoint: Checkpoint
    lesson: Lesson
    starts: dict[int | None, Start] = field(default_factory=dict)  # what `--init auto` comes to, by layers

    @classmethod
    def prepare(cls, name: str, data: str, work: Path, progress: Progress) -> "Bench":
        """Fine-tune the predecessor, unless it is in `work`."""
        place = work / name.replace(":", "-")
        folder, files = place / "predecessor", place / "data"
        if not files.exists():
            place.mkdir(parents=True, exist_ok=True)
            _write_splits(open_data(data), files)
        finetune_checkpoint(
            MODEL, str(files), folder, PREDECESSORS.get(name, PREDECESSOR), reuse=True, progress=progress
        )
        checkpoint = open_checkpoint(str(folder))
        corpus = open_data(str(files), task=checkpoint.task)
        train, validation = corpus.for_training()
        tokenizer = checkpoint.tokenizer(checkpoint.task)
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

    def start(self, config: CompressConfig) -> Init:
        """Return what `--init` comes to."""
        return self.chosen(config).init if config.init == "auto" else config.init

    def chosen(self, config: CompressConfig) -> Start:
        """Return what `--init auto` chooses: it follows from the layers asked for, and no seed or rate changes it."""
        if config.layers not in self.starts:
            model = self.checkpoint.trained()
            module_map = map_of(config, count_layers(model.config))
            self.starts[config.layers] = choose_start(model, self.lesson, module_map, CPU)
        return self.starts[config.layers]

    def run(self, asked: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Compress as the line of a run asks; answer with what came of it."""
        config = CompressConfig.from_mapping(asked["config"], "the run's line")
        predecessor, task, began = self.checkpoint.trained(), self.lesson.task, time.process_time()
        model = predecessor if asked["start"] == "predecessor" else open_checkpoint(MODEL).fresh(task, config.seed)
        length, module_map = Length.of(config, len(self.lesson.train)), map_of(config, count_layers(model.config))
        with TemporaryDirectory() as place:
            workspace = Workspace.open(Path(place) / "out", {}, overwrite=False)
            successor = compress(
                model, self.lesson, length, module_map, config, workspace, progress,
                teacher=self.checkpoint.trained(), trainer=SUSPECTS.get(asked.get("suspect", "")),
            )  # fmt: skip
        seconds, logits = time.process_time() - began, self.logits(successor)
        assert self.checkpoint.artifact is not None
        return {
            "steps": length.steps,
            "validation": self.lesson.score(successor, CPU, SILENT, ""),
            "test": self.scores(logits),
            "predecessor_validation": self.checkpoint.artifact.manifest.scores["validation"],
            "predecessor_test": self.scores(self.expected),
            "predictions": pack(self.lesson.task.decide(logits)),
            "loyalty": asdict(loyal) if (loyal := loyalty(task, logits, self.expected)) else None,
            "metric": task.primary,
            "cpu_seconds": seconds,
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
        return self.lesson.task.score(logits, self.truth)

    @cached_property
    def truth(self) -> list[Any]:
        """Return the labels of the rows that are reported."""
        return self.lesson.task.encode(self.corpus.for_scoring().labels, self.corpus.ref)

    def keep_truth(self, name: str, path: Path) -> None:
        """Write what predictions are compared with, beside what other tasks have there."""
        words = self.lesson.task.tags_words
        found = {
            "predecessor": self.parent,
            "labels": list(self.lesson.task.labels),
            "agreement": dict(self.chosen(SHIPPED).agreement),  # of untrained layers, which `--init auto` goes by
            "truth": pack(np.concatenate(self.truth) if words else np.array(self.truth)),
            "predictions": pack(self.lesson.task.decide(self.expected)),
            **({"lengths": [len(tags) for tags in self.truth]} if words else {}),
        }
        known = json.loads(path.read_text("utf-8")) if path.exists() else {}
        if known.get(name) != found:
            write_atomically(path, json.dumps({**known, name: found}, indent=1) + "\n")


def pack(labels: Any) -> str:
    """Write a label a row, at most 256 different ones, as base64 of zlib of a byte each."""
    return base64.b64encode(zlib.compress(labels.astype(np.uint8).tobytes(), 9)).decode()


def _write_splits(corpus: Corpus, folder: Path) -> None:
    """Write train, validation and test, so that nobody chooses by the rows that are reported."""
    test = corpus.for_scoring()
    others = {name: split for name, split in corpus.splits.items() if split is not test}
    train, validation = replace(corpus, splits=others).for_training()
    place = Path(mkdtemp(dir=folder.parent))
    for name, split in (("train", train), ("validation", validation), ("test", test)):
        rows = (
            {
                **({corpus.text[0]: text} if split.words else dict(zip(corpus.text, text, strict=True))),
                corpus.label: label,
            }
            for text, label in zip(split.texts, split.labels, strict=True)
        )
        (place / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    place.rename(folder)


def _is(run: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Tell whether a run is the one asked for; its line may be older than a setting, whose default it then has."""
    known = {**run, "config": CompressConfig.from_mapping(run["config"], "a run's line").to_json()}
    return asked.items() <= known.items()


def _append(line: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _runs(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", required=True, help="NAME=DATA, or a built-in data set's name")
    parser.add_argument("--arm", action="append", choices=list(ARMS), help="may be repeated; all of them by default")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--lr", type=lambda text: [float(part) for part in text.split(",")], default=[SHIPPED.lr])
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch; a run repeats exactly with as many (default: 1)"
    )
    parser.add_argument("--repeat", type=float, help="run this share of the results again and compare, 0.1 for a tenth")
    parser.add_argument("--work", type=Path, default=Path("accuracy-work"), help="where predecessors are kept")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.arm = arguments.arm or list(ARMS)
    return arguments


if __name__ == "__main__":
    main()
