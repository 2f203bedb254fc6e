"""One candidate in one process: `python -m theseus_deploy.benchmark.worker`. JSON lines in on stdin, out on stdout.

A request is `{"command": name, ...arguments}`, its answer one object. A request that is wrong is answered with
`{"error": class, "message": text}`; anything else that goes wrong is a traceback on stderr and the end of the process.
"""

import base64
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import psutil

from theseus_deploy.benchmark.runtimes import RUNTIMES, Encoded, Session, Texts
from theseus_deploy.errors import TheseusError

STEADY = 0.05  # warm-up is over when two passes over the same inputs differ by no more
SETTLE = 0.01  # seconds: another process has had the caches
SETTLE_THREADS = 0.1  # and its pool may still be spinning for work, on cores that ours needs
# The last core first: programs that place themselves mostly begin with the first.
CORES = sorted(os.sched_getaffinity(0), reverse=True) if hasattr(os, "sched_getaffinity") else []
MIN_PASSES = 3
MIN_CALLS = 3


class Bench:
    """The candidate of this process, and what can be asked of it."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._threads = 1

    @property
    def session(self) -> Session:
        """Return the loaded candidate."""
        if self._session is None:
            raise TheseusError("nothing is loaded yet; ask for `load` first")
        return self._session

    def load(self, runtime: str, threads: int, **arguments: Any) -> dict[str, Any]:
        """Load the candidate; it is ready when the answer comes."""
        self._session, self._threads = RUNTIMES[runtime].load(threads=threads, **arguments), threads
        return {"parameters": self._session.parameters}

    def warm(self, batches: list[list[list[str]]], sequence: int | None, seconds: float) -> dict[str, Any]:
        """Run over the batches until two passes take the same time, or the seconds are over; answer with s/batch.

        Then the threads that did the work get a core each, whatever the runtime.
        """
        with one_core_each(self._threads):
            return self._warm(batches, sequence, seconds)

    def _warm(self, batches: list[list[list[str]]], sequence: int | None, seconds: float) -> dict[str, Any]:
        calls, paces = self._calls(batches, sequence), list[float]()
        end = time.perf_counter() + seconds
        while True:
            taken = list[float]()
            for call in calls:
                taken.append(_timed(call))
                if late := time.perf_counter() > end and len(taken) + len(paces) >= MIN_CALLS:
                    break
            paces.append(sum(taken) / len(taken))
            if late or (len(paces) >= MIN_PASSES and abs(paces[-1] / paces[-2] - 1) <= STEADY):
                return {"seconds": paces[-1]}

    def time(self, batches: list[list[list[str]]], sequence: int | None) -> dict[str, Any]:
        """Time each batch, after running the first untimed for a moment: another process has had the machine."""
        calls = self._calls(batches, sequence)
        end = time.perf_counter() + (SETTLE_THREADS if self._threads > 1 else SETTLE)
        calls[0]()
        while time.perf_counter() < end:
            calls[0]()
        return {"seconds": [_timed(call) for call in calls]}

    def pace(self, batches: list[list[list[str]]], arrivals: list[float]) -> dict[str, Any]:
        """Time batches that arrive at these seconds from now, in turn, and then again without pauses.

        `busy` is the share of the time, until the last of them was done, in which there was work.
        """
        calls, taken = self._calls(batches, sequence=None), list[float]()
        start = time.perf_counter()
        for call, arrival in zip(calls, arrivals, strict=True):
            time.sleep(max(0.0, start + arrival - time.perf_counter()))
            taken.append(_timed(call))
        busy = sum(taken) / (time.perf_counter() - start)
        return {"seconds": taken, "busy": busy, "again": [_timed(call) for call in calls]}

    def score(self, batches: list[list[list[str]]]) -> dict[str, Any]:
        """Answer with the logits of all inputs in order, each with as many rows as it has items: float32, base64."""
        answers = [answer for batch in batches for answer in self.session.answer(_tuples(batch))]
        logits = np.concatenate(answers).astype("<f4")
        return {
            "items": [len(answer) for answer in answers],
            "columns": logits.shape[1],
            "logits": base64.b64encode(logits.tobytes()).decode(),
        }

    def memory(self) -> dict[str, Any]:
        """Answer with the most memory this process has held, in bytes."""
        return {"peak_rss_bytes": peak_rss()}

    def _calls(self, batches: list[list[list[str]]], sequence: int | None) -> list[Callable[[], object]]:
        if sequence is None:
            return [partial(self.session.answer, _tuples(batch)) for batch in batches]
        return [partial(self.session.run, pack(self.session.encode(_tuples(batch)), sequence)) for batch in batches]


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "load": Bench.load,
    "warm": Bench.warm,
    "time": Bench.time,
    "pace": Bench.pace,
    "score": Bench.score,
    "memory": Bench.memory,
}


@contextmanager
def one_core_each(threads: int) -> Iterator[None]:
    """Give each of the threads that are busiest inside a core of its own afterwards; inside, all may use all cores.

    A pool that sleeps between two turns may wake with two threads on one core, and calls take up to twice as long until
    the kernel moves one: measured, for seconds. Two processes with a thread each, on different cores, differ by what
    else these cores have to do: equals by 4 to 5 %, measured, against less than 1 % where all use the same core.
    Threads that are made later would inherit their maker's one core, so whatever makes threads should happen inside.
    Only Linux lets threads be placed.
    """
    if len(CORES) < threads:
        yield
        return
    process = psutil.Process()
    before = {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
    for thread in before:
        _place(thread, CORES)
    yield
    used = {
        thread.id: thread.user_time + thread.system_time - before.get(thread.id, 0.0) for thread in process.threads()
    }
    for core, thread in zip(CORES, sorted(used, key=lambda thread: -used[thread])[:threads], strict=False):
        _place(thread, [core])


def pack(encoded: Encoded, sequence: int) -> Encoded:
    """Make a batch of full rows, `sequence` tokens each, out of the tokens of a padded one: real ids, no padding."""
    real = encoded["attention_mask"] == 1
    rows = len(real)
    packed = {name: np.resize(values[real], (rows, sequence)) for name, values in encoded.items()}
    return {**packed, "attention_mask": np.ones((rows, sequence), dtype=encoded["attention_mask"].dtype)}


def peak_rss() -> int:
    """Return the most memory this process has held, in bytes.

    Linux carries `ru_maxrss` over from the parent through fork and exec, so the process's own high-water mark is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    bench = Bench()
    for line in requests:
        request = json.loads(line)
        try:
            answer = COMMANDS[request.pop("command")](bench, **request)
        except TheseusError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Keep stdout for answers alone: what a library prints goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        serve(sys.stdin, answers)


def _place(thread: int, cores: Sequence[int]) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.sched_setaffinity(thread, cores)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _tuples(batch: Sequence[Sequence[str]]) -> Texts:
    return [tuple(texts) for texts in batch]


if __name__ == "__main__":
    main()
