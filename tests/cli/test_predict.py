"""One JSON line an input, of the shape that its kind of task has."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran
from theseus_deploy.machine import this_machine
from theseus_deploy.predictor import Predictor

SHAPES = {"single-label": {"label", "score", "scores"}, "multi-label": {"labels", "scores"}, "tokens": {"entities"}}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", SHAPES)
def test_an_answer_has_the_keys_of_its_kind(
    theseus: Callable[..., Ran], family: Callable[[str, str], Path], fp32_bundle: Path, kind: str
) -> None:
    bundle = fp32_bundle if kind == "single-label" else family("bert", kind) / "bundle"
    ran = theseus("predict", bundle, "Anna Karenina lives near it", "", "--threads", 1)
    answers = [json.loads(line) for line in ran.out.splitlines()]
    assert (ran.code, ran.err, len(answers)) == (0, "", 2)
    assert all(answer.keys() == SHAPES[kind] for answer in answers)


def test_entities_stand_where_they_say_in_the_line(
    theseus: Callable[..., Ran], family: Callable[[str, str], Path], tmp_path: Path
) -> None:
    lines = ["the Empire State Building\tstands in New York", "  Anna 😂 lives near it "]
    (tmp_path / "lines.txt").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    ran = theseus("predict", family("bert", "tokens") / "bundle", "--file", tmp_path / "lines.txt", "--json")
    answers = json.loads(ran.out)
    assert len(answers) == 2
    for line, answer in zip(lines, answers, strict=True):
        assert answer["entities"]
        assert all(entity["text"] == line[entity["start"] : entity["end"]] for entity in answer["entities"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--file", "latin.txt"), "theseus: --file latin.txt, line 2 is not UTF-8; convert the file"),
        (("--file", "wide.txt"), "theseus: --file wide.txt, line 1 is not UTF-8; convert the file"),
        (("a film \udce9",), "theseus: text 1 is not UTF-8; convert it"),
        (
            ("--file", "table.csv"),
            "theseus: --file table.csv is a table, and one text a line is read; write its texts",
        ),
        (
            ("--file", "rows.JSONL"),
            "theseus: --file rows.JSONL is a table, and one text a line is read; write its texts",
        ),
        (("a film", "--threads", 0), "theseus: --threads 0 is not between 1 and the "),
        (("a film", "--threads", 100_000), "theseus: --threads 100000 is not between 1 and the "),
    ],
)
def test_texts_and_threads_that_cannot_be_taken_are_one_line(
    theseus: Callable[..., Ran], fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...], expected: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes("a film\nfianc\xe9e\n".encode("latin-1"))
    Path("wide.txt").write_bytes("a film\n".encode("utf-16"))
    ran = theseus("predict", fp32_bundle, *words)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert line.startswith(expected)


def test_where_to_compute_is_asked_as_of_every_command(theseus: Callable[..., Ran], fp32_bundle: Path) -> None:
    ran = theseus("predict", fp32_bundle, "good film", "--device", "cpu", "--threads", 1, "--seed", 7)
    assert (ran.code, ran.out) == (0, theseus("predict", fp32_bundle, "good film").out)
    ran = theseus("predict", fp32_bundle, "good film", "--device", "cuda")
    assert ran.code == 2
    assert "'cuda' is not one of" in ran.err


def test_stdin_is_read_as_a_file_is(fp32_bundle: Path) -> None:
    def ask(shell: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        code = f"import sys; sys.argv = ['theseus', 'predict', {str(fp32_bundle)!r}, '--file', '-']; "
        code += "from theseus_deploy_cli.main import run; run()"
        command = ["sh", "-c", f'"$0" -c "$1" {shell}', sys.executable, code]
        return subprocess.run(command, input=given, capture_output=True, check=False)

    done = ask("", b"\xef\xbb\xbfa film\r\ncaf\xc3\xa9\n")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert ask("", b"\xff\n").stderr == b"theseus: --file -, line 1 is not UTF-8; convert the file\n"
    closed = ask("<&-")
    assert (closed.returncode, closed.stderr[:31]) == (2, b"theseus: --file -, but stdin is")


def test_a_tab_divides_a_pair_where_the_bundle_does_not_say_what_it_reads(
    theseus: Callable[..., Ran], fp32_bundle: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "theseus.json").read_text())
    manifest["task"]["text"] = []
    (folder / "theseus.json").write_text(json.dumps(manifest))
    found = json.loads(theseus("predict", folder, "good film\tbad film", "--json").out)
    assert found == Predictor(folder).predict([("good film", "bad film")])
    manifest["task"]["text"] = ["one", "other"]
    (folder / "theseus.json").write_text(json.dumps(manifest))
    ran = theseus("predict", folder, "good film\tbad film", "alone")
    assert (ran.code, ran.err) == (
        2,
        "theseus: input 2 has one text, and the model takes two; divide them with a tab\n",
    )


def test_a_warning_is_one_line_on_stderr(int8_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(int8_bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "theseus.json").read_text())
    manifest["machine"]["isa"] = ["avx2"] if this_machine().native_int8 else ["avx512_vnni"]
    (folder / "theseus.json").write_text(json.dumps(manifest))
    code = f"import sys; sys.argv = ['theseus', 'predict', {str(folder)!r}, 'a film']; "
    code += "from theseus_deploy_cli.main import run; run()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["label"] in ("negative", "positive")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"theseus: warning: {folder} was quantised on ")
