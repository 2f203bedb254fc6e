"""The recurrence against closed forms, against another simulation, and against itself."""

from collections import deque
from itertools import pairwise
from math import factorial, log

import numpy as np
import pytest
import simpy

from theseus_deploy.benchmark.stats import Array
from theseus_deploy.plan.arrivals import Load
from theseus_deploy.plan.service import Seconds
from theseus_deploy.plan.simulation import Fleet, Served, serve, settle

COUNT = 400_000


def served_one_by_one(rate: float, seconds: Array, servers: int) -> Served:
    arrivals = Load(rate).arrivals(len(seconds), np.random.default_rng(1))
    return serve(arrivals.tolist(), range(len(seconds)), [seconds.tolist()], Fleet(servers, 1, 0.0))


def erlang_c(offered: float, servers: int) -> float:
    """The probability of having to wait in M/M/c (Kleinrock, "Queueing Systems", volume 1, 1975, 3.5)."""
    full = offered**servers / factorial(servers) / (1 - offered / servers)
    return full / (full + sum(offered**busy / factorial(busy) for busy in range(servers)))


@pytest.mark.parametrize("servers", [1, 4])
def test_exponential_times_wait_as_erlang_says(servers: int) -> None:
    rate = 0.7 * servers
    seconds = np.random.default_rng(2).exponential(1.0, COUNT)
    served = served_one_by_one(rate, seconds, servers)
    waits, delayed = served.latencies - seconds, erlang_c(rate, servers)
    assert (waits > 1e-9).mean() == pytest.approx(delayed, rel=0.03)
    assert waits.mean() == pytest.approx(delayed / (servers - rate), rel=0.05)
    assert np.quantile(waits, 0.99) == pytest.approx(log(100 * delayed) / (servers - rate), rel=0.08)
    assert served.busy / served.ended / servers == pytest.approx(0.7, rel=0.02)


def test_constant_times_wait_half_as_long() -> None:
    """M/D/1, by Pollaczek and Khinchine."""
    served = served_one_by_one(0.8, np.ones(COUNT), 1)
    assert (served.latencies - 1).mean() == pytest.approx(0.8 / (2 * (1 - 0.8)), rel=0.03)
    assert ((served.latencies - 1) < 1e-9).mean() == pytest.approx(1 - 0.8, rel=0.03)


def by_simpy(arrivals: list[float], levels: list[int], table: list[list[float]], fleet: Fleet) -> list[float]:
    """The same rule of batching, told to SimPy as processes."""
    world, queue, latencies = simpy.Environment(), deque[int](), [0.0] * len(arrivals)
    changed = [world.event()]

    def news() -> None:
        changed[0].succeed()
        changed[0] = world.event()

    def arrive() -> simpy.events.ProcessGenerator:
        for number, moment in enumerate(arrivals):
            yield world.timeout(moment - world.now)
            queue.append(number)
            news()

    def work() -> simpy.events.ProcessGenerator:
        while True:
            while len(queue) < fleet.most:
                left = arrivals[queue[0]] + fleet.window - world.now if queue else float("inf")
                if left <= 1e-12:
                    break
                yield changed[0] | world.timeout(left) if queue else changed[0]
            batch = [queue.popleft() for _ in range(min(fleet.most, len(queue)))]
            yield world.timeout(table[len(batch) - 1][levels[batch[0]]])
            for number in batch:
                latencies[number] = world.now - arrivals[number]

    world.process(arrive())
    for _ in range(fleet.servers):
        world.process(work())
    world.run()
    return latencies


@pytest.mark.parametrize(
    "fleet", [Fleet(1, 1, 0.0), Fleet(1, 4, 0.0), Fleet(3, 4, 0.0), Fleet(1, 4, 0.7), Fleet(3, 8, 2.5)], ids=str
)
def test_simpy_sees_the_same(fleet: Fleet) -> None:
    draw = np.random.default_rng(3)
    arrivals = Load(0.8 * fleet.servers).arrivals(2_000, draw).tolist()
    levels = draw.integers(50, size=len(arrivals)).tolist()
    table = np.cumsum(draw.exponential(1.0, (fleet.most, 50)) * ([1.0] + [0.3] * 49), axis=0).tolist()
    served = serve(arrivals, levels, table, fleet)
    assert served.latencies == pytest.approx(by_simpy(arrivals, levels, table, fleet), abs=1e-6)


def test_batches_form_by_window_and_by_number() -> None:
    arrivals, table = [0.0, 1.0, 2.0, 2.5, 2.6, 2.7, 9.0], [[1.0], [1.5], [2.0]]
    served = serve(arrivals, [0] * 7, table, Fleet(1, 3, 1.0))
    # At 1 the first has waited for the window; at 2.6 three are there; the rest waits for the server until 4.6.
    assert served.sizes.tolist() == [2, 3, 1, 1]
    assert served.latencies == pytest.approx([2.5, 1.5, 2.6, 2.1, 2.0, 2.9, 2.0])
    assert served.busy == pytest.approx(1.5 + 2 + 1 + 1)


def test_nobody_waits_longer_where_there_are_more_servers() -> None:
    seconds = np.random.default_rng(4).lognormal(0, 1, 5_000)
    latencies = [served_one_by_one(2.0, seconds, servers).latencies for servers in (3, 4, 5, 50)]
    for fewer, more in pairwise(latencies):
        assert (more <= fewer + 1e-9).all()
        assert more.sum() < fewer.sum()
    assert latencies[-1] == pytest.approx(seconds)


def test_the_erlang_formula_is_the_textbook_s() -> None:
    assert erlang_c(0.7, 1) == pytest.approx(0.7)
    assert erlang_c(2.0, 3) == pytest.approx(4 / 9)


def test_the_server_that_rested_longest_is_next() -> None:
    served = serve([0.0, 0.0, 1.0, 1.1], [0, 1, 0, 1], [[0.2, 0.3]], Fleet(2, 1, 0.0))
    assert served.latencies == pytest.approx([0.2, 0.3, 0.2, 0.3])
    assert served.utilisation(2) == pytest.approx(1.0 / 1.4 / 2)


def test_servers_are_as_slow_as_they_turn_out_to_have_pauses() -> None:
    """One that takes 1 + (1 - busy) seconds, where an input comes every 2 seconds, is busy for 2/3 of the time."""
    seconds = Seconds(np.ones((1, 1)), np.array([0.0, 1.0]), np.array([[1.0], [0.0]]))
    served = settle([2.0 * place for place in range(5_000)], [0] * 5_000, seconds, Fleet(1, 1, 0.0))
    assert served.utilisation(1) == pytest.approx(2 / 3, rel=0.05)
    assert served.latencies == pytest.approx(4 / 3, rel=0.05)
