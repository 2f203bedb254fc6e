"""`--quantize auto`: all ways to quantise are judged, the faithful ones race on this machine, and the fastest ships."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from theseus_deploy.artifact import Draft
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.errors import ExportError, ModelError
from theseus_deploy.export.quantize.calibrate import Ranges
from theseus_deploy.export.quantize.graph import open_graph
from theseus_deploy.export.quantize.judge import Judge, Verdict
from theseus_deploy.export.quantize.scheme import Scheme, parts
from theseus_deploy.export.quantize.sensitivity import Budget, keep_within
from theseus_deploy.manifest import GRAPH, TOKENIZER, Manifest
from theseus_deploy.predictor import SESSION
from theseus_deploy.progress import Progress
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Task

FP32 = "fp32"
DEFAULT = "onnxruntime's defaults"
RUNTIME, RIVAL = "onnxruntime", "openvino"
# Entries of onnxruntime's session configuration. The first is for large batches: the fused operator rounds its input on
# a single thread, while the operator that rounds for several products at once divides the work.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "activations quantised apart": {"optimization.disable_specified_optimizers": "DynamicQuantizeMatMulFusion"},
    "threads that do not spin": {"session.intra_op.allow_spinning": "0"},
}


@dataclass(frozen=True)
class Racer:
    """A bundle that is to be timed, and in which runtime."""

    folder: Path
    runtime: str = RUNTIME


@dataclass(frozen=True)
class Speed:
    """The median seconds of one input, and its ratio to the first racer's with a 95 % interval."""

    p50: float
    ratio: float
    interval: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return what the tournament's table has of it."""
        return {"p50": self.p50, "ratio": self.ratio, "interval": list(self.interval)}


Race = Callable[[Mapping[str, Racer]], Mapping[str, Speed]]  # by name; the first racer is the one to compare with
Timer = Callable[[Mapping[str, Racer], Split, int, BenchmarkConfig, Progress], Mapping[str, Speed]]  # of `race.py`


@dataclass(frozen=True)
class Entry:
    """A way to quantise, None for the fp32 graph: its size, what it answers, and `out`, why it takes no part."""

    name: str
    scheme: Scheme | None
    size: int
    verdict: Verdict | None
    out: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what the tournament's table has of it before it races."""
        facts = {"name": self.name, "bytes": self.size, **(self.verdict.to_json() if self.verdict else {})}
        return {**facts, "out": self.out} if self.out else facts


@dataclass(frozen=True)
class Tournament:
    """What came of it: the table, the winner, the settings that were best for it, and what it is in other runtimes.

    `runs` is the winner under each setting and in each runtime, compared with the winner under the defaults.
    """

    budget: Budget
    entries: Sequence[Entry]
    speeds: Mapping[str, Speed]
    runs: Mapping[str, Speed]

    @property
    def winner(self) -> Entry:
        """Return the fastest of those that raced."""
        fastest = min(self.speeds, key=lambda name: self.speeds[name].p50)
        return next(entry for entry in self.entries if entry.name == fastest)

    @property
    def setting(self) -> str:
        """Return the fastest setting, or the defaults unless it is certain to be faster."""
        certain = [name for name, speed in self.runs.items() if name in SETTINGS and speed.interval[1] < 1]
        return min(certain, key=lambda name: self.runs[name].p50, default=DEFAULT)

    @property
    def session(self) -> Mapping[str, str]:
        """Return the entries of that setting."""
        return SETTINGS.get(self.setting, {})

    def to_json(self) -> dict[str, Any]:
        """Return the `tournament` object of the quantization's receipt."""
        entries = [
            {**entry.to_json(), **(self.speeds[entry.name].to_json() if entry.name in self.speeds else {})}
            for entry in self.entries
        ]
        runs = [{"name": name, **speed.to_json()} for name, speed in self.runs.items()]
        rival = self.runs.get(RIVAL)
        faster = {"faster_runtime": RIVAL} if rival and rival.interval[1] < self.runs[self.setting].ratio else {}
        return {
            "budget": vars(self.budget), "winner": self.winner.name, "entries": entries, "setting": self.setting,
            "runs": runs, **faster,
        }  # fmt: skip


def compete(
    judge: Judge, schemes: Mapping[Scheme, Ranges | None], budget: Budget, race: Race, progress: Progress
) -> Tournament:
    """Judge the schemes, and race those within the budget and the fp32 graph; then race the winner's settings.

    Where the budget leaves a scheme out, the blocks that int8 hurts most stay fp32, and it is tried again.
    """
    with TemporaryDirectory(dir=judge.folder) as place:
        finest = any(scheme.per_channel for scheme in schemes)
        field = _Field(judge, Path(place), budget, progress, finest)
        field.enter(None, None)
        for scheme, ranges in schemes.items():
            field.enter(scheme, ranges)
        speeds = race({entry.name: Racer(field.folder(entry)) for entry in field.entries if not entry.out})
        first = Tournament(budget, field.entries, speeds, {})
        racers = field.runs(first.winner)
        try:
            runs = race(racers)
        except ModelError as error:
            if RIVAL not in racers:
                raise
            progress.say(f"without {RIVAL}: {error}")
            runs = race({name: racer for name, racer in racers.items() if name != RIVAL})
        return replace(first, runs=runs)


class _Field:
    """The folders of those that compete, each a bundle of its own."""

    def __init__(self, judge: Judge, place: Path, budget: Budget, progress: Progress, per_channel: bool) -> None:
        self.judge, self.place, self.budget, self.progress = judge, place, budget, progress
        self.per_channel = per_channel  # of the finest scheme
        self.entries: list[Entry] = []

    def folder(self, entry: Entry) -> Path:
        """Return where its bundle is."""
        return self.place / entry.name

    def enter(self, scheme: Scheme | None, ranges: Ranges | None) -> None:
        """Write a bundle and judge it; the fp32 graph has been."""
        name = str(scheme) if scheme else FP32
        self.progress.say(f"trying {name}")
        folder = self.place / name
        folder.mkdir()
        self.judge.write(folder, scheme, ranges)
        verdict, out = None, ""
        if scheme:
            try:
                verdict = self.judge.judge(folder, self.budget.scored)
                out = "" if self.budget.admits(verdict) else f"not within {self.budget}"
            except ExportError as error:  # it answers with what is no number
                out = str(error)
        self.entries.append(Entry(name, scheme, (folder / GRAPH).stat().st_size, verdict, out))
        _finish(folder, self.judge.task, {})
        finest = scheme and scheme.per_channel == self.per_channel  # what is coarser would need more blocks in fp32
        if scheme and out and finest and not scheme.kept:
            self._keep_blocks(scheme, ranges)

    def _keep_blocks(self, scheme: Scheme, ranges: Ranges | None) -> None:
        found = parts(open_graph(self.judge.folder / GRAPH).graph)
        try:
            sensitivity = keep_within(
                self.budget, scheme, found,
                alone=lambda tried: self.judge.verdict(tried, ranges, scored=False),
                together=lambda tried: self.judge.verdict(tried, ranges, self.budget.scored),
                progress=self.progress,
            )  # fmt: skip
        except ExportError as error:
            self.progress.say(str(error))
        else:
            self.enter(sensitivity.scheme, ranges)

    def runs(self, winner: Entry) -> Mapping[str, Racer]:
        """Lay out the winner under every setting, and in another runtime where that is installed."""
        racers = {DEFAULT: Racer(self.folder(winner))}
        for name, settings in SETTINGS.items():
            folder = self.place / name
            folder.mkdir()
            for file in (GRAPH, TOKENIZER):
                _share(self.folder(winner) / file, folder / file)
            _finish(folder, self.judge.task, settings)
            racers[name] = Racer(folder)
        if find_spec(RIVAL):
            racers[RIVAL] = Racer(self.folder(winner), RIVAL)
        return racers


def _finish(folder: Path, task: Task, settings: Mapping[str, str]) -> None:
    """Make a bundle of a folder, with as much of a manifest as it takes to be opened."""
    receipt = {SESSION: dict(settings)}
    Draft(folder).finish(Manifest("bundle", "export", {}, None, None, task, parameters=0, layers=0, receipt=receipt))


def _share(file: Path, place: Path) -> None:
    """Put a file at a second place: without a copy where the file system can."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copy2(file, place)
