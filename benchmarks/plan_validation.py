"""Does `theseus plan` foretell what a real fleet shows? Predictor processes on loopback, under open and closed loads.

    .venv/bin/python benchmarks/plan_validation.py make build/bundle
    .venv/bin/python benchmarks/plan_validation.py measure build/bundle build/slice-1.json
    .venv/bin/python benchmarks/plan_validation.py measure build/bundle build/slice-2.json --like build/slice-1.json
    .venv/bin/python benchmarks/plan_validation.py report build/slice-*.json
    .venv/bin/python benchmarks/plan_validation.py again

A slice takes under five minutes on a machine of idle cores. Every pass in it times batches as `theseus benchmark`
does, then loads every fleet, in random order. A server is one process of one thread, held to a core of its own; the
generator, with its queue and its balancer, is held to the last core. So two cores leave room for fleets of one server.
Latency counts from when an input was meant to arrive, not from when the generator got round to it. Writes
`benchmarks/results/plan_validation.json`; `again` plans once more from the times that are in it.
"""

import json
import os
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.plan_errors import BATCHES, SEED, compare_closed, compare_open, foretell, service_times
from benchmarks.plan_fleet import SECONDS, Cell, connect, load_closed, load_openly, turnaround, ways
from theseus_deploy.benchmark.latency import measure_paced
from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import NUMBERS
from theseus_deploy.builtin import minilm
from theseus_deploy.data import open_data
from theseus_deploy.disk import write_atomically
from theseus_deploy.machine import this_machine, versions
from theseus_deploy.plan.service import ServiceTimes
from theseus_deploy.plan.simulation import Fleet

RESULT = Path(__file__).resolve().parent / "results" / "plan_validation.json"
DATA, MAX_LENGTH = "demo:tweets", 128
CORES = sorted(os.sched_getaffinity(0))
SERVERS = len(CORES) - 1
FLEETS = (Fleet(1, 1, 0.0), Fleet(1, 8, 0.005), *([Fleet(SERVERS, 8, 0.0)] if SERVERS > 1 else []))
LOADS = (0.25, 0.5, 0.75)  # of a fleet's capacity
CLIENTS = (1, 4)  # of a closed load: each asks again when it is answered
PASSES, BATCH_SECONDS, PACED_SECONDS = 3, 2.0, 8.0
MOST_OTHERS = 0.1  # of one core, taken by processes that are not ours: what was measured meanwhile is left out


class Others:
    """How much processes that are not ours work."""

    def __init__(self, ours: Sequence[psutil.Process]) -> None:
        self._ours = ours
        self._last = self._now()

    def share(self) -> float:
        """Return how much of one core they have taken since the last look."""
        (before, worked), self._last = self._last, self._now()
        return (self._last[1] - worked) / (self._last[0] - before)

    def _now(self) -> tuple[float, float]:
        everyone = psutil.cpu_times()
        ours = [process.cpu_times() for process in self._ours]
        busy = sum(everyone) - everyone.idle - everyone.iowait - everyone.guest - everyone.guest_nice
        return time.perf_counter(), busy - sum(times.user + times.system for times in ours)


def batches(texts: Sequence[tuple[str, ...]], size: int, draw: np.random.Generator) -> Iterator[list[tuple[str, ...]]]:
    """Draw batches of texts."""
    while True:
        yield [texts[row] for row in draw.integers(len(texts), size=size)]


def time_batches(worker: Worker, texts: Sequence[tuple[str, ...]], draw: np.random.Generator) -> dict[int, list[float]]:
    """Time batches as `theseus benchmark` does: seconds by batch size."""
    found = {}
    for size in BATCHES:
        source = batches(texts, size, draw)
        pace = worker.ask("warm", batches=[next(source) for _ in range(4)], sequence=None, seconds=0.2)["seconds"]
        chosen = [next(source) for _ in range(round(BATCH_SECONDS / pace))]
        found[size] = worker.ask("time", batches=chosen, sequence=None)["seconds"]
    return found


def cells(seconds: dict[int, list[float]]) -> list[Cell]:
    """Lay down every fleet under every load, at rates that these seconds a batch ask for."""
    found = []
    for fleet in FLEETS:
        times = ServiceTimes({size: np.array([samples]) for size, samples in seconds.items()}, fleet.most)
        found += [Cell(fleet, load, float(f"{load * times.capacity * fleet.servers:.2g}")) for load in LOADS]
        found += [Cell(fleet, clients=clients) for clients in CLIENTS]
    return found


def measure(bundle: str, out: Path, like: Path | None) -> None:
    """Take one slice, at the rates of another one if given."""
    draw = np.random.default_rng([SEED, len(out.name), *out.name.encode()])
    split = open_data(DATA).for_scoring()
    texts = split.texts
    passes: list[dict[str, Any]] = []
    plan = [Cell.of(cell) for cell in json.loads(like.read_text())["cells"]] if like else None
    with ExitStack() as stack:
        os.sched_setaffinity(0, {CORES[0]})
        worker = stack.enter_context(Worker("bundle", 1))
        os.sched_setaffinity(0, {CORES[-1]})
        worker.ask("load", runtime="onnxruntime", path=bundle, ref=bundle, max_length=MAX_LENGTH, threads=1,
                   device="cpu")  # fmt: skip
        servers = [connect(stack, bundle, core) for core in CORES[:SERVERS]]
        others = Others([psutil.Process(), *psutil.Process().children()])
        for _ in range(PASSES):
            others.share()
            seconds = time_batches(worker, texts, draw)
            paced = measure_paced(worker, split, len(passes), PACED_SECONDS)
            timing: dict[str, Any] = {"seconds": seconds, "paced": [asdict(one) for one in paced]}
            timing |= {"turnaround": turnaround(servers, texts, draw), "ways": ways(servers, texts, draw)}
            timing["others"] = others.share()
            plan = plan or cells(seconds)
            found: list[Any] = [None] * len(plan)
            for place in draw.permutation(len(plan)):
                load = load_closed if plan[place].clients else load_openly
                found[place] = load(plan[place], servers, texts, draw)
                found[place]["others"] = others.share()
            passes.append({**timing, "cells": found})
            print(f"pass {len(passes)} of {PASSES}", flush=True)
    assert plan is not None
    report = {"cells": [asdict(cell) for cell in plan], "passes": passes}
    write_atomically(out, json.dumps(report) + "\n")


def report(paths: Sequence[Path]) -> None:
    """Compare what all slices showed with what is foretold from the seconds that they timed.

    Whatever was measured while other processes worked is left out, and counted.
    """
    slices = [json.loads(path.read_text()) for path in paths]
    plan = [Cell.of(cell) for cell in slices[0]["cells"]]
    if any(one["cells"] != slices[0]["cells"] for one in slices):
        raise SystemExit("the slices are of different rates; measure them --like the first")
    passes = [one for part in slices for one in part["passes"]]
    timed = [one for one in passes if one["others"] <= MOST_OTHERS]
    overhead = float(np.median([one["turnaround"] for one in timed]))
    network = float(np.median([one["ways"] for one in timed])) - overhead
    found: dict[str, list[dict[str, Any]]] = {"open": [], "closed": []}
    for place, cell in enumerate(plan):
        runs = [(one, run) for one in timed if (run := one["cells"][place])["others"] <= MOST_OTHERS]
        row = {**asdict(cell), "passes": len(runs)}
        times = service_times(timed, cell.fleet, overhead)
        if cell.rate:
            found["open"].append(row | (compare_open(cell, runs, times, network) if runs else {}))
        else:
            found["closed"].append(row | (compare_closed(cell, [run for _, run in runs], times) if runs else {}))
    whole = {
        "model": "all-MiniLM-L6-v2, 3 labels, int8-dynamic", "data": DATA, "machine": this_machine().to_json(),
        "versions": versions(), "threads": 1, "passes": len(passes), "timed_passes": len(timed),
        "most_others": MOST_OTHERS, "seconds_a_pass": SECONDS, "overhead_seconds": overhead,
        "network_seconds": network,
        "service_seconds": {size: [one["seconds"][str(size)] for one in timed] for size in BATCHES},
        "paced": [one["paced"] for one in timed], **found,
    }  # fmt: skip
    save(whole)


def save(whole: dict[str, Any]) -> None:
    """Write the report, with what a plan is that was not told what the way to the server and its overhead take."""
    whole = json.loads(json.dumps(whole))
    seconds, paced = whole["service_seconds"], whole["paced"]
    timed = [
        {"seconds": {size: seconds[size][place] for size in seconds}, "paced": one} for place, one in enumerate(paced)
    ]
    for row in whole["open"]:
        cell = Cell.of({key: row[key] for key in ("fleet", "rate", "clients")})
        row["planned_bare"] = foretell(cell, service_times(timed, cell.fleet, 0.0), 0.0)
    text = json.dumps(json.loads(json.dumps(whole), parse_float=lambda digits: round(float(digits), 9)), indent=1)
    write_atomically(RESULT, NUMBERS.sub(lambda part: " ".join(part[0].split()), text) + "\n")


def make(bundle: Path) -> None:
    """Export MiniLM to int8, with a head of three labels that has not learned: answers do not matter here."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

    from theseus_deploy.configs import ExportConfig
    from theseus_deploy.export.stage import export_checkpoint

    checkpoint = bundle.with_name(bundle.name + "-checkpoint")
    set_seed(0)
    AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=3).save_pretrained(checkpoint)
    AutoTokenizer.from_pretrained(minilm()).save_pretrained(checkpoint)
    export_checkpoint(str(checkpoint), bundle, ExportConfig(quantize="dynamic"))


def main() -> None:
    """Do one of the steps."""
    parser = ArgumentParser()
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("make").add_argument("bundle", type=Path)
    one = steps.add_parser("measure")
    one.add_argument("bundle")
    one.add_argument("slice", type=Path)
    one.add_argument("--like", type=Path)
    steps.add_parser("report").add_argument("slices", type=Path, nargs="+")
    steps.add_parser("again")
    asked = parser.parse_args()
    if asked.step == "make":
        make(asked.bundle)
    elif asked.step == "measure":
        measure(asked.bundle, asked.slice, asked.like)
    elif asked.step == "again":
        save(json.loads(RESULT.read_text("utf-8")))
    else:
        report(asked.slices)


if __name__ == "__main__":
    main()
