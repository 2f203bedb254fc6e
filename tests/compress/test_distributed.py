"""Property 14: processes that share a training draw the same masks, and learn together what one would alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compress import one_rank
from tests.trainings import CONFIG
from theseus_deploy.compress.schedule import replacement_mask
from theseus_deploy.configs import CompressConfig
from theseus_deploy.distributed import World
from theseus_deploy.errors import ConfigError
from theseus_deploy.training import Length

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def launch(command: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def run(folder: Path, thaw: str) -> list[dict[str, Any]]:
    """Run one_rank.py in two processes and return what each saw."""
    done = launch(TORCHRUN, str(Path(__file__).with_name("one_rank.py")), str(folder), thaw)
    assert done.returncode == 0, done.stderr
    return outcomes(folder)


def outcomes(folder: Path) -> list[dict[str, Any]]:
    return [
        {**torch.load(path), "log": json.loads(path.with_suffix(".json").read_text())}
        for path in sorted(folder.glob("rank*.pt"))
    ]


@pytest.fixture(
    scope="module",
    params=[pytest.param("all", marks=pytest.mark.thorough), pytest.param("none", marks=pytest.mark.slow)],
)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("two")
    return request.param, run(folder, request.param)


def test_two_ranks_draw_the_same_masks_and_end_with_the_same_weights(ranks: tuple[str, list[dict[str, Any]]]) -> None:
    _, (one, other) = ranks
    rate = [0.3 + 0.7 * min(step / 12, 1) for step in range(24)]
    assert one["masks"] == other["masks"]
    assert one["masks"] == [list(replacement_mask(CONFIG.seed, step, 2, rate[step])) for step in range(24)]
    assert one["log"][:-1] == other["log"][:-1]  # the last line says how long it took
    for name, weight in one["weights"].items():
        assert torch.equal(weight, other["weights"][name]), name


def test_a_module_that_is_not_drawn_does_not_move_on_any_rank(ranks: tuple[str, list[dict[str, Any]]]) -> None:
    for outcome in ranks[1]:
        undrawn = 0
        for step in range(1, 24):
            for module, drawn in enumerate(outcome["masks"][step]):
                moved = not torch.equal(outcome["modules"][step][module], outcome["modules"][step - 1][module])
                assert moved == drawn, f"step {step}, module {module}"
                undrawn += not drawn
        assert undrawn >= 5


def test_two_ranks_learn_as_one_process_with_the_whole_batch_does(
    ranks: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    thaw, (two, _) = ranks
    one_rank.run(tmp_path, thaw)
    (one,) = outcomes(tmp_path)

    def losses(outcome: dict[str, Any]) -> list[float]:
        return [line["loss"] for line in outcome["log"] if "loss" in line]

    assert len(losses(one)) >= 4
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    evaluated = [[line for line in outcome["log"] if "eval_accuracy" in line] for outcome in (one, two)]
    assert evaluated[0] == evaluated[1]
    for name, weight in one["weights"].items():
        if "key.bias" not in name:  # its gradient is rounding noise around 0, which Adam blows up
            torch.testing.assert_close(two["weights"][name], weight, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_two_ranks_that_were_killed_resume_bit_equal(ranks: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    thaw, straight = ranks
    script = str(Path(__file__).with_name("one_rank.py"))
    assert launch(TORCHRUN, script, str(tmp_path), thaw, "11").returncode != 0
    resumed = run(tmp_path, thaw)
    assert len(resumed[0]["masks"]) == 14  # saved at step 10, in the second epoch
    for before, after in zip(straight, resumed, strict=True):
        for name, weight in before["weights"].items():
            assert torch.equal(weight, after["weights"][name]), name


@pytest.mark.slow
def test_the_command_runs_under_a_launcher_and_one_process_speaks(
    tiny_bert: Path, corpus: Path, tmp_path: Path
) -> None:
    asked = ["compress", str(tiny_bert), "--data", str(corpus), "--out", str(tmp_path / "out"), "--max-steps", "8",
             "--batch-size", "8", "--device", "cpu", "--json"]  # fmt: skip
    done = launch([*TORCHRUN, "-m", "theseus_deploy_cli.main"], *asked)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layers"] == 2
    assert not (tmp_path / "out.partial").exists()


def test_a_batch_must_be_divisible_among_the_processes() -> None:
    with pytest.raises(ConfigError, match="--batch-size 8 cannot be divided among 3 processes; use a multiple of 3"):
        Length.of(CompressConfig(batch_size=8), 100, World(0, 3))
