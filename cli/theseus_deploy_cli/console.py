"""What a person sees: results on stdout, progress on stderr."""

import codecs
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from theseus_deploy.distributed import World
from theseus_deploy.progress import SILENT, Progress, Tracker

if TYPE_CHECKING:
    from theseus_deploy.artifact import Artifact
    from theseus_deploy.benchmark.report import BenchmarkReport
    from theseus_deploy.checks import Check
    from theseus_deploy.pipeline import Outcome
    from theseus_deploy.plan.stage import Plan

LOG_SECONDS = 10.0  # between two lines of progress where stderr is no terminal


def progress(quiet: bool) -> Progress:
    """Choose how progress is shown: a live bar in a terminal, a line now and then in a log, nothing when quiet.

    Of several processes that share a training, the first one speaks.
    """
    if quiet or not World.here().first:
        return SILENT
    return TerminalProgress() if sys.stderr.isatty() else LogProgress()


class TerminalProgress:
    """A live bar with time left, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)

    def say(self, message: str) -> None:
        """Print the message."""
        self.console.print(message, markup=False)

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Tracker]:
        """Show a bar until the work ends, then one line of how long it took."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
        )  # fmt: skip
        with Bar(*columns, console=self.console, transient=True) as bar:
            yield _BarTracker(bar, bar.add_task(title, total=total, facts=""))
            elapsed = bar.tasks[0].elapsed or 0.0
        self.say(f"  {title}: {total} in {elapsed:.1f} s")


class _BarTracker:
    def __init__(self, bar: Any, task: Any) -> None:
        self.bar = bar
        self.task = task

    def advance(self, steps: int = 1, **facts: float | str) -> None:
        self.bar.update(self.task, advance=steps, facts=_facts(facts))


class LogProgress:
    """A line every few seconds, for logs and pipes."""

    def say(self, message: str) -> None:
        """Print the message."""
        print(message, file=sys.stderr, flush=True)

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Tracker]:
        """Print how far the work is, and how long it took."""
        tracker = _LogTracker(title, total)
        yield tracker
        self.say(f"  {title}: {total} in {time.monotonic() - tracker.began:.1f} s")


class _LogTracker:
    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0
        self.began = self.printed = time.monotonic()
        self.first: tuple[float, int] | None = None  # when, and how far: a work that resumes begins with a leap

    def advance(self, steps: int = 1, **facts: float | str) -> None:
        self.done += steps
        now = time.monotonic()
        since, known = self.first = self.first or (now, self.done)
        if now - self.printed >= LOG_SECONDS:
            paced = self.done - known
            left = f", {(now - since) / paced * (self.total - self.done):.0f} s left" if paced else ""
            print(f"  {self.title}: {self.done}/{self.total}{left} {_facts(facts)}", file=sys.stderr, flush=True)
            self.printed = now


def _facts(facts: dict[str, float | str]) -> str:
    shown = ((name, value if isinstance(value, (str, int)) else f"{value:.3g}") for name, value in facts.items())
    return " ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown)


def print_json(document: Any) -> None:
    """Make stdout one JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=_is_narrow(), allow_nan=False))


def print_line(document: Any) -> None:
    """Print a JSON document as one line, at once."""
    print(json.dumps(document, ensure_ascii=_is_narrow(), allow_nan=False), flush=True)


def _is_narrow() -> bool:
    """Tell whether stdout cannot say everything as it is."""
    return codecs.lookup(getattr(sys.stdout, "encoding", None) or "ascii").name != "utf-8"


def print_checks(checks: "Sequence[Check]", as_json: bool) -> int:
    """Print what was checked and return the exit code: 0 if all is well, else 2."""
    failed = [check for check in checks if not check.ok]
    if as_json:
        print_json({"ok": not failed, "checks": [vars(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{'ok ' if check.ok else 'BAD'}  {check.name:{width}}  {check.detail}")
    if failed:
        summary = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        print(f"theseus: {len(failed)} of {len(checks)} checks failed: {summary}", file=sys.stderr)
    return 2 if failed else 0


def print_report(report: "BenchmarkReport", as_json: bool) -> int:
    """Print a benchmark's report and return the exit code that its gates ask for."""
    from theseus_deploy.benchmark.views.terminal import render

    if as_json:
        print_json(report.to_json())
    else:
        from rich.console import Console

        Console(highlight=False).print(render(report))
    return report.exit_code


def print_plan(plan: "Plan", as_json: bool) -> int:
    """Print what every candidate needs and return the exit code: 0 if one of them holds the objective, else 3."""
    from theseus_deploy.plan.views import render

    if as_json:
        print_json(plan.to_json())
    else:
        from rich.console import Console

        Console(highlight=False).print(render(plan))
    return plan.exit_code


def print_outcome(outcome: "Outcome", as_json: bool) -> int:
    """Print what a recipe made and return the exit code that its gates ask for."""
    if as_json:
        folders = {name: str(folder) for name, folder in outcome.folders.items()}
        print_json({"folders": folders, "report": outcome.report.to_json() if outcome.report else None})
        return outcome.exit_code
    for name, folder in outcome.folders.items():
        print(f"{name:24} {folder}")
    if outcome.report:
        print_report(outcome.report, as_json=False)
    for path in outcome.report_files:
        print(path)
    return outcome.exit_code


def print_artifact(artifact: "Artifact", as_json: bool) -> None:
    """Print what a stage made: its manifest, or the few lines of it that a person wants."""
    if not World.here().first:
        return
    if as_json:
        print_json({"path": str(artifact.path), **artifact.to_json()})
        return
    manifest = artifact.manifest
    print(f"{artifact.path}  ({manifest.kind}, {manifest.precision})")
    print(f"  {manifest.layers} layers, {manifest.parameters:,} parameters, {artifact.bytes / 1e6:.1f} MB")
    for name, scores in manifest.scores.items():
        print(f"  {name}: " + ", ".join(f"{metric} {value:.4g}" for metric, value in scores.items()))
    _print_ledger(manifest.receipt)
    if tournament := manifest.receipt.get("quantization", {}).get("tournament"):
        _print_tournament(tournament)


def _print_ledger(receipt: Mapping[str, Any]) -> None:
    """Print how the weights became what they are, and whether the predecessor's are gone."""
    ledger = receipt.get("ledger", ())
    if len(ledger) < 2:
        return
    for entry in ledger:
        print(f"  {entry['name']:13} {entry['parameters']:>13,} parameters {entry['bytes'] / 1e6:>9,.1f} MB")
    if strip := receipt.get("strip"):
        of = strip["predecessor"]
        print(
            f"  strip: whether the graph holds weights of {of} is unproven, for {strip['unproven']}"
            if "unproven" in strip
            else f"  strip: none of the {strip['replaced']} tensors replaced in {of} is in the fp32 graph"
        )


def _print_tournament(tournament: Mapping[str, Any]) -> None:
    """Print what was tried, what became of it and how fast it was, and the winner under other settings."""
    which = "made-up input" if tournament.get("sequence") == "made up" else "input at the data's lengths"
    print(f"  tournament: the median of one {which}, and its ratio to the first line's [95 %]")
    for one in (*tournament["entries"], {"name": f"{tournament['winner']}, with"}, *tournament["runs"]):
        agreement = f"  agreement {one['label_agreement']:.3f}" if "label_agreement" in one else ""
        low, high = one.get("interval", (0, 0))
        speed = f"{1000 * one['p50']:8.2f} ms  {one['ratio']:.2f} [{low:.2f}, {high:.2f}]" if "p50" in one else ""
        ships = "  <- ships" if one["name"] in (tournament["winner"], tournament["setting"]) else ""
        print(f"    {one['name']:30}{speed or one.get('out', '')}{agreement}{ships}")
    if runtime := tournament.get("faster_runtime"):
        print(f"  {runtime} runs this model.onnx faster here")
