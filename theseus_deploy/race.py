"""Time the bundles that an export tries, under the benchmark's rule: one process each, rounds interleaved.

Stages do not know each other, so whoever calls `export_checkpoint` gives it this.
"""

from collections.abc import Mapping
from contextlib import ExitStack

from theseus_deploy.benchmark.latency import measure, summarise
from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import Shape
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.export.quantize.tournament import Racer, Speed
from theseus_deploy.machine import usable_cores
from theseus_deploy.progress import Progress
from theseus_deploy.splits import Split

SHAPE = Shape(1, "data")  # what production pays, tokenisation included, as in the benchmark's first shape


def race(
    racers: Mapping[str, Racer], split: Split, max_length: int, config: BenchmarkConfig, progress: Progress
) -> dict[str, Speed]:
    """Time all racers on the rows of a split until their ratios to the first are known, or `max_seconds` are over.

    Raises:
        ModelError: a process died, or a runtime cannot run the graph.
    """
    threads, baseline = config.threads or usable_cores(), next(iter(racers))
    with ExitStack() as stack:
        workers = []
        for name, racer in racers.items():
            worker = stack.enter_context(Worker(name, threads))
            worker.ask(
                "load", runtime=racer.runtime, path=str(racer.folder), ref=name, max_length=max_length,
                threads=threads, device="cpu",
            )  # fmt: skip
            workers.append(worker)
        timings = measure(workers, baseline, SHAPE, split, config, config.max_seconds, {}, progress)
    found = {name: summarise(timings, name, baseline, config.seed) for name in racers}
    return {name: Speed(one.p50, one.ratio.p50, one.ratio.interval) for name, one in found.items()}
