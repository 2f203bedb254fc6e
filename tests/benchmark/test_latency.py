"""When a ratio is known well enough, on constructed samples."""

import numpy as np
import pytest

from theseus_deploy.benchmark.against import Past
from theseus_deploy.benchmark.gate import latency_limits
from theseus_deploy.benchmark.latency import CONTROL, Limit, Timings, _decided, _known, summarise
from theseus_deploy.benchmark.report import Shape
from theseus_deploy.configs import BenchmarkConfig

DRAW = np.random.default_rng(1)
BASE, ONE = (scale * DRAW.lognormal(0, 0.02, (40, 8)) for scale in (1.0, 0.5))


def timed(control: float, spread: float = 0.02) -> Timings:
    again = control * np.random.default_rng(2).lognormal(0, spread, (40, 8))
    return Timings(Shape(1, "data"), {"base": BASE, "one": ONE, CONTROL: again})


def limits(past: Past | None = None, **asked: float) -> dict[str, list[Limit]]:
    return {"one": latency_limits(BenchmarkConfig(seed=1, **asked), "base", past)}


@pytest.mark.parametrize(("limit", "decided"), [(0.45, True), (0.5, False), (0.55, True)])
def test_a_ratio_that_is_judged_must_be_clear_of_its_limit(limit: float, decided: bool) -> None:
    assert _decided(timed(control=1.0), limits(max_p50_ratio=limit)) is decided
    assert _decided(timed(control=1.0), limits())


def test_the_noise_of_the_machine_is_part_of_being_clear() -> None:
    assert not _decided(timed(control=1.2), limits(max_p50_ratio=0.55))
    assert _decided(timed(control=1.2), limits(max_p50_ratio=0.65))


def test_every_limit_counts() -> None:
    assert not _decided(timed(control=1.0), limits(max_p50_ratio=0.7, max_p95_ratio=0.5))


def test_a_change_that_is_judged_must_be_clear_of_its_limit_with_the_errors_of_both_reports() -> None:
    draw = np.random.default_rng(3)
    asked = {"against": "earlier.json", "max_regression_ratio": 1.05}
    base, one = (scale * draw.lognormal(0, 0.02, (40, 8)) for scale in (1.0, 0.5))
    assert _decided(timed(control=1.0), limits(Past(one, base, (1.0, 1.0)), **asked))
    assert not _decided(timed(control=1.0), limits(Past(one, base, (0.9, 1.1)), **asked))
    loud = 0.5 * draw.lognormal(0, 0.5, (10, 2))
    assert not _decided(timed(control=1.0), limits(Past(loud, base[:10, :2], (1.0, 1.0)), **asked))
    assert _decided(timed(control=1.0), limits(None, **asked))


def test_a_wide_ratio_is_not_known_though_nobody_judges_it() -> None:
    assert _known(timed(control=1.0), "base", 1)
    assert not _known(timed(control=1.0, spread=1.0), "base", 1)


def test_cost_and_cores_follow_from_the_mean() -> None:
    latency = summarise(timed(control=1.0), "one", "base", 1, cores=2, price_per_hour=7.2)
    assert latency.per_second_and_core == pytest.approx(latency.per_second / 2)
    assert latency.cost_per_million == pytest.approx(0.002 * 1e6 * latency.mean)
    bare = summarise(timed(control=1.0), "one", "base", 1)
    assert (bare.per_second_and_core, bare.cost_per_million) == (None, None)
