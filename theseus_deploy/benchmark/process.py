"""The parent's hold on a worker: start it, ask it, and end it whatever happens."""

import json
import os
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any, Self

from theseus_deploy import errors
from theseus_deploy.disk import temporary
from theseus_deploy.errors import ModelError, TheseusError

# Every library that keeps a thread pool of its own, told before it is imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
COMMAND = (sys.executable, "-P", "-m", "theseus_deploy.benchmark.worker")
TAIL_LINES = 3
KILLED = 9  # the signal by which a kernel that lacks memory ends a process
PATIENCE = 5.0  # seconds for a process to go when told to


class Worker:
    """A worker process of one candidate; `started` is when, on the clock of `time.perf_counter`."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        with temporary():
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=environment(threads)
        )

    @property
    def pid(self) -> int:
        """Return the process's id."""
        return self._process.pid

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            TheseusError: the worker found the request wrong (its own class), or died (ModelError, with its last words).
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise ModelError(self._epitaph(command))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind: type[TheseusError] = getattr(errors, answer["error"])
            raise kind(f"{self.name}: {answer['message']}")
        return answer

    def close(self) -> None:
        """End the process, asleep or at work."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:  # a request that the worker never read
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _epitaph(self, command: str) -> str:
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = 0
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        words = " | ".join(line.strip() for line in lines[-TAIL_LINES:]) or "it said nothing"
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        perhaps = "for want of memory perhaps: measure fewer at once, or " if code == -KILLED else ""
        return f"{self.name}: its process died at `{command}` ({how}): {words}; {perhaps}repeat the command"


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker: the same number of threads for every library, and no network."""
    return {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "HF_HUB_OFFLINE": "1",  # everything was found on this disk before
        "PYTHONUNBUFFERED": "1",
    }
