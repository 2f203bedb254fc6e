import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from theseus_deploy.benchmark.latency import MIN_ROUNDS, MOST_IN_A_ROUND
from theseus_deploy.benchmark.stats import (
    Estimate,
    Interval,
    bootstrap,
    correlation,
    median_ratio,
    median_ratio_change,
    paired_difference,
    quantile_ratio,
    ranks,
    share,
)


def covered(interval: Interval, truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def make_times(
    draw: np.random.Generator, rounds: int, size: int, ratio: float, drift: float
) -> tuple[np.ndarray, np.ndarray]:
    shared = np.exp(drift * draw.standard_normal((rounds, 1)))
    candidate, baseline = (0.005 * shared * (1 + draw.gamma(1, 0.05, (rounds, size))) for _ in range(2))
    return ratio * candidate, baseline


def test_pairing_removes_what_slows_a_whole_round() -> None:
    draw = np.random.default_rng(1)
    candidate, baseline = make_times(draw, 40, 5, ratio=0.5, drift=0.5)
    paired = quantile_ratio(candidate, baseline, 0.5, seed=1)
    unpaired = quantile_ratio(draw.permutation(candidate), baseline, 0.5, seed=1)
    assert covered(paired.interval, 0.5)
    assert paired.half_width < unpaired.half_width / 3


@pytest.mark.parametrize(("rounds", "size"), [(5, 4), (30, 1)])
def test_the_interval_of_a_ratio_covers_the_truth(rounds: int, size: int) -> None:
    draw = np.random.default_rng(2)
    hits = sum(
        covered(quantile_ratio(*make_times(draw, rounds, size, 0.5, drift=0.1), 0.5, seed=1).interval, 0.5)
        for _ in range(150)
    )
    assert hits / 150 >= 0.93


def test_equal_candidates_are_equal() -> None:
    times = make_times(np.random.default_rng(3), 30, 4, ratio=1.0, drift=0.2)
    assert covered(quantile_ratio(*times, 0.5, seed=1).interval, 1.0)
    assert covered(quantile_ratio(*times, 0.95, seed=1).interval, 1.0)


def make_lengths(draw: np.random.Generator, rounds: int = 30, size: int = 8) -> np.ndarray:
    """The times of batches of many lengths, on a machine that slows down for rounds at a time."""
    return np.exp(0.3 * draw.standard_normal((rounds, size)) + 0.3 * draw.standard_normal((rounds, 1)))


def with_jitter(draw: np.random.Generator, times: np.ndarray) -> np.ndarray:
    return times * (1 + draw.gamma(1, 0.05, times.shape))


def test_pairing_by_batch_removes_its_length_too() -> None:
    draw = np.random.default_rng(11)
    times = make_lengths(draw)
    candidate, baseline = 0.5 * with_jitter(draw, times), with_jitter(draw, times)
    by_batch, by_round = median_ratio(candidate, baseline, seed=1), quantile_ratio(candidate, baseline, 0.5, seed=1)
    assert by_batch.value == pytest.approx(np.median(candidate / baseline))
    assert covered(by_batch.interval, 0.5)
    assert by_batch.half_width < by_round.half_width / 2
    assert by_batch == median_ratio(candidate, baseline, seed=1)


@pytest.mark.parametrize(
    ("rounds", "size"), [(MIN_ROUNDS, MOST_IN_A_ROUND), pytest.param(30, 1, marks=pytest.mark.thorough)]
)
def test_the_interval_of_a_median_ratio_covers_the_truth(rounds: int, size: int) -> None:
    draw, hits = np.random.default_rng(12), 0
    for _ in range(600):
        times = make_lengths(draw, rounds, size)
        found = median_ratio(0.5 * with_jitter(draw, times), with_jitter(draw, times), seed=1)
        hits += covered(found.interval, 0.5)
    assert hits / 600 == pytest.approx(0.95, abs=0.03)


def test_rounds_that_are_alike_inside_count_once() -> None:
    draw = np.random.default_rng(13)
    baseline, once = np.ones((12, 1)), np.exp(0.1 * draw.standard_normal((12, 1)))
    alone, repeated = (median_ratio(np.tile(once, size), np.tile(baseline, size), seed=1) for size in (1, 8))
    assert repeated.half_width > 0.8 * alone.half_width


def test_changes_in_the_same_rounds_multiply_and_cancel_what_they_share() -> None:
    draw = np.random.default_rng(14)
    times = make_lengths(draw)
    base, middle, end = (scale * with_jitter(draw, times) for scale in (1.0, 0.5, 0.4))
    step = median_ratio_change((end, base), (middle, base), (1, 1))
    assert step.value * median_ratio(middle, base, 1).value == pytest.approx(median_ratio(end, base, 1).value)
    assert step.value == pytest.approx(0.8, rel=0.02)
    assert step.half_width < median_ratio_change((end, base), (middle, base), (1, 2)).half_width


def test_a_ratio_is_that_of_the_quantiles_and_the_same_for_the_same_seed() -> None:
    candidate, baseline = make_times(np.random.default_rng(4), 20, 3, ratio=0.25, drift=0.2)
    found = quantile_ratio(candidate, baseline, 0.95, seed=7)
    assert found.value == pytest.approx(np.quantile(candidate, 0.95) / np.quantile(baseline, 0.95))
    assert found == quantile_ratio(candidate, baseline, 0.95, seed=7)
    assert covered(found.interval, found.value)


def test_a_slowdown_common_to_all_samples_scales_the_interval() -> None:
    candidate, baseline = make_times(np.random.default_rng(5), 20, 3, ratio=0.25, drift=0.2)
    once, twice = (quantile_ratio(factor * candidate, baseline, 0.5, seed=1) for factor in (1, 2))
    assert twice.interval == pytest.approx([2 * bound for bound in once.interval])


def test_few_rows_that_all_agree_prove_little() -> None:
    few, many = share(np.ones(10, dtype=bool)), share(np.ones(10_000, dtype=bool))
    assert few.value == many.value == 1.0
    assert few.interval[0] < 0.8 < 0.999 < many.interval[0]
    assert few.interval[1] == many.interval[1] == 1.0


@pytest.mark.parametrize(("rows", "rate"), [(50, 0.95), (400, 0.8)])
def test_the_interval_of_a_share_covers_the_truth(rows: int, rate: float) -> None:
    draw = np.random.default_rng(6)
    hits = sum(covered(share(draw.random(rows) < rate).interval, rate) for _ in range(600))
    assert hits / 600 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("rows", [60, 500])
def test_the_interval_of_a_paired_difference_covers_the_truth(rows: int) -> None:
    draw, hits = np.random.default_rng(7), 0
    for _ in range(600):
        kind = draw.choice(4, size=rows, p=[0.82, 0.06, 0.02, 0.1])  # both right, first only, second only, neither
        first, second = np.isin(kind, [0, 1]).astype(float), np.isin(kind, [0, 2]).astype(float)
        hits += covered(paired_difference(first, second).interval, 0.04)
    assert hits / 600 == pytest.approx(0.955, abs=0.03)


def test_a_paired_difference_of_equals_is_zero_and_not_certain() -> None:
    right = np.random.default_rng(8).random(50) < 0.9
    found = paired_difference(right.astype(float), right.astype(float))
    assert found.value == 0
    assert found.interval[0] < 0 < found.interval[1]
    assert paired_difference(np.ones(10), np.zeros(10)).interval[1] == 1.0
    assert paired_difference(np.zeros(1), np.ones(1)).interval[0] == -1.0


def test_a_bootstrap_is_that_of_the_inputs() -> None:
    sorts, values = np.array([30.0, 50.0, 20.0]), np.array([0.0, 1.0, 5.0])
    found = bootstrap(lambda drawn: drawn @ values / drawn.sum(axis=1), sorts, 0, seed=1)
    spread = np.sqrt(np.average((values - 1.5) ** 2, weights=sorts) / 100)
    assert found.value == pytest.approx(1.5)
    assert found.interval == pytest.approx((1.5 - 1.96 * spread, 1.5 + 1.96 * spread), abs=0.1)
    assert found == bootstrap(lambda drawn: drawn @ values / drawn.sum(axis=1), sorts, 0, seed=1)


def test_a_bootstrap_of_what_is_all_alike_is_not_certain() -> None:
    def hits(drawn: np.ndarray) -> np.ndarray:
        return drawn[:, :2].sum(axis=1) / drawn.sum(axis=1)

    few, many = (bootstrap(hits, np.array([float(count)]), 2, seed=1) for count in (10, 10_000))
    assert few.value == many.value == 1.0
    assert few.interval[0] < 0.95 < 0.999 < many.interval[0]
    sure = bootstrap(lambda drawn: drawn[:, 0] / drawn.sum(axis=1), np.array([10.0]), 0, seed=1)
    assert sure.interval == (1.0, 1.0)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_weighted_correlation_is_that_of_the_rows_repeated(offset: float) -> None:
    draw = np.random.default_rng(9)
    first = draw.integers(0, 12, size=60) + offset  # with ties
    second = first + 3 * draw.standard_normal(60)
    weights = draw.multinomial(60, np.full(60, 1 / 60), size=20).astype(float)
    ranked = [ranks(weights, series) for series in (first, second)]
    for row, weight in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(60), weight)
        expected = pearsonr(first[rows], second[rows]).statistic, spearmanr(first[rows], second[rows]).statistic
        found = correlation(weights, first, second)[row], correlation(weights, *ranked)[row]
        assert found == pytest.approx(expected, abs=1e-8)


def test_a_constant_correlates_with_nothing() -> None:
    draw = np.random.default_rng(10)
    first, second = draw.standard_normal((2, 200))
    assert correlation(np.ones((1, 200)), np.full(200, 0.3), second).tolist() == [0.0]
    alone = 49 * np.eye(200)  # each resample is of one input alone
    assert correlation(alone, first, second).tolist() == [0.0] * 200


def test_independent_errors_add_up_in_squares_on_both_sides() -> None:
    wide = Estimate(2.0, (2 * math.exp(-0.3), 2 * math.exp(0.03)))
    expected = pytest.approx((2 * math.exp(-0.5), 2 * math.exp(math.hypot(0.03, 0.4))))
    for noise in ((0.4, 0.4), (0.4, 0.04), (0.04, 0.4), (0.4, -0.01), (-0.01, 0.4)):
        assert wide.widened((math.exp(-noise[0]), math.exp(noise[1]))).interval == expected
    assert wide.widened((1.0, 1.0)).interval == pytest.approx(wide.interval)


@pytest.mark.parametrize("slow", [True, False])
def test_which_of_two_equal_processes_was_the_slow_one_decides_nothing(slow: bool) -> None:
    """A candidate is 15 % above the quick one; the noise lies between them, whichever is called the baseline."""
    draw = np.random.default_rng(0)
    load = draw.lognormal(0, 0.3, (30, 4))
    first, second, candidate = (scale * load * draw.lognormal(0, 0.02, (30, 4)) for scale in (1.10, 1.0, 1.15))
    baseline, control = (first, second) if slow else (second, first)
    low, high = median_ratio(candidate, baseline, 1).widened(median_ratio(control, baseline, 1).interval).interval
    assert low < 1.10 < high
