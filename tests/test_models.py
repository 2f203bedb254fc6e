"""What cannot be used as a model is refused before any time is spent on it, in one line that says why."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertJapaneseTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from tests.artifacts import manifest
from tests.conftest import BAD, GOOD, SPECIAL, largest_file, make_bert, make_tokenizer
from tests.families import save_tokenizer_of
from tests.hub import Hub
from theseus_deploy.artifact import Artifact, fingerprint
from theseus_deploy.errors import ModelError
from theseus_deploy.models import Checkpoint, open_checkpoint, save_checkpoint, torch_device, write_tokenizer
from theseus_deploy.tasks import Task

Save = Callable[..., Path]
MOODS = Task("single-label", ("bad", "fine", "good"), ("text",), "mood", 32, "accuracy")


def refuse(work: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of a good model folder, to be damaged."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))


def configure(folder: Path, **changes: Any) -> Checkpoint:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return open_checkpoint(str(folder))


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


def test_half_precision_weights_are_read_as_fp32(save_model: Save) -> None:
    model = open_checkpoint(str(save_model(make_bert().half()))).trained()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_what_is_no_model_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_text("x")
    (tmp_path / "empty").mkdir()
    for ref, reason in {
        "empty": "is no model folder: it holds no config.json; give one, or a Hub id",
        "file.bin": "is a file, not a model folder; give the folder that holds config.json",
        "missing": "does not exist; give a model folder or a Hub id",
    }.items():
        assert refuse(lambda ref=ref: open_checkpoint(str(tmp_path / ref))) == f"{tmp_path / ref} {reason}"


@pytest.mark.parametrize("ref", ["./missing", "../missing", "~/missing", "a/b/c"])
def test_a_path_that_is_not_there_is_refused(ref: str) -> None:
    assert refuse(lambda: open_checkpoint(ref)) == f"{ref} does not exist; give a model folder or a Hub id"


def test_a_builtin_mistyped_is_suggested() -> None:
    assert refuse(lambda: open_checkpoint("demo:minlm")).endswith("did you mean 'demo:minilm'?")


@pytest.mark.parametrize("ref", ["not a name!", "a--b", "owner/..", "x" * 200])
def test_what_is_no_hub_id_is_refused(ref: str) -> None:
    assert f"{ref} is no local folder, and the Hub could not give it (" in refuse(lambda: open_checkpoint(ref))


REACH = """
import sys, time
from theseus_deploy.errors import ModelError
from theseus_deploy.models import open_checkpoint
for ref in sys.argv[1:]:
    began = time.monotonic()
    try:
        open_checkpoint(ref)
    except ModelError as error:
        print(f"{time.monotonic() - began:.0f} {error}")
"""


class Refusal(BaseRequestHandler):
    """A proxy that lets nothing through."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")


@pytest.fixture
def proxy() -> Iterator[str]:
    with ThreadingTCPServer(("127.0.0.1", 0), Refusal) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("how", ["down", "forbidden", "offline"])
def test_a_hub_that_cannot_be_reached_is_one_quick_error(how: str, proxy: str, tmp_path: Path) -> None:
    ways = {
        "down": {"HF_ENDPOINT": "http://127.0.0.1:9"},
        "forbidden": {"HTTPS_PROXY": proxy},
        "offline": {"HF_HUB_OFFLINE": "1"},
    }
    settings = {**os.environ, "HF_HOME": str(tmp_path), **ways[how]}
    refs = ["bert-base-uncased", "textattack/bert-base-uncased-MRPC"]
    command = [sys.executable, "-c", REACH, *refs]
    found = subprocess.run(command, env=settings, capture_output=True, text=True, check=True, timeout=120)
    assert found.stderr == ""
    for ref, line in zip(refs, found.stdout.splitlines(), strict=True):
        seconds, _, message = line.partition(" ")
        assert int(seconds) < 10
        assert message.startswith(f"{ref} is no local folder, and the Hub could not give it (")
        assert message.endswith("check the name and the network, or give a folder")


class ModelHub(Hub):
    """A Hub of models: what is asked of them differs from data sets in the path alone."""

    def do_GET(self) -> None:  # noqa: N802
        asks = "/api/" in self.path
        self.path = self.path.replace("/api/models/", "/api/datasets/") if asks else f"/datasets{self.path}"
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815


def test_a_checkpoint_of_ours_comes_whole_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Artifact.writing(tmp_path / "out") as draft:
        save_checkpoint(make_bert(labels=3), make_tokenizer(), draft.path)
        (draft.path / "log.jsonl").write_text("{}\n")
        (draft.path / "runs").mkdir()
        (draft.path / "runs" / "events.0").write_text("x")
        draft.finish(manifest(task=MOODS))
    out = tmp_path / "out"
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setitem(Hub.data_sets, "owner/model", {**files, ".gitattributes": b"x", "pytorch_model.bin": b"y"})
    with ThreadingHTTPServer(("127.0.0.1", 0), ModelHub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1",
                    "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}  # fmt: skip
        code = "from theseus_deploy.models import open_checkpoint; print(open_checkpoint('owner/model').path)"
        ran = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True, check=False
        )
        server.shutdown()
    assert ran.returncode == 0, ran.stderr
    found = Path(ran.stdout.strip())
    assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == files.keys()


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


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"x" * 1000])
def test_damaged_weights_are_refused(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    for work in (open_checkpoint(str(folder)).trained, lambda: open_checkpoint(str(folder)).fresh(MOODS, 1)):
        message = refuse(work)
        assert f"{folder} holds damaged weights (" in message
        assert message.endswith("fetch or train it again")


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    message = refuse(open_checkpoint(str(folder)).trained)
    assert "is no text classifier that can be loaded (Error no file named model.safetensors" in message


def test_a_model_whose_head_was_never_trained_is_sent_to_finetune(encoder_only: Path) -> None:
    assert refuse(open_checkpoint(str(encoder_only)).trained) == (
        f"{encoder_only} has no trained weights for classifier.bias, classifier.weight; a predecessor must be "
        "fine-tuned on the task first: run `theseus finetune`"
    )


def test_the_head_of_another_task_is_no_head(save_model: Save) -> None:
    message = refuse(open_checkpoint(str(save_model(BertForMaskedLM(make_bert().config)))).trained)
    assert "has no trained weights for bert.pooler.dense.bias" in message
    assert message.endswith("run `theseus finetune`")


def test_a_head_of_another_shape_than_the_config_has_is_no_head(folder: Path) -> None:
    checkpoint = configure(folder, id2label={"0": "a", "1": "b", "2": "c"})
    assert "has no trained weights for classifier.bias, classifier.weight;" in refuse(checkpoint.trained)


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 6}, {"hidden_size": 64}, {"vocab_size": 100}, {"intermediate_size": 8}]
)
def test_an_encoder_that_is_not_in_the_weights_is_never_made_up(folder: Path, change: dict[str, int]) -> None:
    checkpoint = configure(folder, **change)
    for work in (checkpoint.trained, lambda: checkpoint.fresh(MOODS, 1)):
        message = refuse(work)
        assert "has no weights, or none of the shape in its config.json, for bert." in message
        assert "theseus finetune" not in message


def test_an_encoder_of_another_family_is_never_made_up(folder: Path) -> None:
    checkpoint = configure(folder, model_type="roberta")
    assert "has no weights, or none of the shape" in refuse(lambda: checkpoint.fresh(MOODS, 1))


def test_a_fresh_head_is_drawn_from_the_seed_over_the_same_encoder(encoder_only: Path, tiny_bert: Path) -> None:
    one, same, other = (open_checkpoint(str(encoder_only)).fresh(MOODS, seed) for seed in (1, 1, 2))
    assert one.config.id2label == {0: "bad", 1: "fine", 2: "good"}
    assert one.config.problem_type == "single_label_classification"
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    encoder = make_bert().bert.state_dict()
    assert all(torch.equal(weight, encoder[name]) for name, weight in one.bert.state_dict().items())
    replaced = open_checkpoint(str(tiny_bert)).fresh(MOODS, 1)
    assert torch.equal(replaced.classifier.weight, one.classifier.weight)


def test_a_fresh_head_of_a_regression_has_one_output(encoder_only: Path) -> None:
    model = open_checkpoint(str(encoder_only)).fresh(Task("regression", (), ("text",), "score"), 1)
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
    assert model.classifier.weight.shape == (1, 32)


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


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=29, n_positions=32, n_embd=8, n_layer=1, n_head=1,
                                            bos_token_id=2, eos_token_id=3)), "trained weights for score.weight"),
        (lambda: T5ForConditionalGeneration(T5Config(vocab_size=29, d_model=8, d_kv=8, d_ff=8, num_layers=1,
                                                     num_heads=1)), "trained weights for classification_head.dense"),
        (lambda: ViTForImageClassification(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                                                     intermediate_size=8, image_size=8, patch_size=8)),
         "is no text classifier that can be loaded (Unrecognized configuration class"),
    ],
)  # fmt: skip
def test_a_model_that_is_no_text_classifier_is_refused(save_model: Save, make: Callable[[], Any], reason: str) -> None:
    assert reason in refuse(open_checkpoint(str(save_model(make()))).trained)


def test_the_longest_input_is_bounded_by_the_positions(folder: Path) -> None:
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.longest(None) == checkpoint.longest(64) == 64
    assert checkpoint.longest(16) == 16
    assert refuse(lambda: checkpoint.longest(65)) == (
        f"--max-length 65 is more than the 64 positions of {folder}; lower it"
    )
    assert configure(folder, max_position_embeddings=512).longest(None) == 128
    assert configure(folder, max_position_embeddings=512).longest(512) == 512


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


def test_a_checkpoint_is_an_ordinary_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(make_bert(layers=2), make_tokenizer(), tmp_path)
    assert capfd.readouterr() == ("", "")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(model.config, BertConfig)
    assert model.config.num_hidden_layers == 2


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


def test_weights_and_a_tokenizer_that_cannot_be_written_are_errors_of_the_disk(tmp_path: Path) -> None:
    model, tokenizer = make_bert(layers=2), make_tokenizer()
    for size, write in [
        (10_000, lambda: save_checkpoint(model, tokenizer, tmp_path)),
        (2_000, lambda: write_tokenizer(tokenizer, tmp_path)),
    ]:
        with largest_file(size), pytest.raises(OSError, match="File too large") as caught:
            write()
        assert caught.value.errno == errno.EFBIG


def test_devices_are_as_asked() -> None:
    assert torch_device("cpu").type == "cpu"
    assert torch_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert refuse(lambda: torch_device("cuda")) == (
        "--device cuda, but torch sees no GPU here; use --device cpu, or install a CUDA build of torch"
    )
