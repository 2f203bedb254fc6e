import numpy as np
import pytest

from tests.benchmark.reports import make_report
from theseus_deploy.benchmark.report import Paced
from theseus_deploy.errors import ArtifactError, ConfigError
from theseus_deploy.plan.service import LEVELS, ServiceTimes


def test_the_table_has_what_was_measured_and_interpolates_between() -> None:
    times = ServiceTimes({1: np.array([[1.0, 3.0]]), 5: np.array([[10.0], [30.0]])}, most=3)
    table = times.table()
    assert table.shape == (3, LEVELS)
    assert sorted(set(table[0])) == [1.0, 3.0]
    assert table[0].mean() == 2.0
    assert sorted(set(table[1])) == pytest.approx([1 + 9 / 4, 3 + 27 / 4])
    assert table[2].mean() == pytest.approx((2 + 20) / 2)


def test_a_measured_size_is_not_interpolated() -> None:
    times = ServiceTimes.of(make_report().baseline)
    assert times.most == 8
    for size, samples in times.measured.items():
        assert times.table()[size - 1].mean() == pytest.approx(samples.mean(), rel=0.01)
        assert np.quantile(times.table()[size - 1], 0.9) == pytest.approx(np.quantile(samples, 0.9), rel=0.03)


def test_the_overhead_is_on_every_batch() -> None:
    bare, laden = (ServiceTimes.of(make_report().baseline, 4, overhead=overhead) for overhead in (0.0, 0.25))
    assert laden.table() == pytest.approx(bare.table() + 0.25)


def test_whole_rounds_are_resampled() -> None:
    times = ServiceTimes({1: np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])}, most=1)
    seen = [tuple(np.unique(times.table(np.random.default_rng(seed)))) for seed in range(20)]
    assert len(set(seen)) > 3
    assert all((value + 1 in one) for one in seen for value in one if value % 2)


def test_a_server_with_pauses_is_slower_by_how_busy_it_is() -> None:
    paced = (Paced(0.6, (1.1,), (1.2,)), Paced(0.2, (1.2, 1.3, 9.0), (1.0, 1.0, 1.0)))
    times = ServiceTimes({1: np.full((1, 1), 5.0), 2: np.full((1, 1), 7.0)}, 2, paced)
    seconds, middle = times.seconds(), LEVELS // 2
    shares = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert [seconds.at(share)[0, middle] for share in shares] == pytest.approx([5.3, 5.3, 5.15, 5, 5, 5], rel=0.01)
    assert seconds.at(0.2)[1, middle] == pytest.approx(7.3, rel=0.01)
    assert seconds.at(0.2)[0, -1] == pytest.approx(13.0, rel=0.01)  # the tail grows by more
    assert len({times.seconds(np.random.default_rng(seed)).at(0.2)[0, middle] for seed in range(20)}) > 1
    assert (ServiceTimes(times.measured, 2).seconds().at(0.1) == times.table()).all()


def test_capacity_is_that_of_the_best_batch() -> None:
    assert ServiceTimes({1: np.array([[0.1]]), 4: np.array([[0.2]])}, most=4).capacity == pytest.approx(20)
    assert ServiceTimes({1: np.array([[0.1]]), 4: np.array([[0.8]])}, most=4).capacity == pytest.approx(10)


def test_a_batch_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--max-batch 9 is above 8.*--batch 1,8,9"):
        ServiceTimes.of(make_report().baseline, 9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "cuda"}, "measured on cuda.*--device cpu"),
        ({"paced": ()}, "not measured with pauses, as servers work; benchmark again"),
        ({"latency": make_report().baseline.latency[1:]}, "at batch 8, and.*--batch 1,8"),
    ],
)
def test_a_report_that_is_not_enough_is_refused(changes: dict[str, object], said: str) -> None:
    from dataclasses import replace

    with pytest.raises(ArtifactError, match=said):
        ServiceTimes.of(replace(make_report().baseline, **changes))  # type: ignore[arg-type]
