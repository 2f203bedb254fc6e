"""A tokenizer is the model's own and fast, or refused; what is written is read by transformers 4 too."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertJapaneseTokenizer

from tests.checkpoints import MOODS, Save, configure, refuse
from tests.conftest import BAD, GOOD, SPECIAL, make_bert
from tests.families import save_tokenizer_of
from theseus_deploy.models.checkpoint import open_checkpoint
from theseus_deploy.models.tokenizer import write_tokenizer


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"tokenizer.json": "{", "tokenizer_config.json": None}, "has no tokenizer that can be loaded ("),
        ({"tokenizer.json": "{}"}, "has no tokenizer that can be loaded ("),
        ({"tokenizer_config.json": "[]"}, "has no tokenizer that can be loaded ("),
        ({"tokenizer.json": None}, "has no tokenizer that can be loaded ("),
        (
            {"tokenizer.json": None, "tokenizer_config.json": None},
            "has no tokenizer; add its tokenizer.json or vocab.txt",
        ),
    ],
)
def test_a_tokenizer_that_is_missing_or_damaged_is_refused(folder: Path, damage: dict[str, Any], reason: str) -> None:
    for name, content in damage.items():
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_text(content)
    assert f"{folder} {reason}" in refuse(open_checkpoint(str(folder)).tokenizer)


def test_a_vocabulary_alone_is_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *GOOD, *BAD]))
    assert open_checkpoint(str(folder)).tokenizer()("good bad")["input_ids"] == [2, 5, 10, 3]


def test_a_slow_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *GOOD]))
    slow = {"tokenizer_class": BertJapaneseTokenizer.__name__, "word_tokenizer_type": "basic"}
    (folder / "tokenizer_config.json").write_text(json.dumps(slow))
    assert refuse(open_checkpoint(str(folder)).tokenizer) == (
        f"{folder} has only a slow tokenizer; add a tokenizer.json to the folder"
    )


def test_a_tokenizer_that_cannot_pad_is_refused(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert "has a tokenizer without a padding token; name one in tokenizer_config.json" in refuse(
        open_checkpoint(str(folder)).tokenizer
    )


def test_the_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    checkpoint = configure(folder, vocab_size=20)
    assert refuse(checkpoint.tokenizer) == (
        f"{folder} has a tokenizer of 29 tokens, and the model knows 20; add the tokenizer that it was trained with"
    )


def test_a_pair_that_the_model_cannot_tell_apart_is_refused_with_a_remedy_that_helps(save_model: Save) -> None:
    config = BertConfig.from_dict({**make_bert().config.to_dict(), "type_vocab_size": 1})
    folder = save_model(BertForSequenceClassification(config))
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.tokenizer(MOODS)
    pair = replace(MOODS, text=("one", "other"))
    message = refuse(lambda: checkpoint.tokenizer(pair))
    assert message.startswith(f"{folder} has a type_vocab_size of 1, and its tokenizer marks the second text of a pair")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_input_names": ["input_ids", "attention_mask"]}))
    encoded = checkpoint.tokenizer(pair)("good", "bad", return_tensors="pt")
    assert checkpoint.trained()(**encoded).logits.shape == (1, 2)


@pytest.mark.parametrize("name", ["camembert", "modernbert"])
def test_a_tokenizer_is_written_in_words_that_transformers_4_reads_too(name: str, folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_tokenizer_of(name, tmp_path))
    tokenizer.add_special_tokens({"extra_special_tokens": ["<new>"]})
    write_tokenizer(tokenizer, folder)
    content = json.loads((folder / "tokenizer_config.json").read_text())
    assert content["additional_special_tokens"] == ["<new>"]
    assert "extra_special_tokens" not in content
    assert content["tokenizer_class"] == {"camembert": "CamembertTokenizer"}.get(name, "PreTrainedTokenizerFast")
    again = AutoTokenizer.from_pretrained(folder)
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again("a <new> film")["input_ids"] == tokenizer("a <new> film")["input_ids"]
