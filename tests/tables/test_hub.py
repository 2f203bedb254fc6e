"""Data sets of the Hub are read with their facts, and serve without the Hub too."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from tests.hub import PAIRS, Hub
from theseus_deploy.tables.hub import _hub_splits, _hub_table

ASK_THE_HUB = """
import dataclasses, json, sys, time
from datasets import load_dataset
from theseus_deploy.errors import DataError
from theseus_deploy.tables.read import read_tables
for ref in sys.argv[1:]:
    began = time.monotonic()
    try:
        found = dataclasses.asdict(read_tables(ref))
    except DataError as error:
        found = str(error)
    print(json.dumps([found, time.monotonic() - began]))
"""


@pytest.fixture(scope="module")
def ask_the_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., list[Any]]]:
    """Read data sets of a Hub in a process of its own; with `up` False it is out of reach."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    settings = {"HF_HOME": str(tmp_path_factory.mktemp("home")), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}

    def ask(*refs: str, up: bool) -> list[Any]:
        environment = {**os.environ, **settings, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port if up else 9}"}
        command = [sys.executable, "-c", ASK_THE_HUB, *refs]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        return [json.loads(line) for line in found.stdout.splitlines()]

    yield ask
    server.shutdown()
    server.server_close()


@pytest.mark.thorough
def test_a_hub_data_set_is_read_and_serves_without_the_hub_too(ask_the_hub: Callable[..., list[Any]]) -> None:
    reviews = {
        "splits": {"train": {"text": ["a", "b"], "label": ["1", "0"]}, "test": {"text": ["c"], "label": ["1"]}},
        "one_file": False, "text": [], "names": {}, "metrics": {},
    }  # fmt: skip
    (found, _), (unknown, seconds) = ask_the_hub("owner/reviews", "owner/revues", up=True)
    assert found == reviews
    assert "owner/revues is no local path, and the Hub gave no such data set (" in unknown
    assert "'owner/revues' doesn't exist on the Hub" in unknown
    assert seconds < 10
    (found, seconds), *unreachable = ask_the_hub("owner/reviews", "nyu-mll/glue:qnli", "glue/QNLI", up=False)
    assert found == reviews
    assert seconds < 10
    for ref, (message, seconds) in zip(("nyu-mll/glue:qnli", "glue/QNLI"), unreachable, strict=True):
        assert message == (
            f"{ref} is no local path, and the Hub gave no such data set (it cannot be reached); "
            "check the name and the network, or give a file"
        )
        assert seconds < 10


@pytest.mark.thorough
def test_tasks_of_glue_are_read_off_the_hub_with_their_facts(ask_the_hub: Callable[..., list[Any]]) -> None:
    refs = ("glue/mrpc", "nyu-mll/glue:mrpc", "glue/STS-B", "glue/mnli")
    (mrpc, _), (same, _), (stsb, _), (mnli, _) = ask_the_hub(*refs, up=True)
    assert mrpc == same
    assert mrpc["splits"].keys() == {"train", "validation"}  # the labels of test are hidden
    assert mrpc["splits"]["train"] == {**PAIRS, "label": ["equivalent", "not_equivalent"], "idx": ["0", "1"]}
    assert mrpc["text"] == ["sentence1", "sentence2"]
    assert mrpc["names"] == {"label": ["not_equivalent", "equivalent"]}
    assert mrpc["metrics"] == {"label": "f1"}
    assert {split: table["label"] for split, table in stsb["splits"].items()} == {
        "train": ["5.0", "3.25"],
        "validation": ["0.5", "4.0"],
    }
    assert (stsb["names"], stsb["metrics"]) == ({"label": []}, {"label": "pearson"})
    assert {split: table["premise"] for split, table in mnli["splits"].items()} == {
        "train": ["train"],
        "validation": ["validation_matched"],
    }
    assert mnli["names"] == {"label": ["entailment", "neutral", "contradiction"]}
    ((again, seconds),) = ask_the_hub("glue/mrpc", up=False)
    assert again == mrpc
    assert seconds < 10


def test_tags_of_the_hub_become_their_names(ask_the_hub: Callable[..., list[Any]]) -> None:
    ((found, _),) = ask_the_hub("owner/ner", up=True)
    assert found["splits"] == {"train": {"tokens": ['["a", "b"]', '["c"]'], "ner_tags": ['["B-x", "I-x"]', '["O"]']}}
    assert found["names"] == {"ner_tags": ["B-x", "O", "I-x"]}


def test_hub_splits_are_found_by_their_names() -> None:
    assert _hub_splits(["validation_matched", "validation_mismatched", "train", "unsupervised"]) == {
        "train": "train",
        "validation": "validation_matched",
    }


def test_hub_labels_are_read_by_name_and_hidden_ones_left_out() -> None:
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    shown = Dataset.from_dict({"sentence": ["a", "b"], "label": [1, 0]}, features)
    assert _hub_table(shown) == {"sentence": ["a", "b"], "label": ["yes", "no"]}
    hidden = Dataset.from_dict({"sentence": ["a", "b"], "label": [-1, -1]}, features)
    assert _hub_table(hidden) == {}
