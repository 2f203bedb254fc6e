from math import exp

import numpy as np
import pytest

from tests.plan.test_simulation import erlang_c
from theseus_deploy.benchmark.report import Paced
from theseus_deploy.errors import ConfigError
from theseus_deploy.plan.arrivals import Load
from theseus_deploy.plan.search import Outlook, Replication, _lowest, look_ahead, replications, smallest_fleet
from theseus_deploy.plan.service import Seconds, ServiceTimes
from theseus_deploy.plan.simulation import Fleet


def exponential(rounds: int, most: int = 1) -> ServiceTimes:
    return ServiceTimes({1: np.random.default_rng(1).exponential(1.0, (rounds, 10))}, most)


def test_the_smallest_fleet_is_the_one_that_erlang_gives() -> None:
    """M/M/c: of the time in the system, an exponential wait with probability C and an exponential service."""
    rate, p99 = 4.0, 5.2

    def beyond(servers: int) -> float:
        spare = servers - rate  # of the wait's exponential; the sum of two is hypoexponential
        waits = erlang_c(rate, servers)
        return (1 - waits) * exp(-p99) + waits * (spare * exp(-p99) - exp(-spare * p99)) / (spare - 1)

    exact = next(servers for servers in range(6, 40) if beyond(servers) <= 0.01)
    servers, outlook = smallest_fleet(exponential(20_000), Load(rate), 0.0, p99, seed=1)
    assert servers == exact
    assert outlook.p99.interval[0] < outlook.p99.value < outlook.p99.interval[1] <= p99
    assert outlook.utilisation == pytest.approx(rate / exact, rel=0.02)
    assert outlook.batch == 1.0


@pytest.mark.thorough
def test_an_objective_below_the_service_times_is_held_by_no_fleet() -> None:
    servers, outlook = smallest_fleet(exponential(1_000), Load(1.0), 0.0, 4.0, seed=1)
    assert servers is None
    assert outlook.p99.value == pytest.approx(np.log(100), rel=0.1)


def outlook_of(times: ServiceTimes, fleet: Fleet, seed: int = 1) -> Outlook:
    return look_ahead(replications(times, Load(0.5), seed), fleet)


def test_few_samples_never_look_certain() -> None:
    few, many = (outlook_of(exponential(rounds), Fleet(1, 1, 0.0)).p99 for rounds in (4, 4_000))
    assert few.half_width > 2 * many.half_width


def test_all_follows_from_the_seed() -> None:
    times, fleet = exponential(100), Fleet(1, 1, 0.0)
    first = outlook_of(times, fleet)
    assert first == outlook_of(times, fleet)
    assert first != outlook_of(times, fleet, seed=2)


def test_the_start_is_not_counted_of_a_draw_and_is_of_a_log() -> None:
    times = exponential(10)
    assert replications(times, Load(1.0), 1)[0].warm == 1_000
    log = replications(times, Load(1.0, np.arange(1_000.0)), 1)
    assert {(run.warm, len(run.arrivals)) for run in log} == {(0, 1_000)}
    assert len({tuple(run.levels) for run in log}) == len(log)


def test_a_log_that_begins_quietly_shows_servers_as_busy_as_one_that_ends_so() -> None:
    paced = [Paced(busy, (0.01 + more,) * 50, (0.01,) * 50) for busy, more in {0.1: 0.01, 0.8: 0.0}.items()]
    times = ServiceTimes({1: np.full((20, 8), 0.01)}, 1, paced)
    gaps = np.repeat([0.1, 0.02], [1_000, 4_000])
    first, last = (
        look_ahead(replications(times, Load(27.0, order.cumsum()), 1), Fleet(1, 1, 0.0)) for order in (gaps, gaps[::-1])
    )
    assert first.p50.value == pytest.approx(last.p50.value, rel=0.01)
    assert first.utilisation == pytest.approx(last.utilisation, rel=0.01)


def test_a_large_fleet_is_simulated_for_longer() -> None:
    assert len(replications(ServiceTimes({1: np.ones((1, 1))}, 1), Load(300.0), 1)[0].arrivals) == 33_000


def test_a_load_beyond_all_fleets_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--qps 1e\+09 keeps [\d,]+ servers busy, and more than 2,000 are not simulated"
    ):
        smallest_fleet(exponential(10), Load(1e9), 0.0, 9.0, seed=1)


def test_the_lowest_of_what_falls_and_rises_is_found() -> None:
    for size in (1, 2, 3, 10, 100):
        for best in range(size):
            assert _lowest(lambda place, best=best: abs(place - best), 0, size - 1) == best


@pytest.mark.slow
def test_a_fleet_that_the_growing_steps_jump_over_is_found() -> None:
    """More servers than 14 rest more, and are slower for it; the steps would try 11, 13 and 17."""
    chance = np.random.default_rng(0)
    extra = {0.1: 0.008, 0.25: 0.007, 0.5: 0.006, 0.75: 0.0005}
    paced = [Paced(busy, (0.01 + more,) * 50, (0.01,) * 50) for busy, more in extra.items()]
    times = ServiceTimes({1: 0.01 * np.exp(chance.normal(0, 0.02, (20, 8)))}, 1, paced)
    runs = replications(times, Load(1000.0), 1)
    reaches = {servers: look_ahead(runs, Fleet(servers, 1, 0.0)).p99.interval[1] for servers in (11, 13, 14, 17)}
    assert min(reaches, key=lambda servers: reaches[servers]) == 14
    assert smallest_fleet(times, Load(1000.0), 0.0, 1.003 * reaches[14], seed=1)[0] == 14


@pytest.mark.slow
def test_a_fleet_at_rest_is_slower_and_more_servers_do_not_help() -> None:
    times = ServiceTimes({1: np.ones((1, 1))}, 1, (Paced(0.1, (1.5,), (1.0,)),))
    for p99, enough in ((1.6, 7), (1.4, 7), (1.39, None)):
        servers, outlook = smallest_fleet(times, Load(1.5), 0.0, p99, seed=1)
        assert servers == enough
        assert 1.38 < outlook.p99.value < 1.4  # fewer make inputs wait, and more rest, and take up to 1.5 s


@pytest.mark.slow
def test_a_fleet_that_holds_by_its_point_alone_is_not_enough() -> None:
    times = exponential(50)
    point, (_, high) = (found := outlook_of(times, Fleet(1, 1, 0.0)).p99).value, found.interval
    assert smallest_fleet(times, Load(0.5), 0.0, (point + high) / 2, seed=1)[0] != 1
    assert smallest_fleet(times, Load(0.5), 0.0, high, seed=1)[0] == 1


def test_inputs_before_the_queue_has_warmed_up_are_not_counted() -> None:
    seconds = Seconds(np.array([[9.0, 1.0]]), np.ones(1), np.zeros((1, 2)))
    run = Replication([0.0, 10.0, 20.0], [0, 1, 1], seconds, warm=1)
    assert look_ahead([run, run], Fleet(1, 1, 0.0)).p99.value == pytest.approx(1.0)
    assert look_ahead([run, run], Fleet(1, 1, 0.0), network=0.5).p99.value == pytest.approx(1.5)
