"""What cannot be used as a model is refused before any time is spent on it, in one line that says why."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.artifacts import manifest
from tests.checkpoints import MOODS, Save, configure, refuse
from tests.conftest import largest_file, make_bert, make_tokenizer
from theseus_deploy.artifact import Artifact, fingerprint
from theseus_deploy.models.checkpoint import open_checkpoint, save_checkpoint
from theseus_deploy.models.tokenizer import write_tokenizer
from theseus_deploy.tasks import Task


def write_artifact(out: Path, **changes: Any) -> Path:
    with Artifact.writing(out) as draft:
        save_checkpoint(make_bert(labels=3), make_tokenizer(), draft.path)
        draft.finish(manifest(task=MOODS, **changes))
    return out


def test_a_model_folder_is_opened_with_what_it_knows(tiny_bert: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_bert))
    assert (checkpoint.ref, checkpoint.path, checkpoint.artifact) == (str(tiny_bert), tiny_bert, None)
    assert checkpoint.task == Task("single-label", ("negative", "positive"), (), "", 64)
    assert checkpoint.parent.sha256 == fingerprint(tiny_bert)
    model = checkpoint.trained()
    assert model.dtype == torch.float32
    expected = make_bert().state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in model.state_dict().items())
    assert checkpoint.tokenizer()("good film")["input_ids"] == make_tokenizer()("good film")["input_ids"]


def test_what_is_no_model_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_text("x")
    (tmp_path / "empty").mkdir()
    for ref, reason in {
        "empty": "is no model folder: it holds no config.json; give one, or a Hub id",
        "file.bin": "is a file, not a model folder; give the folder that holds config.json",
        "missing": "does not exist; give a model folder or a Hub id",
    }.items():
        assert refuse(lambda ref=ref: open_checkpoint(str(tmp_path / ref))) == f"{tmp_path / ref} {reason}"


def test_a_bundle_is_refused_with_the_checkpoint_it_was_made_from(tmp_path: Path) -> None:
    out = write_artifact(tmp_path / "bundle", kind="bundle", stage="export", precision="int8-dynamic")
    assert refuse(lambda: open_checkpoint(str(out))) == (
        f"{out} is a bundle (int8-dynamic) for production, not a checkpoint; "
        "give the checkpoint it was made from, encoder"
    )


def test_configurations_that_no_head_fits_are_refused(folder: Path) -> None:
    several = configure(folder, problem_type="regression", id2label={"0": "a", "1": "b", "2": "c"})
    assert refuse(lambda: several.task).endswith("is a regression with 3 outputs; give a model with one")
    unpadded = configure(folder, model_type="roberta", pad_token_id=None)
    assert "has no pad_token_id in its config.json" in refuse(lambda: unpadded.longest(None))


def test_a_checkpoint_of_ours_knows_its_task(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_artifact(tmp_path / "out")))
    assert checkpoint.task == MOODS
    assert checkpoint.longest(None) == 32
    assert checkpoint.longest(48) == 48
    assert checkpoint.artifact is not None
    assert checkpoint.parent.sha256 == checkpoint.artifact.sha256


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_checkpoint_of_ours_is_refused_by_the_name_of_the_file(tmp_path: Path, name: str) -> None:
    out = write_artifact(tmp_path / "out")
    content = (out / name).read_bytes()
    (out / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert refuse(lambda: open_checkpoint(str(out))) == (
        f"{out} is damaged: {name} was changed (another sha256); write it again, or check it with `theseus verify`"
    )
    (out / name).unlink()
    assert f"is damaged: {name} is missing" in refuse(lambda: open_checkpoint(str(out)))


def test_labels_that_are_numbers_are_names(folder: Path) -> None:
    task = configure(folder, id2label={"0": 1, "1": 2}).task
    assert task.labels == ("1", "2")
    assert task.encode(["1", "2", "1"], "here") == [0, 1, 0]
    counted = configure(folder, id2label={"1": "a", "2": "b"})
    assert "numbers its labels 1, 2 (id2label of its config.json), and outputs are counted from 0" in refuse(
        lambda: counted.task
    )
    alone = configure(folder, id2label={"0": "toxic"}, problem_type="multi_label_classification")
    assert "has one label (toxic) and is no regression; give a model with two" in refuse(lambda: alone.task)
    unnamed = configure(folder, id2label={"0": "a", "1": None}, problem_type=None)
    assert "has a label without a name (null in id2label of its config.json); name it" in refuse(lambda: unnamed.task)


def test_what_was_added_to_a_checkpoint_of_ours_is_to_be_moved_and_nothing_to_be_made_again(tmp_path: Path) -> None:
    out = write_artifact(tmp_path / "out")
    (out / "NOTES.md").write_text("mine")
    assert refuse(lambda: open_checkpoint(str(out))) == (
        f"{out} is not as it was written: NOTES.md was added; move it out of the folder"
    )


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff\xfe", b'{"model_type": "nosuch"}',
                                     b'{"model_type": "bert", "num_hidden_layers": "many"}'])  # fmt: skip
def test_a_config_that_cannot_be_read_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    checkpoint = open_checkpoint(str(folder))
    for work in (
        lambda: checkpoint.config,
        lambda: checkpoint.task,
        lambda: checkpoint.longest(None),
        checkpoint.trained,
    ):
        assert f"{folder} has no config.json that transformers reads (" in refuse(work)


def test_labels_are_read_off_the_config_in_the_order_of_their_ids(folder: Path) -> None:
    labels = {str(index): f"class {index}" for index in reversed(range(12))}
    assert configure(folder, id2label=labels).task.labels == tuple(f"class {index}" for index in range(12))


@pytest.mark.parametrize("change", [{}, {"problem_type": "regression"}])
def test_a_regression_is_read_off_the_config(folder: Path, change: dict[str, Any]) -> None:
    task = configure(folder, id2label={"0": "score"}, **change).task
    assert (task.kind, task.labels) == ("regression", ())


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "single-label"),
        ({"problem_type": "multi_label_classification"}, "multi-label"),
        ({"problem_type": "regression", "id2label": {"0": "x"}}, "regression"),
        ({"id2label": {"0": "x"}}, "regression"),
        ({"architectures": ["BertForTokenClassification"]}, "tokens"),
    ],
)
def test_a_model_of_anybody_tells_its_kind_of_task_by_its_config(
    folder: Path, changes: dict[str, Any], kind: str
) -> None:
    assert configure(folder, **changes).task.kind == kind


def test_a_model_of_another_kind_of_task_is_refused(folder: Path) -> None:
    checkpoint = configure(folder, problem_type="question_answering")
    assert refuse(lambda: checkpoint.task) == (
        f"{folder} was trained for question_answering; give a model for single_label_classification, "
        "multi_label_classification or regression"
    )


def test_the_longest_input_is_bounded_by_the_positions(folder: Path) -> None:
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.longest(None) == checkpoint.longest(64) == 64
    assert checkpoint.longest(16) == 16
    assert refuse(lambda: checkpoint.longest(65)) == (
        f"--max-length 65 is more than the 64 positions of {folder}; lower it"
    )
    assert configure(folder, max_position_embeddings=512).longest(None) == 128
    assert configure(folder, max_position_embeddings=512).longest(512) == 512
    assert configure(folder, max_position_embeddings=-1).longest(4096) == 4096  # as XLNet says that nothing does


def test_a_family_without_positions_has_no_bound(save_model: Save) -> None:
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=29, d_model=8, d_kv=8, d_ff=8, num_layers=1, num_heads=1))
    checkpoint = open_checkpoint(str(save_model(t5)))
    assert (checkpoint.longest(None), checkpoint.longest(4096)) == (128, 4096)


FAMILIES = ("albert", "bert", "camembert", "convbert", "data2vec-text", "deberta-v2", "distilbert", "electra", "ibert",
            "longformer", "mpnet", "roberta", "xlm-roberta")  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_its_longest_input_and_no_longer(family: str, save_model: Save) -> None:
    names = {"distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}, "albert": {"embedding_size": 16},
             "electra": {"embedding_size": 16}, "longformer": {"attention_window": 8}}  # fmt: skip
    common = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes = {**(common if family != "distilbert" else {}), **names.get(family, {})}
    config = AutoConfig.for_model(family, **sizes, vocab_size=29, max_position_embeddings=24)
    checkpoint = open_checkpoint(str(save_model(AutoModelForSequenceClassification.from_config(config))))
    longest = checkpoint.longest(None)
    assert longest in (22, 24)
    ids = torch.full((1, longest), 7)
    with torch.inference_mode():
        assert checkpoint.trained().eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (1, 2)
    assert f"--max-length {longest + 1} is more than the {longest} positions" in refuse(
        lambda: checkpoint.longest(longest + 1)
    )


def test_a_checkpoint_is_an_ordinary_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(make_bert(layers=2), make_tokenizer(), tmp_path)
    assert capfd.readouterr() == ("", "")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(model.config, BertConfig)
    assert model.config.num_hidden_layers == 2


def test_weights_and_a_tokenizer_that_cannot_be_written_are_errors_of_the_disk(tmp_path: Path) -> None:
    model, tokenizer = make_bert(layers=2), make_tokenizer()
    for size, write in [
        (10_000, lambda: save_checkpoint(model, tokenizer, tmp_path)),
        (2_000, lambda: write_tokenizer(tokenizer, tmp_path)),
    ]:
        with largest_file(size), pytest.raises(OSError, match="File too large") as caught:
            write()
        assert caught.value.errno == errno.EFBIG
