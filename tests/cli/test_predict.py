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

SHAPES = {"single-label": {"label", "score", "scores"}, "multi-label": {"labels", "scores"}, "tokens": {"entities"}}


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
