"""A fleet as `theseus plan` knows it, for real: predictor processes on loopback, a queue, a balancer, and its loads.

Run as a script, it is one server of it: `plan_fleet.py BUNDLE CORE`.
"""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Client, Connection, Listener
from threading import Condition, Thread
from typing import Any

import numpy as np

from theseus_deploy.benchmark.process import environment
from theseus_deploy.plan.arrivals import Load
from theseus_deploy.plan.simulation import Fleet

SECONDS, CLOSED_SECONDS = 10.0, 1.0  # of an open load, and of a closed one
TURNS, REST = 200, 0.02  # of single inputs, and seconds from one to the next


@dataclass(frozen=True)
class Cell:
    """A fleet under a load: open at `rate` inputs a second, which is `load` of its capacity, or closed by clients."""

    fleet: Fleet
    load: float | None = None
    rate: float | None = None
    clients: int | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Cell":
        """Read what `asdict` wrote."""
        return cls(**{**data, "fleet": Fleet(**data["fleet"])})


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


def serve(bundle: str, core: int) -> None:
    """Be a server held to a core: answer batches until the connection ends, each with the seconds it took."""
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
    command = [sys.executable, __file__, bundle, str(core)]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(1)))
    stack.callback(process.terminate)
    assert process.stdout is not None
    return stack.enter_context(Client(("127.0.0.1", int(process.stdout.readline()))))


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


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
