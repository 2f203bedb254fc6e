"""Real workers: what they answer, how they die, and that they are gone afterwards."""

import base64
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from theseus_deploy.benchmark.process import THREAD_VARIABLES, Worker, environment
from theseus_deploy.benchmark.worker import CORES, pack, peak_rss
from theseus_deploy.errors import ModelError, TheseusError
from theseus_deploy.predictor import Predictor

BATCHES = [[["the good film"], ["a very long and awful story"]], [["fine"], ["sad end"]]]


def load(worker: Worker, path: Path, runtime: str, max_length: int = 32) -> dict[str, object]:
    return worker.ask("load", runtime=runtime, path=str(path), ref="it", max_length=max_length, threads=1, device="cpu")


@pytest.fixture(scope="module")
def onnx_worker(fp32_bundle: Path) -> Iterator[Worker]:
    with Worker("bundle", threads=1) as worker:
        load(worker, fp32_bundle, "onnxruntime")
        yield worker


def test_a_worker_answers_as_the_predictor_does(onnx_worker: Worker, fp32_bundle: Path) -> None:
    answer = onnx_worker.ask("score", batches=BATCHES)
    logits = np.frombuffer(base64.b64decode(answer["logits"]), "<f4").reshape(-1, answer["columns"])
    texts = [text for batch in BATCHES for (text,) in batch]
    np.testing.assert_allclose(logits, Predictor(fp32_bundle, threads=1).logits(texts), atol=1e-5)


@pytest.mark.thorough
def test_a_worker_answers_each_input_with_as_many_rows_as_it_has_words(family: Callable[[str, str], Path]) -> None:
    batches = [[["Anna", "lives", "there"], ["in"]], [["Empire"] * 100, [], ["New", "York"]]]
    rows = [words for batch in batches for words in batch]
    folder, found = family("roberta", "tokens"), []
    for runtime, part in [("torch", "checkpoint"), ("onnxruntime", "bundle")]:
        with Worker(runtime, threads=1) as worker:
            load(worker, folder / part, runtime, max_length=62)
            answer = worker.ask("score", batches=batches)
            assert worker.ask("time", batches=batches, sequence=None)["seconds"][0] > 0
            assert worker.ask("time", batches=batches, sequence=16)["seconds"][0] > 0
        assert answer["items"] == [len(words) for words in rows]
        found.append(np.frombuffer(base64.b64decode(answer["logits"]), "<f4").reshape(-1, answer["columns"]))
    np.testing.assert_allclose(*found, atol=1e-5)
    assert len(found[0]) == 106
    assert not found[0][4:104].any(axis=1).all()  # of a hundred words some were cut off
    np.testing.assert_allclose(found[1], Predictor(folder / "bundle", threads=1).logits(rows), atol=1e-5)


@pytest.mark.parametrize("sequence", [None, 16])
def test_a_worker_times_each_batch(onnx_worker: Worker, sequence: int | None) -> None:
    assert onnx_worker.ask("warm", batches=BATCHES, sequence=sequence, seconds=0.1)["seconds"] > 0
    seconds = onnx_worker.ask("time", batches=BATCHES, sequence=sequence)["seconds"]
    assert len(seconds) == len(BATCHES)
    assert min(seconds) > 0


def test_a_worker_times_batches_as_they_arrive_and_again(onnx_worker: Worker) -> None:
    arrivals = [0.2 * place for place in range(1, len(BATCHES) + 1)]
    answer = onnx_worker.ask("pace", batches=BATCHES, arrivals=arrivals)
    assert len(answer["seconds"]) == len(answer["again"]) == len(BATCHES)
    assert 0 < min(answer["seconds"]) < 0.2  # the pause is not counted
    assert answer["busy"] == pytest.approx(sum(answer["seconds"]) / arrivals[-1], rel=0.5)
    assert answer["busy"] < onnx_worker.ask("pace", batches=BATCHES, arrivals=[0.0] * len(BATCHES))["busy"] <= 1


def test_memory_is_the_workers_own(onnx_worker: Worker) -> None:
    own = onnx_worker.ask("memory")["peak_rss_bytes"]
    assert own > 10e6
    assert own < peak_rss()  # this process holds torch, and a forked child would inherit its `ru_maxrss`


@pytest.mark.thorough
def test_a_checkpoint_without_a_trained_head_is_refused(encoder_only: Path) -> None:
    with (
        Worker("encoder", threads=1) as worker,
        pytest.raises(ModelError, match=r"encoder: it has no trained weights for .*theseus finetune"),
    ):
        load(worker, encoder_only, "torch")


def test_a_request_too_early_is_refused() -> None:
    with Worker("early", threads=1) as worker, pytest.raises(TheseusError, match="early: nothing is loaded yet"):
        worker.ask("time", batches=BATCHES, sequence=None)


def test_a_worker_that_is_killed_is_reported(fp32_bundle: Path) -> None:
    with Worker("victim", threads=1) as worker:
        load(worker, fp32_bundle, "onnxruntime")
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(
            ModelError, match=r"victim: its process died at `score` .killed by signal 9.*measure fewer at"
        ):
            worker.ask("score", batches=BATCHES)


def test_a_worker_that_fails_is_reported_with_its_last_words(fp32_bundle: Path) -> None:
    with Worker("clumsy", threads=1) as worker:
        load(worker, fp32_bundle, "onnxruntime")
        with pytest.raises(ModelError, match=r"clumsy: its process died at `time` .exit code 1.*onnxruntime") as caught:
            worker.ask("time", batches=BATCHES, sequence=1000)  # more than the model has positions
        assert "\n" not in str(caught.value)


def test_no_worker_outlives_an_error() -> None:
    def interrupted() -> None:
        with Worker("orphan", threads=1) as worker:
            started.append(worker.pid)
            raise KeyboardInterrupt

    started: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not psutil.pid_exists(started[0])


def test_threads_are_told_to_the_child_alone() -> None:
    before = dict(os.environ)
    assert {environment(3)[name] for name in THREAD_VARIABLES} == {"3"}
    assert dict(os.environ) == before


def test_packed_rows_are_full_of_real_tokens() -> None:
    encoded = {
        "input_ids": np.array([[2, 7, 3, 0], [2, 8, 9, 3]]),
        "attention_mask": np.array([[1, 1, 1, 0], [1, 1, 1, 1]]),
        "token_type_ids": np.zeros((2, 4), dtype=np.int64),
    }
    packed = pack(encoded, 5)
    assert packed["input_ids"].tolist() == [[2, 7, 3, 2, 8], [9, 3, 2, 7, 3]]
    assert packed["attention_mask"].tolist() == [[1] * 5] * 2
    assert packed["token_type_ids"].shape == (2, 5)


@pytest.mark.skipif(len(CORES) < 2, reason="threads can be placed on Linux alone, and apart on two cores")
@pytest.mark.parametrize(("threads", "placed"), [(1, 1), (2, 2)])
def test_working_threads_get_a_core_each(fp32_bundle: Path, threads: int, placed: int) -> None:
    with Worker("bundle", threads) as worker:
        worker.ask(
            "load", runtime="onnxruntime", path=str(fp32_bundle), ref="it", max_length=32, threads=threads, device="cpu"
        )
        for _ in range(2):  # the second time begins where the first has ended
            worker.ask("warm", batches=BATCHES, sequence=None, seconds=0.3)
        found = [os.sched_getaffinity(thread.id) for thread in psutil.Process(worker.pid).threads()]
        alone = [cores for cores in found if len(cores) == 1]
        assert sorted(alone, key=min) == [{core} for core in sorted(CORES[:placed])]
