"""How fast does `theseus compress` train? Seconds an optimizer step and peak memory, beside three other trainings.

    .venv/bin/python benchmarks/compress_speed.py --data mrpc/

- `theseus`: TheseusTrainer, as `compress --method theseus` runs it.
- `bare`: the same batches, masks and mathematics in a loop without transformers.Trainer, which shows what that costs.
- `finetune`: plain fine-tuning of the whole predecessor with our data path, that is StageTrainer.
- `official`: what the official script of 2020 computes in a step: inputs in random order, padded to 128 tokens, fp32,
  nothing skipped, gradients of all that took part, embeddings, head and the predecessor's layers too, and clipping
  over all of them; only the optimizer is confined to the successors. With the kernels and defaults of today's torch.

What is measured is a training of three epochs over a sample of the rows. In the first, `start`, the replacing rate is
held at 0.3, as it nearly is for the first steps of a long training; in the second, `replacing`, it rises from 0.3 to 1;
in the third, `successor`, it is 1. `curriculum`, the second and the third together, is the schedule of `theseus
compress`. `official` takes every fourth step of it all, under the masks of those steps. All that a step does is timed:
loading and collating the batch, forward, backward, clipping, optimizer, logging, callbacks. Loading the model,
tokenising, evaluating and writing checkpoints are not. A sample is grouped by length less well than the whole data, so
`theseus` and `finetune` look a little slower than they are; the report says how much padding it is.

Every arm has a process of its own, of which one works at a time; each round runs every arm once, in random order, over
the same batches and masks. Ratios are of medians over the rounds, their intervals from resampling whole rounds. Writes
`benchmarks/results/compress_speed.json`.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.compress_arms import Arm, Bench, Settings
from theseus_deploy.benchmark.process import environment
from theseus_deploy.benchmark.stats import quantile_ratio
from theseus_deploy.disk import write_atomically
from theseus_deploy.machine import this_machine, usable_cores, versions

RESULT = Path(__file__).resolve().parent / "results" / "compress_speed.json"
WARM = 8  # steps of a training before the first round, thrown away
ROUNDS = 3
START, REPLACING, SUCCESSOR = "start", "replacing", "successor"  # an epoch each
CURRICULUM = "curriculum"  # the last two
PHASES = (CURRICULUM, START, REPLACING, SUCCESSOR)


@dataclass(frozen=True)
class Ratio:
    """Two arms to compare, and the issue's limit for it."""

    above: Arm
    below: Arm
    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        return f"{self.above} / {self.below}"

    def met(self, value: float) -> bool:
        """Tell whether a value keeps the limit."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    @property
    def limit(self) -> str:
        """Say the limit."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


OFFICIAL = Arm("official", "fp32")
TIMES = (
    Ratio(OFFICIAL, Arm("theseus", "bf16"), at_least=12),
    Ratio(OFFICIAL, Arm("theseus", "fp32"), at_least=6),
    Ratio(Arm("theseus", "bf16"), Arm("finetune", "bf16"), at_most=0.75),
    Ratio(Arm("theseus", "fp32"), Arm("finetune", "fp32"), at_most=0.75),
    Ratio(Arm("theseus", "bf16"), Arm("bare", "bf16"), at_most=1.05),
    Ratio(Arm("theseus", "fp32"), Arm("bare", "fp32"), at_most=1.05),
)
MEMORY = (
    Ratio(Arm("theseus", "bf16"), Arm("finetune", "bf16"), at_most=1.25),
    Ratio(Arm("theseus", "fp32"), Arm("finetune", "fp32"), at_most=1.25),
)


_bench: Bench | None = None  # of this process


def begin(settings: Settings, arm: Arm) -> None:
    """Make this process an arm's."""
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to explain
    _bench = Bench(settings, arm)


def ask(name: str, *arguments: Any) -> Any:
    """Call a method of the arm of this process."""
    return getattr(_bench, name)(*arguments)


def measure(settings: Settings, arms: list[Arm], rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Run every arm once a round, one at a time and in random order, and report what was found."""
    os.environ.update(environment(settings.threads))  # of the processes that are started here
    draw, runs = random.Random(settings.seed), [dict[Arm, dict[str, Any]]() for _ in range(rounds)]
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        workers = {
            arm: stack.enter_context(ProcessPoolExecutor(1, context, initializer=begin, initargs=(settings, arm)))
            for arm in arms
        }

        def tell(arm: Arm, *what: Any) -> Any:
            return workers[arm].submit(ask, *what).result()

        for arm in arms:
            say(f"preparing {arm}")
            tell(arm, "run", WARM)
        for number, found in enumerate(runs, start=1):
            for arm in draw.sample(arms, len(arms)):
                found[arm] = tell(arm, "run")
                mean, load = np.mean(found[arm]["seconds"]), found[arm]["load_average"]
                say(f"round {number} of {rounds}: {arm}, {mean:.3f} s a step (load {load:.1f})")
        facts = {arm: tell(arm, "facts") for arm in arms}
        weights = {arm: tell(arm, "weights") for arm in arms if arm.name in ("theseus", "bare")}
    seconds = {arm: by_phase(facts[arm], [found[arm]["seconds"] for found in runs]) for arm in arms}
    peaks = {arm: np.array([found[arm]["peak_rss_bytes"] for found in runs], np.float64) for arm in arms}
    return {
        "machine": this_machine().to_json(),
        "versions": versions(),
        "settings": asdict(settings),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "rounds": rounds,
        "arms": [
            {
                "arm": str(arm),
                **facts[arm],
                "seconds_a_step": {phase: float(np.median(values)) for phase, values in seconds[arm].items()},
                "peak_rss_bytes": float(np.median(peaks[arm])),
                "runs": [found[arm] for found in runs],
            }
            for arm in arms
        ],
        "time": compare(TIMES, arms, seconds, settings.seed),
        "peak memory": compare(
            MEMORY, arms, {arm: {CURRICULUM: values} for arm, values in peaks.items()}, settings.seed
        ),
        "theseus_and_bare_differ_by": {
            arm.precision: float(np.abs(weights[arm] - weights[replace(arm, name="bare")]).max())
            for arm in arms
            if arm.name == "theseus"
        },
    }


def by_phase(facts: dict[str, Any], seconds: list[list[float]]) -> dict[str, NDArray[np.float64]]:
    """Return the mean seconds a step of each round, for each phase of the training."""
    taken, phase_of = np.array(seconds), np.array(facts["steps"]) // facts["steps_a_phase"]
    phases = {START: phase_of == 0, REPLACING: phase_of == 1, SUCCESSOR: phase_of == 2, CURRICULUM: phase_of > 0}
    return {phase: taken[:, chosen].mean(axis=1) for phase, chosen in phases.items()}


def compare(
    ratios: tuple[Ratio, ...], arms: list[Arm], values: dict[Arm, dict[str, NDArray[np.float64]]], seed: int
) -> list[dict[str, Any]]:
    """Estimate the ratios of the arms that ran, for each phase."""
    found = []
    for ratio in ratios:
        if ratio.above in arms and ratio.below in arms:
            above, below = values[ratio.above], values[ratio.below]
            estimates = {
                phase: quantile_ratio(above[phase][:, None], below[phase][:, None], 0.5, seed)
                for phase in PHASES
                if phase in above
            }
            phases = {
                phase: {**asdict(estimate), "met": ratio.met(estimate.value)} for phase, estimate in estimates.items()
            }
            found.append({"ratio": str(ratio), "limit": ratio.limit, "phases": phases})
    return found


def table(report: dict[str, Any]) -> str:
    """Write a report as plain text."""
    phases = "".join(f"{phase:>26}" for phase in PHASES)
    lines = [f"{'seconds a step':28}{phases}{'peak MB':>9}{'tokens':>8}"]
    for arm in report["arms"]:
        seconds = "".join(f"{arm['seconds_a_step'][phase]:26.3f}" for phase in PHASES)
        lines.append(f"{arm['arm']:28}{seconds}{arm['peak_rss_bytes'] / 1e6:9.0f}{arm['padded_length']:8.1f}")
    for kind, names in (("time", phases), ("peak memory", "")):
        lines += ["", f"{kind + ', ratio':28}{names}    limit"]
        for one in report[kind]:
            cells = "".join(f"{_interval(estimate):>26}" for estimate in one["phases"].values())
            lines.append(f"{one['ratio']:28}{cells}    {one['limit']}")
    differ = ", ".join(f"{value:.1e} in {name}" for name, value in report["theseus_and_bare_differ_by"].items())
    return "\n".join([*lines, "", f"after all rounds the weights of theseus and bare differ by at most {differ}"])


def _interval(estimate: dict[str, Any]) -> str:
    low, high = estimate["interval"]
    return f"{estimate['value']:.2f} [{low:.2f}, {high:.2f}]{' met' if estimate['met'] else ' not'}"


def main() -> None:
    """Read the command line, measure, print and write."""
    native = this_machine().native_bf16
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=Settings.model, help="any encoder (default: %(default)s)")
    parser.add_argument("--data", default=Settings.data, help="what theseus takes as data (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=Settings.rows, help="rows of the sample (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of each arm (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"] if native else ["fp32"],
                        choices=["fp32", "bf16"], help="of all but official (default: %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=RESULT, help="default: %(default)s")
    asked = parser.parse_args()
    settings = Settings(asked.model, asked.data, asked.rows, threads=asked.threads)
    arms = [
        OFFICIAL,
        *(Arm(name, precision) for name in ("finetune", "theseus", "bare") for precision in asked.precision),
    ]
    try:
        report = measure(settings, arms, asked.rounds, partial(print, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing was written")
    print(table(report))
    write_atomically(asked.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
