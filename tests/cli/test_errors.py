"""Bad input: exit code 2, one line on stderr that names value, limit and remedy, and nothing written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

from tests.checkpoints import configure
from tests.cli.conftest import Ran
from tests.conftest import largest_file, make_rows, write_csv
from theseus_deploy.artifact import Artifact
from theseus_deploy.compress.module_map import ModuleMap
from theseus_deploy.compress.modules import assemble
from theseus_deploy_cli.main import _interrupted

Theseus = Callable[..., Ran]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bert: Path, encoder_only: Path, corpus: Path) -> Path:
    """An empty folder to stand in, with a predecessor `model`, an `encoder` and a corpus `data` in reach."""
    for name, source in (("model", tiny_bert), ("encoder", encoder_only), ("data", corpus)):
        (tmp_path / name).symlink_to(source)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def refused(ran: Ran, place: Path, *expected: str) -> None:
    """Assert that a command was refused as it should be."""
    assert ran.code == 2, ran.err
    assert ran.out == ""
    lines = ran.err.strip().splitlines()
    assert len(lines) == 1, ran.err
    for part in expected:
        assert part in lines[0]
    assert "Traceback" not in ran.err
    assert [path.name for path in place.iterdir() if not path.name.startswith("bad")] == []


LONG = "n" * 300
COMPRESS = ("compress", "../model", "--data", "../data", "--out", "out")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("compress", "..", "--data", "../data", "--out", "out"), ["..", "no config.json", "Hub id"]),
        (("compress", "./nothing", "--data", "../data", "--out", "out"), ["./nothing does not exist"]),
        (("compress", "no-such/model", "--data", "../data", "--out", "out"), ["no-such/model", "the Hub", "network"]),
        (("compress", "demo:minilmm", "--data", "../data", "--out", "out"), ["did you mean 'demo:minilm'"]),
        (
            ("compress", "../encoder", "--data", "../data", "--out", "out"),
            ["../encoder", "classifier", "theseus finetune"],
        ),
        (("compress", "../model", "--data", "./nowhere", "--out", "out"), ["./nowhere does not exist"]),
        (("compress", "../model", "--data", "../model", "--out", "out"), ["holds no data", "train"]),
        (("compress", "../model", "--data", "demo:tweet", "--out", "out"), ["did you mean 'demo:tweets'"]),
        ((*COMPRESS, "--text", "body"), ["no column 'body'", "columns: text, label", "--text"]),
        ((*COMPRESS, "--label", "stars"), ["no column 'stars'", "--label"]),
        ((*COMPRESS, "--layers", "5"), ["--layers 5", "1..4"]),
        ((*COMPRESS, "--layers", "0"), ["--layers 0"]),
        ((*COMPRESS, "--map", "0-1,3"), ["--map", "ordered partition"]),
        ((*COMPRESS, "--map", "0-1,2-5"), ["covers 6 layers", "the predecessor has 4"]),
        ((*COMPRESS, "--map", "0-1,2-3", "--layers", "2"), ["--layers 2", "--map 0-1,2-3", "one of them"]),
        ((*COMPRESS, "--base-rate", "1.5"), ["--base-rate 1.5", "0..1"]),
        ((*COMPRESS, "--k", "0.00001"), ["--k 1e-05", "training has 1000"]),
        ((*COMPRESS, "--precision", "fp16"), ["--precision fp16"]),
        ((*COMPRESS, "--method", "prune"), ["--method", "theseus", "distill"]),
        ((*COMPRESS, "--max-length", "4096"), ["--max-length 4096", "64 positions"]),
        ((*COMPRESS, "--epochs", "-1"), ["--epochs -1"]),
        ((*COMPRESS, "--device", "cuda"), ["--device cuda", "--device cpu"]),
        ((*COMPRESS, "--layer", "2"), ["--layer", "theseus compress --help"]),
        (("compress", "../model"), ["--data", "theseus compress --help"]),
        (("compres",), ["compres", "theseus --help"]),
        (("run", "nowhere.yaml"), ["nowhere.yaml cannot be read"]),
        (("demo", "--threads", "0"), ["--threads 0 is below 1"]),
        (("run", "glue/mrpc", "--seed", "-1"), ["--seed -1 is below 0"]),
        (("predict", "../model", "hello"), ["theseus.json"]),
        (("export", "../encoder", "--out", "out"), ["theseus finetune"]),
        (("export", "../model", "--out", "out", "--text", "a,b"), ["--text a,b without --data", "give both"]),
        (("export", "../model", "--out", "out", "--label", "c"), ["--label c without --data", "leave it out"]),
        (("export", "../model", "--out", "out", "--opset", "3"), ["--opset 3", "18..23"]),
        (("export", "../model", "--out", "out", "--opset", "24"), ["--opset 24", "18..23", "move it inside"]),
        (("export", "../model", "--out", "out", "--device", "cuda"), ["--device cuda", "CPU only"]),
        (
            ("benchmark", "../model", "--baseline", "../model", "--data", "../data", "--report", "r.pdf"),
            [".pdf", ".html"],
        ),
        (("benchmark", "../model", "--baseline", "../model", "--data", "../data", "--batch", "x"), ["--batch 'x'"]),
    ],
)
def test_a_bad_request_is_one_clear_line(
    theseus: Theseus, place: Path, words: tuple[str, ...], expected: list[str]
) -> None:
    refused(theseus(*words), place, *expected)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("finetune", "", "--data", "../data", "--out", "out"), "MODEL"),
        (("compress", "", "--data", "../data", "--out", "out"), "MODEL"),
        (("compress", "../model", "--data", "", "--out", "out"), "--data"),
        (("compress", "../model", "--data", "../data", "--out="), "--out"),
        ((*COMPRESS, "--text", ""), "--text"),
        ((*COMPRESS, "--label", ""), "--label"),
        (("export", "", "--out", "out"), "CHECKPOINT"),
        (("export", "../model", "--out", "out", "--data", ""), "--data"),
        (("export", "../model", "--out", "out", "--triton", ""), "--triton"),
        (("export", "../model", "--out", "out", "--push-to-hub", ""), "--push-to-hub"),
        (("benchmark", "", "--baseline", "../model", "--data", "../data"), "CANDIDATE..."),
        (("benchmark", "../model", "--baseline", "", "--data", "../data"), "--baseline"),
        (("benchmark", "../model", "--baseline", "../model", "--data", "../data", "--report", ""), "--report"),
        (("benchmark", "../model", "--baseline", "../model", "--data", "../data", "--against", ""), "--against"),
        (("plan", "", "--p99-ms", "9", "--qps", "9"), "REPORT"),
        (("plan", "report.json", "--p99-ms", "9", "--arrivals", ""), "--arrivals"),
        (("predict", "", "hello"), "BUNDLE"),
        (("predict", "bundle", "--file", ""), "--file"),
        (("run", ""), "RECIPE.yaml"),
        (("run", "demo", "--out", ""), "--out"),
        (("demo", "--out", ""), "--out"),
        (("verify", ""), "DIR"),
    ],
)
def test_an_empty_name_is_not_the_current_folder(
    theseus: Theseus, place: Path, words: tuple[str, ...], name: str
) -> None:
    refused(theseus(*words), place, f"Invalid value for '{name}': it is empty; give a name, or set the variable")


@pytest.mark.parametrize(
    "words",
    [
        ("export", LONG, "--out", "out"),
        ("export", "../model", "--out", LONG),
        ("compress", "../model", "--data", LONG, "--out", "out"),
        ("benchmark", LONG, "--baseline", "../model", "--data", "../data"),
        ("plan", LONG, "--p99-ms", "9", "--qps", "9"),
        ("run", LONG),
    ],
)
def test_a_path_that_no_system_takes_is_no_bug(theseus: Theseus, place: Path, words: tuple[str, ...]) -> None:
    refused(theseus(*words), place, LONG, "File name too long")


def test_a_label_the_model_does_not_know(theseus: Theseus, place: Path) -> None:
    write_csv(place / "bad.csv", [*make_rows(30, 1), ("the film", "neutral")])
    ran = theseus("compress", "../model", "--data", "bad.csv", "--out", "out")
    refused(ran, place, "'neutral'", "negative, positive", "row")


@pytest.mark.parametrize(
    "command",
    [("compress", "bad"), ("benchmark", "bad", "--baseline", "bad"), ("benchmark", "bad", "--baseline", "../model")],
)
def test_a_head_that_was_never_trained_is_told_before_labels_are(
    theseus: Theseus, place: Path, encoder_only: Path, command: tuple[str, ...]
) -> None:
    shutil.copytree(encoder_only, place / "bad")
    configure(place / "bad", id2label={"0": "LABEL_0", "1": "LABEL_1"})
    ran = theseus(*command, "--data", "../data", *["--out", "out"] * (command[0] == "compress"))
    refused(ran, place, "bad has no trained weights for classifier.bias, classifier.weight", "run `theseus finetune`")


def test_an_empty_split(theseus: Theseus, place: Path) -> None:
    (place / "bad").mkdir()
    write_csv(place / "bad" / "train.csv", make_rows(30, 1))
    write_csv(place / "bad" / "validation.csv", [])
    refused(theseus("compress", "../model", "--data", "bad", "--out", "out"), place, "validation", "is empty")


def test_an_output_folder_that_exists(theseus: Theseus, place: Path) -> None:
    (place / "bad").mkdir()
    (place / "bad" / "precious.txt").write_text("mine")
    for flags in ((), ("--overwrite",)):
        ran = theseus("finetune", "../encoder", "--data", "../data", "--out", "bad", *flags)
        refused(ran, place, "bad", "choose another --out")
    assert (place / "bad" / "precious.txt").read_text() == "mine"


def test_an_unfinished_schedule(theseus: Theseus, place: Path, tiny_bert: Path) -> None:
    partial = place / "bad.partial"
    shutil.copytree(tiny_bert, partial / "checkpoint-10")
    (partial / "request.json").write_text("{}")
    for words in ("bad.partial", "bad.partial/checkpoint-10", "bad"):
        ran = theseus("export", words, "--out", "out")
        refused(
            ran, place, f"{words} belongs to an unfinished training (bad.partial); repeat the command", "writes, bad"
        )


@pytest.mark.parametrize("mark", ["ours", "theirs"])
def test_weights_of_modules_that_are_still_being_replaced(
    theseus: Theseus, place: Path, tiny_bert: Path, mark: str
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    if mark == "ours":
        assemble(model, ModuleMap.even(4, 2))
    else:  # the original implementation keeps its successors beside the predecessor's layers
        model.bert.encoder.scc_layer = deepcopy(model.bert.encoder.layer[:2])
    shutil.copytree(tiny_bert, place / "bad")
    save_file(model.state_dict(), place / "bad" / "model.safetensors", {"format": "pt"})
    for command in (("export",), ("compress", "--data", "../data")):
        ran = theseus(command[0], "bad", *command[1:], "--out", "out")
        refused(ran, place, "bad is a model whose modules are still being replaced", "theseus compress")


def test_a_damaged_model(theseus: Theseus, place: Path, tiny_bert: Path) -> None:
    shutil.copytree(tiny_bert, place / "bad")
    weights = place / "bad" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(theseus("compress", "bad", "--data", "../data", "--out", "out"), place, "bad", "damaged")


def test_a_predecessor_that_answers_with_no_numbers(theseus: Theseus, place: Path, tiny_bert: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    model.classifier.bias.data[0] = float("nan")
    shutil.copytree(tiny_bert, place / "bad")
    save_file(model.state_dict(), place / "bad" / "model.safetensors", {"format": "pt"})
    ran = theseus("compress", "bad", "--data", "../data", "--out", "out", "--quiet")
    refused(ran, place, "the model answers ", " inputs with logits that are no numbers", "use another checkpoint")


def test_a_bundle_is_no_predecessor(theseus: Theseus, place: Path, int8_bundle: Path) -> None:
    ran = theseus("compress", int8_bundle, "--data", "../data", "--out", "out")
    refused(ran, place, "int8-dynamic", "not a checkpoint", "it was made from")


@pytest.mark.parametrize(("out", "where"), [("model", "is"), ("model/onnx", "lies in")])
def test_a_checkpoint_is_not_written_over_nor_into(
    theseus: Theseus, tmp_path: Path, pair_successor: Path, out: str, where: str
) -> None:
    model = shutil.copytree(pair_successor, tmp_path / "model")
    for command in (("export", model), ("compress", model, "--data", "demo:tweets")):
        ran = theseus(*command, "--out", tmp_path / out, "--overwrite", "--quiet")
        assert ran.code == 2
        assert f"{tmp_path / out} {where} the folder of {model}, which is only read; choose another --out" in ran.err
        assert Artifact.open(model).check_files() == []


def test_a_corrupted_bundle_is_named_by_its_file(theseus: Theseus, place: Path, int8_bundle: Path) -> None:
    shutil.copytree(int8_bundle, place / "bad")
    graph = place / "bad" / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    ran = theseus("verify", "bad")
    assert ran.code == 2
    assert "model.onnx was changed" in ran.err
    assert "BAD" in ran.out


@pytest.mark.parametrize("damage", [lambda old: b"garbage", lambda old: old[:-1000], lambda old: b""])
def test_a_corrupted_graph_answers_nothing(
    theseus: Theseus, place: Path, int8_bundle: Path, damage: Callable[[bytes], bytes]
) -> None:
    shutil.copytree(int8_bundle, place / "bad")
    graph = place / "bad" / "model.onnx"
    graph.write_bytes(damage(graph.read_bytes()))
    refused(theseus("predict", "bad", "a film"), place, "bad/model.onnx cannot be loaded", "export the bundle again")


def test_a_model_that_one_file_cannot_hold(theseus: Theseus, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theseus_deploy.export.onnx.MAX_BYTES", 10_000)
    ran = theseus("export", "../model", "--out", "out", "--quiet")
    refused(ran, place, "weights take 0.00 GB, and one ONNX file holds 0.00 GB; compress it to fewer layers first")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "bad has no tokenizer; add its"),
        ({"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic"}, "bad has only a slow tokenizer"),
    ],
)
def test_a_tokenizer_that_production_cannot_run(
    theseus: Theseus, place: Path, tiny_bert: Path, content: dict[str, str] | None, expected: str
) -> None:
    shutil.copytree(tiny_bert, place / "bad")
    (place / "bad" / "tokenizer.json").unlink()
    (place / "bad" / "tokenizer_config.json").unlink()
    if content:
        (place / "bad" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfilm\n")
        (place / "bad" / "tokenizer_config.json").write_text(json.dumps(content))
    refused(theseus("export", "bad", "--out", "out"), place, expected, "tokenizer.json")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "limit", [*(pytest.param(at, marks=pytest.mark.slow) for at in (500, 2_000)), 40_000]
)  # bytes: the disk is full at config, tokenizer, graph
def test_a_disk_that_fills_up_in_the_middle_of_an_export(theseus: Theseus, place: Path, limit: int) -> None:
    with largest_file(limit):
        ran = theseus("export", "../model", "--out", "out", "--quiet", "--threads", 1)
    refused(ran, place, "out cannot be written (File too large); free space or choose another --out")


def test_verify_refuses_what_theseus_did_not_write(theseus: Theseus, place: Path) -> None:
    ran = theseus("verify", "../data", "--quiet")
    assert ran.out.startswith("BAD  manifest  ../data has no readable theseus.json")
    refused(replace(ran, out=""), place, "1 of 1 checks failed", "../data has no readable theseus.json")


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("model: a\ndata: b\ncompres: {}\n", ["'compres'", "did you mean 'compress'"]),
        ("model: a\ndata: b\ncompress: {layer: 3}\n", ["compress: key 'layer'", "did you mean 'layers'"]),
        ("model: a\ndata: b\ncompress: {lr: fast}\n", ["--lr 'fast'", "a finite number"]),
        ("model: a\n", ["'data' is missing"]),
        ("model: ''\ndata: b\n", ["'model' is missing, empty or no text"]),
        ("- a\n", ["no mapping"]),
        ("model: [\n", ["no YAML"]),
        ("model: a\ndata: b\nexport: [{of: teacher}]\n", ["predecessor|successor"]),
        ("model: a\ndata: b\nexport:\n", ["predecessor|successor", "not None"]),
        ("model: a\ndata: b\nexport: [{of: successor}, {of: successor}]\n", ["successor-onnx-fp32 2 times"]),
    ],
)
def test_an_unreadable_recipe_names_the_key(theseus: Theseus, place: Path, recipe: str, expected: list[str]) -> None:
    (place / "bad.yaml").write_text(recipe)
    refused(theseus("run", "bad.yaml"), place, "bad.yaml", *expected)


def test_nothing_asked_is_the_help_and_no_error_beside_it(theseus: Theseus) -> None:
    ran = theseus()
    assert (ran.code, ran.err) == (2, "")
    assert "Usage: theseus" in ran.out


def test_an_unknown_command_is_sent_to_the_help_of_all(theseus: Theseus) -> None:
    ran = theseus("bogus", "demo")
    assert (ran.code, ran.err) == (2, "theseus: No such command 'bogus'; see `theseus --help`\n")


def test_with_json_an_error_leaves_stdout_empty(theseus: Theseus, place: Path) -> None:
    ran = theseus("compress", "./nothing", "--data", "../data", "--out", "out", "--json")
    refused(ran, place, "./nothing does not exist")
    with pytest.raises(json.JSONDecodeError):
        json.loads(ran.out)


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (["compress", "demo:minilm", "--out", "benchmark"], "kept: repeat the command to go on from there"),
        (["benchmark", "run", "--baseline", "compress"], "nothing was written"),
        (["predict", "bundle", "--file", "-"], "the answers that were written are whole"),
    ],
)
def test_an_interruption_says_what_is_kept(
    words: list[str], end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["theseus", *words])
    assert _interrupted() == 130
    said = capsys.readouterr().err
    assert said.startswith("theseus: interrupted; ")
    assert said.endswith(f"{end}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="there nobody sends SIGTERM")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_an_interrupt_that_the_garbage_collector_swallows_comes_again(name: str) -> None:
    code = f"""
import signal, time, weakref
from theseus_deploy_cli.main import obey_signals

class Kept: pass

signal.signal(signal.{name}, signal.SIG_DFL)  # which this test may have been started without, as by nohup
obey_signals()
kept = Kept()
kept.itself = kept
watch = weakref.ref(kept, lambda _: signal.raise_signal(signal.{name}))
del kept
try:
    import gc
    gc.collect()
    print("swallowed", flush=True)
    time.sleep(100)
except KeyboardInterrupt:
    print("interrupted")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("swallowed\ninterrupted\n", "")
