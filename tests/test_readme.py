"""The README tells the truth: its table is the committed report's, its commands and flags exist, its recipe parses."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.readme import DOCUMENTS, README, RESULTS, with_tables
from theseus_deploy.pipeline import Recipe
from theseus_deploy_cli.main import COMMANDS, app

TEXT = README.read_text("utf-8")
SHELL = [line.strip() for line in TEXT.splitlines() if line.startswith("    theseus ")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_tables_are_what_the_committed_results_say(document: Path) -> None:
    assert with_tables(document) == document.read_text("utf-8")


@pytest.mark.parametrize("line", SHELL)
def test_every_command_takes_the_flags_it_is_shown_with(line: str) -> None:
    command = line.split()[1]
    assert command in COMMANDS
    shown = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [command, "--help"]).output
    assert set(re.findall(r"--[a-z0-9-]+", line)) <= set(re.findall(r"--[a-z0-9-]+", shown))


def test_every_command_is_shown() -> None:
    assert {line.split()[1] for line in SHELL} >= set(COMMANDS) - {"demo"}


def test_the_recipe_is_one() -> None:
    recipe = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert recipe is not None
    assert Recipe.parse(recipe[1], "README").benchmark is not None


def test_no_file_names_this_machine() -> None:
    for path in (*DOCUMENTS, *RESULTS.iterdir(), README.with_name("CHANGELOG.md")):
        assert str(Path.cwd()) not in path.read_text("utf-8"), path
