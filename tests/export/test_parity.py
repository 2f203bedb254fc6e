import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.conftest import make_rows, make_tokenizer
from theseus_deploy.artifact import Artifact
from theseus_deploy.configs import ExportConfig
from theseus_deploy.errors import ExportError
from theseus_deploy.export.parity import (
    MIXED,
    Answer,
    Parity,
    _batches,
    _by_length,
    ask,
    builtin_texts,
    checkpoint_answer,
    choose_texts,
    compare,
    probe_texts,
)
from theseus_deploy.export.stage import export_checkpoint
from theseus_deploy.predictor import Predictor
from theseus_deploy.tasks import Task

NUMBER = Task("regression", (), ("text",), "label")
TAGS = Task("tokens", ("O", "B-x"), ("tokens",), "tags")
MANY = Task("multi-label", ("a", "b", "c"), ("text",), "labels")
TEXTS = choose_texts([(text,) for text, _ in make_rows(40, seed=5)], NUMBER)


@pytest.fixture(scope="module")
def checkpoint(tiny_bert: Path, fp32_bundle: Path) -> Answer:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert).eval()
    return checkpoint_answer(model, make_tokenizer(), Artifact.open(fp32_bundle).manifest.task)


def parity_of(bundle: Path, checkpoint: Answer) -> Parity:
    predictor = Predictor(bundle, threads=1)
    return compare(ask(checkpoint, TEXTS), ask(predictor.answer, TEXTS), TEXTS, predictor.task)


@pytest.fixture
def tampered(fp32_bundle: Path, tmp_path: Path) -> Callable[[float], Path]:
    """A copy of the bundle in which one number of the head is another."""

    def tamper(value: float) -> Path:
        folder = shutil.copytree(fp32_bundle, tmp_path / "tampered")
        model = onnx.load(folder / "model.onnx")
        head = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.weight")
        weights = onnx.numpy_helper.to_array(head).copy()
        weights[0, 0] = value
        head.CopyFrom(onnx.numpy_helper.from_array(weights, head.name))
        onnx.save(model, folder / "model.onnx")
        return folder

    return tamper


def test_the_graph_answers_as_the_checkpoint_does(fp32_bundle: Path, checkpoint: Answer) -> None:
    parity = parity_of(fp32_bundle, checkpoint)
    assert parity.max_abs_diff < 1e-5
    assert parity.label_agreement == 1.0
    assert parity.texts == 256
    parity.require(1e-5)


def test_a_graph_that_answers_otherwise_is_refused_with_the_difference_the_limit_and_the_text(
    tampered: Callable[[float], Path], checkpoint: Answer
) -> None:
    parity = parity_of(tampered(3.0), checkpoint)
    assert parity.worst in TEXTS
    with pytest.raises(ExportError) as failure:
        parity.require(1e-4)
    message = str(failure.value)
    assert f"{parity.max_abs_diff:.3g}" in message
    assert "--atol 0.0001" in message
    assert parity.worst[0][:40] in message
    assert "\n" not in message


def test_a_graph_that_answers_with_no_number_is_refused(tampered: Callable[[float], Path], checkpoint: Answer) -> None:
    with pytest.raises(ExportError, match=r"the graph answers .* no finite number"):
        parity_of(tampered(float("nan")), checkpoint)


def test_the_text_named_is_the_one_whose_answer_differs() -> None:
    texts = [("one",), ("two",), ("three",)]
    expected = ask(lambda batch: [np.zeros((1, 1)) for _ in batch], texts)
    answered = ask(lambda batch: [np.array([[0.5 if text == ("two",) else 0.1]]) for text in batch], texts)
    assert compare(expected, answered, texts, NUMBER) == Parity(0.5, None, 3, ("two",))


def test_words_are_compared_one_by_one_and_those_that_were_cut_off_agree_on_nothing() -> None:
    texts = [("a", "b", "cut"), (), ("c",)]
    logits = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.3, 0.0], "cut": [0.0, 0.0]}
    changed = {**logits, "c": [0.3, 0.4]}

    def answering(known: dict[str, list[float]]) -> Answer:
        return lambda batch: [np.array([known[word] for word in words]).reshape(-1, 2) for words in batch]

    parity = compare(ask(answering(logits), texts), ask(answering(changed), texts), texts, TAGS)
    assert parity == Parity(0.4, 2 * 2 / (2 * 3), 3, ("c",))
    with pytest.raises(ExportError, match=r"by 0\.4, more than --atol 0\.0001, worst on the text 'c'"):
        parity.require(1e-4)


def test_of_many_labels_all_must_agree() -> None:
    texts = [("one",), ("two",)]
    expected = ask(lambda batch: [np.array([[1.0, -1.0, -1.0]]) for _ in batch], texts)
    answered = ask(lambda batch: [np.array([[1.0, -1.0, 0.1 if text == ("two",) else -1.0]]) for text in batch], texts)
    assert compare(expected, answered, texts, MANY).label_agreement == 0.5


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_checkpoint_is_asked_on_the_side_that_is_named(side: str) -> None:
    tokenizer, seen = make_tokenizer(), []

    class Echo(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            seen.append(attention_mask.tolist())
            return SimpleNamespace(logits=input_ids[..., None].float().repeat(1, 1, 2))

    answers = checkpoint_answer(Echo(), tokenizer, TAGS, side)([("good", "", "film"), ("bad",)])
    assert seen == [[[1, 1, 1, 1], [1, 1, 1, 0] if side == "right" else [0, 1, 1, 1]]]
    assert [items[:, 0].tolist() for items in answers] == [[5, 0, 16], [10]]


@pytest.mark.thorough
def test_when_parity_fails_nothing_is_written(shallow_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="more than --atol 1e-12"):
        export_checkpoint(str(shallow_bert), tmp_path / "bundle", ExportConfig(atol=1e-12, threads=1))
    assert not list(tmp_path.iterdir())


def test_each_text_is_asked_in_a_padded_batch_and_some_alone_the_shortest_and_longest_among_them() -> None:
    batches: list[list[tuple[str, ...]]] = []

    def answer(texts: Sequence[tuple[str, ...]]) -> list[np.ndarray]:
        batches.append(list(texts))
        return [np.array([[len(text[0])]], np.float32) for text in texts]

    texts = [("x" * length,) for length in range(300, 0, -1)]
    answers = ask(answer, texts)
    together = [text for batch in batches if len(batch) > 1 for text in batch]
    alone = [batch[0] for batch in batches if len(batch) == 1]
    assert sorted(together) == sorted(texts)
    assert {("x",), ("x" * 300,)} <= set(alone)
    spreads = [max(lengths) - min(lengths) for batch in batches if len(lengths := [len(text[0]) for text in batch]) > 1]
    assert sorted(spread > 250 for spread in spreads) == [False] * 17 + [True] * 2  # much padding, and little
    assert max(spread for spread in spreads if spread <= 250) < 25
    assert np.concatenate(answers)[:, 0].tolist() == [len(text[0]) for text in [*texts, *alone]]


def test_of_many_texts_256_are_chosen_from_the_shortest_to_the_longest() -> None:
    texts = [("x" * length,) for length in range(1000)]
    chosen = choose_texts(texts, NUMBER)
    assert (len(chosen), len(set(chosen) & set(texts))) == (256, 254)
    assert {texts[0], texts[-1]} <= set(chosen)


@pytest.mark.parametrize(("task", "text"), [(NUMBER, ("a b c d " * 99,)), (TAGS, ("a", "b", "c", "d") * 99)])
def test_of_documents_that_are_all_cut_off_some_are_shortened_so_that_others_are_padded(
    task: Task, text: tuple[str, ...]
) -> None:
    chosen = choose_texts([text] * 300, task)
    mixed = _batches(_by_length(chosen))[:MIXED]
    assert [len({chosen[row] for row in batch}) for batch in mixed] == [2, 2]
    assert chosen[0] in (("a b c",), ("a", "b", "c"))


@pytest.mark.parametrize("columns", [1, 2])
def test_few_texts_are_joined_by_our_own(columns: int) -> None:
    given = [("mine",) * columns]
    chosen = choose_texts(given, replace(NUMBER, text=("text",) * columns))
    assert chosen[0] == given[0]
    assert len(chosen) == 256
    assert {len(text) for text in chosen} == {columns}


def test_our_own_texts_are_of_every_length_and_always_the_same() -> None:
    texts = builtin_texts(NUMBER)
    assert texts == builtin_texts(NUMBER)
    assert len(texts) == 256
    assert ("",) in texts
    assert ("👍",) in texts
    assert max(len(text.split()) for (text,) in texts) == 600


def test_our_own_texts_come_as_words_where_words_are_tagged() -> None:
    texts = builtin_texts(TAGS)
    assert [" ".join(words) for words in texts if words[0].strip()] == [
        " ".join(text.split()) for (text,) in builtin_texts(NUMBER) if text.strip()
    ]
    assert ("",) in texts
    assert max(map(len, texts)) == 600
    mine = [("my", "own", "words")]
    assert choose_texts(mine, TAGS) == [*mine, *texts[:255]]


@pytest.mark.parametrize("task", [NUMBER, TAGS])
def test_a_probe_is_of_our_own_texts_from_none_to_long_and_not_too_many_words(task: Task) -> None:
    texts = probe_texts(task)
    assert len(texts) == 12
    assert texts[0] == ("",)
    longest = max(len(text) if task is TAGS else len(text[0].split()) for text in texts)
    assert longest == (100 if task is TAGS else 600)
