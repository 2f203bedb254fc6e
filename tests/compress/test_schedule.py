"""Properties 4, 5 and 10 of the paper's list: the draws, their moments, and when the rate reaches 1."""

import random

import numpy as np
import pytest
import torch

from theseus_deploy.compress.schedule import Schedule, replacement_mask
from theseus_deploy.errors import ConfigError


def test_the_papers_line_reaches_one_at_its_step() -> None:
    schedule = Schedule.of("linear", 0.3, total_steps=5000, replace_until=0.5, k=0.0006)
    assert schedule.rate(0) == pytest.approx(0.3)
    assert schedule.rate(100) == pytest.approx(0.36, abs=1e-4)
    assert schedule.rate(1166) < 1.0
    assert schedule.rate(1167) == 1.0


def test_the_papers_slope_is_not_bent_to_end_at_a_whole_step() -> None:
    schedule = Schedule.of("linear", 0.3, total_steps=10, replace_until=0.5, k=0.25)
    assert [schedule.rate(step) for step in range(5)] == pytest.approx([0.3, 0.55, 0.8, 1.0, 1.0])


def test_the_curriculum_by_fraction_rises_in_a_line_and_stays_at_one() -> None:
    schedule = Schedule.of("linear", 0.1, total_steps=1000, replace_until=0.4, k=None)
    rates = [schedule.rate(step) for step in range(1000)]
    assert np.allclose(np.diff(rates[:401]), 0.9 / 400)
    assert rates[399] < 1.0
    assert set(rates[400:]) == {1.0}


def test_the_constant_schedule_gives_n_updates_at_p_and_then_one() -> None:
    schedule = Schedule.of("constant", 0.5, total_steps=100, replace_until=0.6, k=None)
    assert [schedule.rate(step) for step in range(100)] == [0.5] * 60 + [1.0] * 40


def test_the_anti_curriculum_mirrors_the_curriculum_and_ends_with_the_whole_successor() -> None:
    linear = Schedule("linear", 0.3, 50)
    anti = Schedule("anti", 0.3, 50)
    assert [anti.rate(step) for step in range(50)] == [1 - linear.rate(step) for step in range(50)]
    assert anti.rate(50) == 1.0


def test_a_rate_that_falls_from_1_is_not_whole_yet() -> None:
    anti = Schedule("anti", 0.0, 12)
    assert anti.rate(0) == 1.0
    assert [anti.whole(step) for step in (0, 1, 11, 12, 13)] == [False, False, False, True, True]
    assert [Schedule("constant", rate, 12).whole(0) for rate in (0.9, 1.0)] == [False, True]
    assert [Schedule("linear", 0.5, 12, k).whole(6) for k in (None, 0.1)] == [False, True]


def test_replacing_no_steps_is_truncation_from_the_start() -> None:
    assert Schedule.of("linear", 0.3, 100, replace_until=0.0, k=None).rate(0) == 1.0


def test_a_slope_that_never_reaches_one_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--k 0\.001 and --base-rate 0\.3 end the replacing after 700 steps, but training has 500"
    ):
        Schedule.of("linear", 0.3, total_steps=500, replace_until=0.5, k=0.001)


@pytest.mark.parametrize("until", [1.0, 0.9999])
def test_a_rate_that_reaches_one_when_all_is_over_is_refused(until: float) -> None:
    with pytest.raises(ConfigError, match=rf"--replace-until {until:g} leaves none of 500 steps at rate 1, where"):
        Schedule.of("linear", 0.3, total_steps=500, replace_until=until, k=None)
    assert Schedule.of("linear", 0.3, total_steps=500, replace_until=0.998, k=None).replacing_steps == 499


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.9])
def test_the_mask_has_the_moments_of_independent_draws(rate: float) -> None:
    n, steps = 6, 10_000
    masks = np.array([replacement_mask(7, step, n, rate) for step in range(steps)], float)
    replaced = masks.sum(axis=1)
    assert replaced.mean() == pytest.approx(n * rate, abs=4 * np.sqrt(n * rate * (1 - rate) / steps))
    assert replaced.var() == pytest.approx(n * rate * (1 - rate), rel=0.06)
    correlation = np.corrcoef(masks.T) - np.eye(n)
    assert np.abs(correlation).max() < 0.05


@pytest.mark.parametrize(("rate", "expected"), [(0.0, False), (1.0, True)])
def test_the_ends_are_certain(rate: float, expected: bool) -> None:
    assert all(set(replacement_mask(3, step, 12, rate)) == {expected} for step in range(200))


def test_the_mask_is_a_function_of_seed_and_step() -> None:
    first = [replacement_mask(1, step, 6, 0.5) for step in range(64)]
    assert first == [replacement_mask(1, step, 6, 0.5) for step in range(64)]
    assert first != [replacement_mask(2, step, 6, 0.5) for step in range(64)]
    assert len(set(first)) > 16


def test_drawing_leaves_every_global_random_state_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    replacement_mask(1, 2, 6, 0.5)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
