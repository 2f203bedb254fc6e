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
import subprocess
import sys
import time
from argparse import ArgumentParser
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from heapq import heapreplace
from itertools import count
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import numpy as np
import psutil

from theseus_deploy.artifact import write_atomically
from theseus_deploy.benchmark.latency import measure_paced
from theseus_deploy.benchmark.process import Worker, environment
from theseus_deploy.benchmark.report import NUMBERS, Paced
from theseus_deploy.benchmark.stats import Array
from theseus_deploy.builtin import minilm
from theseus_deploy.data import open_data
from theseus_deploy.machine import this_machine, versions
from theseus_deploy.plan.arrivals import Load
from theseus_deploy.plan.search import look_ahead, replications
from theseus_deploy.plan.service import LEVELS, ServiceTimes
from theseus_deploy.plan.simulation import Fleet, settle

RESULT = Path(__file__).resolve().parent / "results" / "plan_validation.json"
DATA, MAX_LENGTH = "demo:tweets", 128
CORES = sorted(os.sched_getaffinity(0))
SERVERS = len(CORES) - 1
FLEETS = (Fleet(1, 1, 0.0), Fleet(1, 8, 0.005), *([Fleet(SERVERS, 8, 0.0)] if SERVERS > 1 else []))
LOADS = (0.25, 0.5, 0.75)  # of a fleet's capacity
CLIENTS = (1, 4)  # of a closed load: each asks again when it is answered
PASSES, SECONDS, CLOSED_SECONDS = 3, 10.0, 1.0
BATCHES, BATCH_SECONDS, PACED_SECONDS = (1, 2, 4, 8), 2.0, 8.0
QUANTILES, NAMES = (0.5, 0.95, 0.99), ("p50", "p95", "p99")
MOST_OTHERS = 0.1  # of one core, taken by processes that are not ours: what was measured meanwhile is left out
TURNS, REST = 200, 0.02  # of single inputs, and seconds from one to the next
DRAWS = 5  # of service times, for one replay of arrivals
SEED = 1


@dataclass(frozen=True)
class Cell:
    """A fleet under a load: open at `rate` inputs a second, which is `load` of its capacity, or closed by clients."""

    fleet: Fleet
    load: float | None = None
    rate: float | None = None
    clients: int | None = None


class Pool:
    """A queue, a balancer and its servers; inputs are offered, and latencies are collected."""

    def __init__(self, fleet: Fleet, servers: Sequence[Connection], texts: Sequence[tuple[str, ...]]) -> None:
        self._fleet, self._texts = fleet, texts
        self._queue: deque[tuple[float, int]] = deque()
        self._changed, self._closing, self._numbers = Condition(), False, count()
        self.seconds: list[float] = []  # of batches, as the servers took them
        self.latencies: dict[int, float] = {}  # by number, in the order that inputs were offered in
        self.until = 0.0  # whoever is answered before asks again
        self._threads = [Thread(target=self._balance, args=(server,)) for server in servers[: fleet.servers]]
        for thread in self._threads:
            thread.start()

    def offer(self, moment: float) -> None:
        """Put an input into the queue that was meant to arrive at that moment."""
        with self._changed:
            self._queue.append((moment, next(self._numbers)))
            self._changed.notify()

    def close(self) -> None:
        """Answer what waits, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _balance(self, server: Connection) -> None:
        while batch := self._take():
            server.send([self._texts[number % len(self._texts)] for _, number in batch])
            self.seconds.append(server.recv())
            now = time.perf_counter()
            for moment, number in batch:
                self.latencies[number] = now - moment
                if now < self.until:
                    self.offer(now)

    def _take(self) -> list[tuple[float, int]]:
        """Wait for a batch by the fleet's rule; empty at the end."""
        with self._changed:
            while len(self._queue) < self._fleet.most:
                if self._queue:
                    left = self._queue[0][0] + self._fleet.window - time.perf_counter()
                    if left <= 0:
                        break
                    self._changed.wait(left)
                elif self._closing:
                    break
                else:
                    self._changed.wait()
            return [self._queue.popleft() for _ in range(min(self._fleet.most, len(self._queue)))]


def serve_here(bundle: str, core: int) -> None:
    """Be a server: answer batches until the connection ends, each with the seconds it took."""
    from theseus_deploy.predictor import Predictor

    os.sched_setaffinity(0, {core})
    predictor = Predictor(bundle, 1)
    with Listener(("127.0.0.1", 0)) as listener:
        print(listener.address[1], flush=True)
        with listener.accept() as connection:
            while True:
                try:
                    texts = connection.recv()
                except EOFError:
                    return
                start = time.perf_counter()
                predictor.answer(texts)
                connection.send(time.perf_counter() - start)


def connect(stack: ExitStack, bundle: str, core: int) -> Connection:
    """Start a server held to a core."""
    command = [sys.executable, __file__, "server", bundle, str(core)]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(1)))
    stack.callback(process.terminate)
    assert process.stdout is not None
    return stack.enter_context(Client(("127.0.0.1", int(process.stdout.readline()))))


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


def ways(servers: Sequence[Connection], texts: Any, draw: np.random.Generator) -> float:
    """Return the median seconds that an input takes beside being answered, where each arrives long after the last."""
    answered = offer(Fleet(1, 1, 0.0), np.arange(TURNS) * REST, servers, texts, draw)
    return float(np.median(np.subtract(answered["latencies"], answered["seconds"])))


def turnaround(servers: Sequence[Connection], texts: Any, draw: np.random.Generator) -> float:
    """Return the mean seconds that a batch of one costs a server beside answering it; two clients keep it busy."""
    found = load_closed(Cell(Fleet(1, 1, 0.0), clients=2), servers, texts, draw)
    return float(np.mean(found["latencies"]) / 2 - np.mean(found["seconds"]))


def load_openly(cell: Cell, servers: Sequence[Connection], texts: Any, draw: np.random.Generator) -> dict[str, Any]:
    """Offer Poisson arrivals, whatever becomes of those before."""
    assert cell.rate is not None
    arrivals = Load(cell.rate).arrivals(round(cell.rate * SECONDS), draw)
    return offer(cell.fleet, arrivals, servers, texts, draw)


def offer(
    fleet: Fleet, arrivals: Any, servers: Sequence[Connection], texts: Any, draw: np.random.Generator
) -> dict[str, Any]:
    """Offer inputs to a fleet at these times, in seconds from now."""
    order = draw.permutation(len(texts))
    pool = Pool(fleet, servers, [texts[row] for row in order])
    begin, late = time.perf_counter() + 0.05, []
    for moment in begin + arrivals:
        if (left := moment - time.perf_counter()) > 0:
            time.sleep(left)
        late.append(time.perf_counter() - moment)
        pool.offer(moment)
    pool.close()
    latencies = [pool.latencies[number] for number in range(len(arrivals))]
    return {
        "arrivals": arrivals.tolist(),
        "latencies": latencies,
        "seconds": pool.seconds,
        "late_p99": float(np.quantile(late, 0.99)),
    }


def load_closed(cell: Cell, servers: Sequence[Connection], texts: Any, draw: np.random.Generator) -> dict[str, Any]:
    """Let clients ask, each again as soon as it is answered."""
    assert cell.clients is not None
    order = draw.permutation(len(texts))
    pool = Pool(cell.fleet, servers, [texts[row] for row in order])
    begin = time.perf_counter()
    pool.until = begin + CLOSED_SECONDS
    for _ in range(cell.clients):
        pool.offer(begin)
    time.sleep(CLOSED_SECONDS)
    pool.close()
    return {"latencies": list(pool.latencies.values()), "seconds": pool.seconds}


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
    plan = [_cell(cell) for cell in json.loads(like.read_text())["cells"]] if like else None
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
    plan = [_cell(cell) for cell in slices[0]["cells"]]
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
        cell = _cell({key: row[key] for key in ("fleet", "rate", "clients")})
        row["planned_bare"] = foretell(cell, service_times(timed, cell.fleet, 0.0), 0.0)
    text = json.dumps(json.loads(json.dumps(whole), parse_float=lambda digits: round(float(digits), 9)), indent=1)
    write_atomically(RESULT, NUMBERS.sub(lambda part: " ".join(part[0].split()), text) + "\n")


def compare_open(
    cell: Cell, runs: Sequence[tuple[dict[str, Any], dict[str, Any]]], times: ServiceTimes, network: float
) -> dict[str, Any]:
    """Compare what passes showed with simulations of their arrivals in the times that they took, and with a plan.

    A pass is a pair of what it timed and what it showed. The machine is faster in one than in another; the plan, from
    the times of all, is for what it will be.
    """
    assert cell.rate is not None
    measured, errors = [], []
    for timing, run in runs:
        own = service_times([timing], cell.fleet, timing["turnaround"])
        replayed = replayed_latencies(cell.fleet, run["arrivals"], own, np.random.default_rng(SEED))
        measured.append(np.quantile(run["latencies"], QUANTILES))
        errors.append((np.quantile(replayed, QUANTILES) + timing["ways"] - timing["turnaround"]) / measured[-1] - 1)
    return {
        "inputs": sum(len(run["latencies"]) for _, run in runs),
        "late_p99": max(run["late_p99"] for _, run in runs),
        "measured": _by_name(measured),
        "error": _by_name(errors),
        "planned": foretell(cell, times, network),
        "busy": [_busy(run, timing["turnaround"]) / cell.fleet.servers for timing, run in runs],
    }


def foretell(cell: Cell, times: ServiceTimes, network: float) -> dict[str, Any]:
    """Plan as `theseus plan` does."""
    assert cell.rate is not None
    outlook = look_ahead(replications(times, Load(cell.rate), SEED), cell.fleet, network)
    return {"p50": outlook.p50.value, "p99": outlook.p99.value, "p99_interval": outlook.p99.interval}


def compare_closed(cell: Cell, runs: Sequence[dict[str, Any]], times: ServiceTimes) -> dict[str, Any]:
    """Compare a closed load with a simulation of as many clients."""
    assert cell.clients is not None
    levels = np.random.default_rng(SEED).integers(LEVELS, size=20_000)
    measured = np.concatenate([run["latencies"] for run in runs])
    simulated = serve_clients(cell.clients, levels.tolist(), times, cell.fleet)
    errors = np.quantile(simulated, QUANTILES) / np.quantile(measured, QUANTILES) - 1
    return {
        "inputs": measured.size,
        "measured": _quantiles(measured),
        "simulated": _quantiles(simulated),
        "error": dict(zip(NAMES, errors.tolist(), strict=True)),
    }


def replayed_latencies(fleet: Fleet, arrivals: list[float], times: ServiceTimes, draw: np.random.Generator) -> Array:
    """Simulate the same arrivals several times, with other draws of the service times."""
    seconds = times.seconds()
    return np.concatenate([
        settle(arrivals, draw.integers(LEVELS, size=len(arrivals)).tolist(), seconds, fleet).latencies
        for _ in range(DRAWS)
    ])  # fmt: skip


def serve_clients(clients: int, levels: list[int], times: ServiceTimes, fleet: Fleet) -> Array:
    """Simulate clients of which each asks again when it is answered, so that servers never pause for long.

    Whoever asks before the next batch starts was answered by a batch that started before, so all of them are known.
    """
    table = times.table().tolist()
    free, asking, latencies = [0.0] * fleet.servers, [0.0] * clients, list[float]()
    for level in levels:
        start = asking[0] + fleet.window
        if fleet.most <= clients:
            start = min(start, asking[fleet.most - 1])
        start = max(start, free[0])
        size = min(fleet.most, bisect_right(asking, start))
        end = start + table[size - 1][level]
        heapreplace(free, end)
        latencies += [end - moment for moment in asking[:size]]
        asking = sorted([*asking[size:], *[end] * size])
    return np.array(latencies)


def service_times(passes: Sequence[dict[str, Any]], fleet: Fleet, overhead: float) -> ServiceTimes:
    """Take the seconds of passes as the rounds of a benchmark; they are cut to equal numbers."""
    measured = {}
    for size in BATCHES:
        rounds = [one["seconds"][str(size)] for one in passes]
        measured[size] = np.array([samples[: min(map(len, rounds))] for samples in rounds])
    paced = []
    for load in zip(*(one["paced"] for one in passes), strict=True):
        samples, again = (tuple(np.concatenate([one[name] for one in load])) for name in ("samples", "again"))
        paced.append(Paced(float(np.mean([one["busy"] for one in load])), samples, again))
    return ServiceTimes(measured, fleet.most, paced, overhead)


def _busy(run: dict[str, Any], overhead: float) -> float:
    """Return how many servers had work, in the mean over the time in which inputs arrived."""
    return float(sum(run["seconds"]) + overhead * len(run["seconds"])) / float(run["arrivals"][-1])


def _by_name(passes: Sequence[Array]) -> dict[str, list[float]]:
    return dict(zip(NAMES, np.transpose(passes).tolist(), strict=True))


def _quantiles(latencies: Array) -> dict[str, float]:
    return dict(zip(NAMES, np.quantile(latencies, QUANTILES).tolist(), strict=True))


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


def _cell(data: dict[str, Any]) -> Cell:
    return Cell(**{**data, "fleet": Fleet(**data["fleet"])})


def main() -> None:
    """Do one of the steps, or be a server of the second."""
    parser = ArgumentParser()
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("make").add_argument("bundle", type=Path)
    server = steps.add_parser("server")
    server.add_argument("bundle")
    server.add_argument("core", type=int)
    one = steps.add_parser("measure")
    one.add_argument("bundle")
    one.add_argument("slice", type=Path)
    one.add_argument("--like", type=Path)
    steps.add_parser("report").add_argument("slices", type=Path, nargs="+")
    steps.add_parser("again")
    asked = parser.parse_args()
    if asked.step == "make":
        make(asked.bundle)
    elif asked.step == "server":
        serve_here(asked.bundle, asked.core)
    elif asked.step == "measure":
        measure(asked.bundle, asked.slice, asked.like)
    elif asked.step == "again":
        save(json.loads(RESULT.read_text("utf-8")))
    else:
        report(asked.slices)


if __name__ == "__main__":
    main()
