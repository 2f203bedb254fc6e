"""Every runtime answers as the others do, for a text, for its labels and for each of its words."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.families import write_rows
from theseus_deploy.benchmark.runtimes import RUNTIMES
from theseus_deploy.data import open_data
from theseus_deploy.models.checkpoint import open_checkpoint


def test_openvino_answers_as_onnxruntime_does(fp32_bundle: Path, corpus: Path) -> None:
    pytest.importorskip("openvino")
    texts = open_data(str(corpus)).splits["test"].texts[:16]
    sessions = [
        RUNTIMES[name].load(path=str(fp32_bundle), ref="it", max_length=64, threads=1, device="cpu")
        for name in ("onnxruntime", "openvino")
    ]
    logits = [session.run(session.encode(texts)) for session in sessions]
    np.testing.assert_allclose(*logits, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tokens", "multi-label"])
def test_all_runtimes_answer_alike_for_every_item(
    family: Callable[[str, str], Path], tmp_path: Path, kind: str
) -> None:
    folder, data = family("bert", kind), write_rows(kind, tmp_path / "rows.jsonl")
    texts = open_data(str(data), task=open_checkpoint(str(folder / "checkpoint")).task).for_scoring().texts[:16]
    available = ["torch", "onnxruntime", *(["openvino"] if find_spec("openvino") else [])]
    answers = []
    for name in available:
        path = folder / RUNTIMES[name].kind
        session = RUNTIMES[name].load(path=str(path), ref="it", max_length=64, threads=1, device="cpu")
        answers.append(session.answer(texts))
    for row, words in enumerate(texts):
        items = [answer[row] for answer in answers]
        assert {len(item) for item in items} == {len(words) if kind == "tokens" else 1}
        for item in items[1:]:
            np.testing.assert_allclose(item, items[0], atol=1e-4)
