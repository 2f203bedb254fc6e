"""When a ratio is known well enough, on constructed samples."""

import numpy as np
import pytest

from theseus_deploy.benchmark.latency import CONTROL, Timings, _known, summarise
from theseus_deploy.benchmark.report import Shape

DRAW = np.random.default_rng(1)
BASE, ONE = (scale * DRAW.lognormal(0, 0.02, (40, 8)) for scale in (1.0, 0.5))


def timed(control: float, spread: float = 0.02) -> Timings:
    again = control * np.random.default_rng(2).lognormal(0, spread, (40, 8))
    return Timings(Shape(1, "data"), {"base": BASE, "one": ONE, CONTROL: again})


@pytest.mark.parametrize(("limit", "known"), [(0.45, True), (0.5, False), (0.55, True)])
def test_a_ratio_that_is_judged_must_be_clear_of_its_limit(limit: float, known: bool) -> None:
    assert _known(timed(control=1.0), "base", 1, {"one": [(0.5, limit)]}) is known
    assert _known(timed(control=1.0), "base", 1, {})


def test_the_noise_of_the_machine_is_part_of_being_clear() -> None:
    assert not _known(timed(control=1.2), "base", 1, {"one": [(0.5, 0.55)]})
    assert _known(timed(control=1.2), "base", 1, {"one": [(0.5, 0.65)]})


def test_every_limit_counts() -> None:
    assert not _known(timed(control=1.0), "base", 1, {"one": [(0.5, 0.7), (0.5, 0.5)]})


def test_a_wide_ratio_is_not_known_though_nobody_judges_it() -> None:
    assert not _known(timed(control=1.0, spread=1.0), "base", 1, {})


def test_cost_and_cores_follow_from_the_mean() -> None:
    latency = summarise(timed(control=1.0), "one", "base", 1, cores=2, price_per_hour=7.2)
    assert latency.per_second_and_core == pytest.approx(latency.per_second / 2)
    assert latency.cost_per_million == pytest.approx(0.002 * 1e6 * latency.mean)
    bare = summarise(timed(control=1.0), "one", "base", 1)
    assert (bare.per_second_and_core, bare.cost_per_million) == (None, None)
