"""A small server that plays the Hub for those who read from it."""

import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import PurePosixPath
from typing import Any, ClassVar
from urllib.parse import unquote

import pyarrow
import pyarrow.parquet


def hub_files(configs: dict[str, tuple[Any, dict[str, dict[str, Any]]]]) -> dict[str, bytes]:
    """A data set as the Hub keeps it: a card that names each configuration's features, and parquet without them."""
    card: dict[str, list[Any]] = {"configs": [], "dataset_info": []}
    files = {}
    for name, (features, splits) in configs.items():
        paths = [{"split": split, "path": f"{name}/{split}-*"} for split in splits]
        card["configs"].append({"config_name": name, "data_files": paths})
        card["dataset_info"].append(
            {"config_name": name, "features": [{"name": column, **feature} for column, feature in features.items()]}
        )
        for split, columns in splits.items():
            target = pyarrow.BufferOutputStream()
            pyarrow.parquet.write_table(pyarrow.table(columns), target)
            files[f"{name}/{split}-00000-of-00001.parquet"] = target.getvalue().to_pybytes()
    return {"README.md": f"---\n{json.dumps(card)}\n---\n".encode(), **files}  # JSON is YAML


def classes(*names: str) -> dict[str, Any]:
    return {"class_label": {"names": {str(place): name for place, name in enumerate(names)}}}


STRING = {"dtype": "string"}
PAIRS = {"sentence1": ["a", "b"], "sentence2": ["c", "d"]}
PAIR = dict.fromkeys(PAIRS, STRING)
GLUE = {
    "mrpc": (
        {**PAIR, "label": {"dtype": classes("not_equivalent", "equivalent")}, "idx": {"dtype": "int32"}},
        {
            "train": {**PAIRS, "label": [1, 0], "idx": [0, 1]},
            "validation": {**PAIRS, "label": [0, 1], "idx": [0, 1]},
            "test": {**PAIRS, "label": [-1, -1], "idx": [0, 1]},
        },
    ),
    "stsb": (
        {**PAIR, "label": {"dtype": "float32"}},
        {
            split: {**PAIRS, "label": pyarrow.array(labels, pyarrow.float32())}
            for split, labels in {"train": [5.0, 3.25], "validation": [0.5, 4.0], "test": [-1.0, -1.0]}.items()
        },
    ),
    "mnli": (
        {
            "premise": STRING,
            "hypothesis": STRING,
            "label": {"dtype": classes("entailment", "neutral", "contradiction")},
        },
        {
            split: {"premise": [split], "hypothesis": ["b"], "label": [-1 if split.startswith("test") else 1]}
            for split in ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched")
        },
    ),
}
NER = {
    "all": (
        {"tokens": {"sequence": "string"}, "ner_tags": {"sequence": classes("B-x", "O", "I-x")}},
        {"train": {"tokens": [["a", "b"], ["c"]], "ner_tags": [[0, 2], [1]]}},
    )
}


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as a few data sets need: one of csv files, some tasks of GLUE, and one of tagged words."""

    data_sets: ClassVar[dict[str, dict[str, bytes]]] = {
        "owner/reviews": {
            "README.md": b"# Reviews", "train.csv": b"text,label\na,1\nb,0\n", "test.csv": b"text,label\nc,1\n",
        },
        "nyu-mll/glue": hub_files(GLUE),
        "owner/ner": hub_files(NER),
    }  # fmt: skip
    commit: ClassVar = "0" * 40

    def do_GET(self) -> None:
        path, _, query = unquote(self.path).partition("?")
        whole = "recursive=true" in query.lower()
        place = re.fullmatch(r"(?:/api)?/datasets/([^/]+/[^/]+)(?:/([\w-]+)/[^/]+)?/?(.*)", path)
        files = self.data_sets.get(place[1], {}) if place else {}
        listed = [{"type": "file", "path": name, "rfilename": name, "oid": name, "size": len(content)}
                  for name, content in files.items()]  # fmt: skip
        listed += [{"type": "directory", "path": folder, "rfilename": folder, "oid": folder}
                   for folder in sorted({name.rpartition("/")[0] for name in files} - {""})]  # fmt: skip
        if not place or not files:
            self.answer(404, error="RepoNotFound")
        elif place[2] == "tree":
            inside = [one for one in listed if whole or str(PurePosixPath(one["path"]).parent) == (place[3] or ".")]
            self.answer(200, json.dumps(inside).encode())
        elif place[2] == "resolve":
            found = files.get(place[3])
            self.answer(200, found, place[3]) if found else self.answer(404, error="EntryNotFound")
        else:
            facts = {"_id": "1", "id": place[1], "sha": self.commit, "siblings": listed}
            self.answer(200, json.dumps(facts).encode())

    do_HEAD = do_GET  # noqa: N815

    def answer(self, status: int, body: bytes = b"", etag: str = "", error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", self.commit)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass
