import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.conftest import make_rows
from tests.families import SENTENCES
from theseus_deploy.errors import ArtifactError, ConfigError, DataError, ModelError
from theseus_deploy.machine import this_machine
from theseus_deploy.predictor import Predictor
from theseus_deploy.tables.read import read_tables

TEXTS = ["", *(text for text, _ in make_rows(45, seed=11)), "good " * 200, "🤷"]


@pytest.fixture(scope="module")
def predictor(fp32_bundle: Path) -> Predictor:
    return Predictor(fp32_bundle, threads=1)


def expected_logits(checkpoint: Path, columns: Sequence[Sequence[str]], max_length: int) -> np.ndarray:
    """Each input alone through torch and transformers, so that nothing is padded."""
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
    )
    model.eval()
    rows = []
    for row in zip(*columns, strict=True):
        encoded = tokenizer(*row, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            rows.append(model(**encoded).logits[0].numpy())
    return np.array(rows)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_it_answers_as_the_checkpoint_does_in_the_order_of_the_question(
    predictor: Predictor, tiny_bert: Path, batch_size: int
) -> None:
    expected = expected_logits(tiny_bert, [TEXTS], predictor.task.max_length)
    np.testing.assert_allclose(predictor.logits(TEXTS, batch_size), expected, atol=1e-5)


def test_int8_mostly_agrees_with_the_checkpoint(int8_bundle: Path, tiny_bert: Path) -> None:
    answered = Predictor(int8_bundle, threads=1).logits(TEXTS)
    expected = expected_logits(tiny_bert, [TEXTS], 64)
    assert 0 < np.abs(answered - expected).max() < 0.5
    assert (answered.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9


@pytest.mark.thorough
def test_pairs_and_numbers(pair_bundle: Path, pair_successor: Path, pairs: Path) -> None:
    table = read_tables(str(pairs)).splits["train"]
    columns = [table["first"][:20], table["second"][:20]]
    predictor = Predictor(pair_bundle, threads=1)
    answers = predictor.predict(list(zip(*columns, strict=True)))
    assert all(answer.keys() == {"score"} for answer in answers)
    expected = expected_logits(pair_successor, columns, max_length=24)[:, 0]
    np.testing.assert_allclose([answer["score"] for answer in answers], expected, atol=1e-5)


def test_a_label_its_score_and_all_scores(predictor: Predictor) -> None:
    answers = predictor.predict(TEXTS)
    logits = torch.from_numpy(predictor.logits(TEXTS))
    expected = torch.softmax(logits, dim=1).numpy()
    assert len(answers) == len(TEXTS)
    for answer, row in zip(answers, expected, strict=True):
        assert list(answer) == ["label", "score", "scores"]
        assert list(answer["scores"]) == ["negative", "positive"]
        np.testing.assert_allclose(list(answer["scores"].values()), row, atol=1e-6)
        assert answer["label"] == ("negative", "positive")[row.argmax()]
        assert answer["score"] == answer["scores"][answer["label"]]
        assert type(answer["score"]) is float


def test_words_in_threads_and_in_batches_of_strings_and_lists(family: Callable[[str, str], Path]) -> None:
    predictor = Predictor(family("bert", "tokens") / "bundle", threads=1)
    words = [tuple(sentence.split()) for sentence in SENTENCES * 5]
    mixed = [" ".join(text) if row % 2 else text for row, text in enumerate(words)]
    expected = [predictor.predict([text])[0] for text in mixed]
    assert any(answer["entities"] for answer in expected)
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda size: predictor.predict(mixed, size), [1, 2, 3, 32]):
            for answer, alone in zip(answers, expected, strict=True):
                assert [{**entity, "score": 0} for entity in answer["entities"]] == [
                    {**entity, "score": 0} for entity in alone["entities"]
                ]
    assert predictor.predict([]) == []
    assert predictor.logits([]).shape == (0, 5)
    assert predictor.predict([""]) == predictor.predict([()]) == [{"entities": []}]


def test_the_graph_itself_answers_every_token(family: Callable[[str, str], Path]) -> None:
    predictor = Predictor(family("bert", "tokens") / "bundle", threads=1)
    encoded = predictor.encode(SENTENCES)
    assert predictor.run(encoded).shape == (*encoded["input_ids"].shape, 5)


def test_one_batch_in_the_order_of_the_question(predictor: Predictor) -> None:
    answers = predictor.answer(TEXTS)
    assert {answer.shape for answer in answers} == {(1, 2)}
    np.testing.assert_allclose(np.concatenate(answers), predictor.logits(TEXTS), atol=1e-5)
    assert predictor.answer([]) == []


def test_padding_on_the_other_side_leaves_the_predictor_as_it_is(predictor: Predictor) -> None:
    left = predictor.padding_on("left")
    assert left.encode(["bad", "good film"])["input_ids"].tolist() == [[0, 2, 10, 3], [2, 5, 16, 3]]
    assert predictor.encode(["bad", "good film"])["input_ids"].tolist() == [[2, 10, 3, 0], [2, 5, 16, 3]]


def test_a_text_is_truncated_as_trained_and_padded_to_its_neighbour(predictor: Predictor) -> None:
    encoded = predictor.encode(["good " * 200, "bad", ("film",)])
    assert encoded.keys() == {"input_ids", "token_type_ids", "attention_mask"}
    assert {(array.shape, array.dtype) for array in encoded.values()} == {((3, 64), np.dtype(np.int64))}
    assert encoded["input_ids"][0].tolist() == [2, *[5] * 62, 3]
    assert encoded["input_ids"][1].tolist() == [2, 10, 3, *[0] * 61]
    assert encoded["attention_mask"].sum(axis=1).tolist() == [64, 3, 3]
    assert predictor.encode(["bad", "good film"])["input_ids"].tolist() == [[2, 10, 3, 0], [2, 5, 16, 3]]


def test_the_pad_id_is_the_models(fp32_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"pad_id": 0', '"pad_id": 4'))
    assert Predictor(folder, threads=1).encode(["bad", "good film"])["input_ids"][0].tolist() == [2, 10, 3, 4]


def test_nothing_is_answered_with_nothing(predictor: Predictor) -> None:
    assert predictor.predict([]) == []
    assert predictor.logits([]).shape == (0, 2)


def test_one_text_alone_is_no_list_of_letters(predictor: Predictor) -> None:
    with pytest.raises(
        DataError, match=r"one text was given, and a list of them is taken; put it in brackets: \[text\]"
    ):
        predictor.predict("good film")


@pytest.mark.parametrize("texts", [{"good": 1}, {"good"}, None, b"good"])
def test_what_has_no_texts_in_order_is_refused(predictor: Predictor, texts: Any) -> None:
    with pytest.raises(DataError, match=r"^a \w+ was given; give a list of texts in order$"):
        predictor.predict(texts)


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_threads_are_some_and_not_a_million(threads: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^{threads} threads were asked for; give 1 to 4096, or None"):
        Predictor(tmp_path, threads=threads)


def test_it_may_be_shared_by_threads(predictor: Predictor) -> None:
    expected = predictor.logits(TEXTS)
    questions = [TEXTS[start:] for start in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for start, answered in enumerate(pool.map(predictor.logits, questions)):
            np.testing.assert_allclose(answered, expected[start:], atol=1e-5)


@pytest.mark.parametrize("question", [["good", ("one", "two")], ["good", ()], ["good", ("a", "b", "c")]])
def test_an_input_of_another_shape_is_refused_by_its_number(predictor: Predictor, question: list[str]) -> None:
    with pytest.raises(DataError, match=r"input 2 has [023] texts, and the model takes 1; correct it"):
        predictor.predict(question)


@pytest.mark.parametrize("wrong", ["\ud800", ("\ud800",), None, b"good", 3])
def test_what_is_no_text_is_refused_by_its_number(predictor: Predictor, wrong: Any) -> None:
    with pytest.raises(DataError, match="input 2 is no text of whole Unicode characters; correct it"):
        predictor.predict(["good \U0001f600", wrong])


@pytest.mark.parametrize("wrong", [{"text": "good", "text_pair": "bad"}, {"good"}])
def test_what_has_keys_or_no_order_is_no_list_of_texts(predictor: Predictor, wrong: Any) -> None:
    with pytest.raises(DataError, match=rf"input 2 is a {type(wrong).__name__}; give a text, or a list of texts"):
        predictor.predict(["good", wrong])


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_nothing_is_refused(predictor: Predictor, size: int) -> None:
    with pytest.raises(ConfigError, match=f"a batch of {size} inputs is none; ask for at least 1"):
        predictor.predict(["good"], batch_size=size)


@pytest.mark.parametrize("wrong", ["\ud800", ["good", "\ud800"], ["good", None], None])
def test_words_that_are_no_text_are_refused_by_the_number_of_their_input(
    family: Callable[[str, str], Path], wrong: Any
) -> None:
    predictor = Predictor(family("bert", "tokens") / "bundle", threads=1)
    with pytest.raises(DataError, match="input 2 is no text of whole Unicode characters; correct it"):
        predictor.predict(["good film", wrong])


def test_a_folder_that_is_no_bundle_is_refused(tiny_bert: Path, pair_successor: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", tiny_bert):
        with pytest.raises(ArtifactError, match=r"has no readable theseus.json"):
            Predictor(folder)
    with pytest.raises(ArtifactError, match=r"is a checkpoint, not a bundle; make one with `theseus export`"):
        Predictor(str(pair_successor))


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("damage", [lambda old: b"", lambda old: b"garbage", lambda old: old[: len(old) // 2], None])
def test_a_damaged_bundle_is_refused_in_one_line(
    name: str, damage, fp32_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    path = folder / name
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(ArtifactError) as failure:
        Predictor(folder)
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("inside", [False, True])
def test_a_graph_reads_no_file_outside_the_bundle(fp32_bundle: Path, tmp_path: Path, inside: bool) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="weights", size_threshold=1000)
    if inside:
        np.testing.assert_equal(Predictor(folder, 1).logits(["good"]), Predictor(fp32_bundle, 1).logits(["good"]))
        return
    (folder / "weights").rename(tmp_path / "weights")
    (folder / "weights").symlink_to(tmp_path / "weights")
    with pytest.raises(ArtifactError, match="xternal data path"):
        Predictor(folder)


@pytest.mark.thorough
def test_another_models_graph_is_refused(fp32_bundle: Path, pair_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    shutil.copy(pair_bundle / "model.onnx", folder / "model.onnx")
    with pytest.raises(ArtifactError, match="answers with 1 logits, and the task has 2"):
        Predictor(folder)


def test_an_int8_bundle_of_another_instruction_set_warns_in_one_line(
    int8_bundle: Path, fp32_bundle: Path, tmp_path: Path
) -> None:
    def moved(bundle: Path) -> Path:
        folder = shutil.copytree(bundle, tmp_path / bundle.name)
        manifest = json.loads((folder / "theseus.json").read_text())
        manifest["machine"] |= {"cpu": "Another", "isa": ["avx2"] if this_machine().native_int8 else ["avx512_vnni"]}
        (folder / "theseus.json").write_text(json.dumps(manifest))
        return folder

    other = moved(int8_bundle)
    with pytest.warns(UserWarning, match="7 bits" if this_machine().native_int8 else "overflow") as caught:
        assert Predictor(other, 1).logits(["good"]).shape == (1, 2)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    message = str(caught[0].message)
    assert message.startswith(f"{other} was quantised on Another (avx")
    assert message.endswith("; export it again on a CPU like this one")
    Predictor(moved(fp32_bundle), 1)


def test_production_pays_for_onnxruntime_tokenizers_and_numpy_only(
    fp32_bundle: Path, family: Callable[[str, str], Path]
) -> None:
    code = f"""
import sys
from theseus_deploy.predictor import Predictor
assert Predictor({str(fp32_bundle)!r}, 1).predict(["good film"])[0]["label"] in ("negative", "positive")
tagger = Predictor({str(family("bert", "tokens") / "bundle")!r}, 1)
assert tagger.predict(["Anna lives near it"])[0].keys() == {{"entities"}}
heavy = ("torch", "transformers", "pandas", "sklearn", "scipy", "datasets", "onnx", "pyarrow", "importlib.metadata",
         "hashlib", "tempfile", "difflib", *(f"theseus_deploy.{{name}}" for name in ("artifact", "configs", "data")))
sys.exit(", ".join(name for name in heavy if name in sys.modules) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_answer_that_is_no_finite_number_is_an_error_and_no_answer(fp32_bundle: Path) -> None:
    class Overflowing:
        def __init__(self, path: Path) -> None:
            self.graph = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            self.get_inputs, self.get_outputs = self.graph.get_inputs, self.graph.get_outputs

        def run(self, names: list[str], given: dict[str, Any]) -> list[np.ndarray]:
            (logits,) = self.graph.run(names, given)
            return [np.where(given["attention_mask"].sum(axis=1, keepdims=True) > 6, np.nan, logits)]

    predictor = Predictor(fp32_bundle, load=lambda path, threads: Overflowing(path))
    assert len(predictor.predict(["good film", "bad"])) == 2
    with pytest.raises(ModelError, match="input 2 is answered with a logit that is no finite number; export the"):
        predictor.predict(["good film", "good " * 20, "bad"])
    with pytest.raises(ModelError, match="input 514 is answered with"):
        predictor.predict(["good film", "good " * 20, "bad"], first=513)
    with pytest.raises(DataError, match="input 514 has 2 texts, and the model takes 1"):
        predictor.predict(["good film", ("good", "film")], first=513)
    with pytest.raises(DataError, match="input 514 is no text of whole Unicode"):
        predictor.predict(["good film", "\ud800"], first=513)
