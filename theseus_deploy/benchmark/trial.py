"""Everyone in a process of their own: what is timed, counted and answered there, from the first start to the last."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from theseus_deploy.benchmark.accuracy import logits_of
from theseus_deploy.benchmark.contender import Contender
from theseus_deploy.benchmark.latency import CONTROL, Limits, Timings, measure, measure_paced, shapes
from theseus_deploy.benchmark.noise import neighbours, snapshot
from theseus_deploy.benchmark.process import Worker
from theseus_deploy.benchmark.report import Paced, Shape
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.progress import Progress
from theseus_deploy.splits import Split
from theseus_deploy.tasks import Array

PACED_SHARE = 0.1  # of the time for all timing: how fast a process is that has pauses
UNJUDGED: Limits = {}
FIRST_SHAPE = 2.0  # its share of the time in shares of another shape's: gates are decided there


@dataclass(frozen=True)
class Measured:
    """What the workers answered: the times of each shape, and by worker those after pauses, load, memory and logits.

    `sweep` has the times of the first shape by the number of threads, `others` what was busy beside the workers.
    """

    timings: list[Timings]
    sweep: dict[int, Timings]
    others: dict[str, Any]
    paced: dict[str, tuple[Paced, ...]]
    loaded: dict[str, dict[str, Any]]
    memory: dict[str, int]
    logits: dict[str, Array]


@dataclass(frozen=True)
class Trial:
    """Everything that is measured of some contenders, the baseline first, on the rows of a split."""

    contenders: Sequence[Contender]
    split: Split
    config: BenchmarkConfig
    threads: int
    progress: Progress

    def measure(self, limits: Limits) -> Measured:
        """Start all contenders, time them and ask them every row, and end them; the limits are for the first shape.

        Raises:
            ModelError: a process that died.
        """
        config, todo = self.config, shapes(self.config)
        swept = [count for count in sorted(set(config.threads_sweep)) if count != self.threads]
        budget = _Budget(config.max_seconds * (1 - PACED_SHARE), [FIRST_SHAPE] + [1.0] * (len(todo) - 1 + len(swept)))
        with ExitStack() as stack:
            # The control comes first: it reads every shared library from the disk, so that no load time pays for that.
            control, _ = self._start(stack, replace(self.contenders[0], name=CONTROL), self.threads)
            started = [self._start(stack, contender, self.threads) for contender in self.contenders]
            workers = [worker for worker, _ in started]
            before = snapshot()
            timings = [self._time([*workers, control], todo[0], budget, limits)]
            control.close()
            timings += [self._time(workers, shape, budget) for shape in todo[1:]]
            others = neighbours(before, snapshot())
            each = config.max_seconds * PACED_SHARE / len(workers)
            paced = {worker.name: measure_paced(worker, self.split, config.seed, each) for worker in workers}
            loaded = {worker.name: answer for worker, answer in started}
            memory = {worker.name: int(worker.ask("memory")["peak_rss_bytes"]) for worker in workers}
            logits = {worker.name: logits_of(worker, self.split, self.progress) for worker in workers}
        sweep = {count: self._sweep(count, todo[0], budget) for count in swept}
        if config.threads_sweep:
            sweep[self.threads] = timings[0]
        return Measured(timings, dict(sorted(sweep.items())), others, paced, loaded, memory, logits)

    def _start(self, stack: ExitStack, contender: Contender, threads: int) -> tuple[Worker, dict[str, Any]]:
        self.progress.say(f"Loading {contender.name} in a process of its own")
        worker = stack.enter_context(Worker(contender.name, threads))
        loaded = worker.ask(
            "load",
            runtime=contender.runtime,
            path=str(contender.path),
            ref=contender.ref,
            max_length=contender.task.max_length,
            threads=threads,
            device=contender.device,
            precision=contender.precision,
            cuda_graphs=self.config.cuda_graphs,
        )
        ready = time.perf_counter()
        worker.ask("score", batches=[[self.split.texts[0]]])
        answered = time.perf_counter()
        return worker, {
            **loaded, "load_seconds": ready - worker.started, "first_answer_seconds": answered - worker.started
        }  # fmt: skip

    def _time(self, workers: Sequence[Worker], shape: Shape, budget: "_Budget", limits: Limits = UNJUDGED) -> Timings:
        """Time one shape, in its share of the time."""
        with budget.share() as seconds:
            return measure(workers, workers[0].name, shape, self.split, self.config, seconds, limits, self.progress)

    def _sweep(self, threads: int, shape: Shape, budget: "_Budget") -> Timings:
        """Time one shape in new processes of so many threads: thread pools take their size when they are made."""
        self.progress.say(f"{threads} thread{'s' * (threads != 1)}")
        with ExitStack() as stack:
            return self._time([self._start(stack, one, threads)[0] for one in self.contenders], shape, budget)


class _Budget:
    """The seconds for all timing, dealt out by weight: what one measurement leaves, the later ones share."""

    def __init__(self, seconds: float, weights: Sequence[float]) -> None:
        self._left, self._weights = seconds, list(weights)

    @contextmanager
    def share(self) -> Iterator[float]:
        """Give the next measurement its seconds, and count what it takes."""
        start = time.perf_counter()
        yield max(1.0, self._left) * self._weights[0] / sum(self._weights)
        self._left -= time.perf_counter() - start
        self._weights.pop(0)
