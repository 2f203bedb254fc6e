"""What plots draw of samples, few or many, and what they leave out."""

import numpy as np
import pytest

from tests.benchmark.reports import make_report
from theseus_deploy.benchmark.views import plots, words
from theseus_deploy.benchmark.views.svg import LogAxis


def test_plots_survive_samples_without_spread() -> None:
    times, label = np.full(30, 5.0), plots.Label("a", "(torch)", "other")
    drawn = plots.distributions([plots.Distribution(label, times, 5.0, 5.0)], 360)
    assert "nan" not in drawn
    assert "nan" not in plots.pareto([plots.Point(label, 5.0, 0.0)], "accuracy", 360)
    assert "nan" not in plots.forest([("a shape", [plots.Fork(label, 1.0, (1.0, 1.0), "1x")])], (1.0, 1.0), [], 360)
    assert "nan" not in plots.waterfall([plots.Fall(label, 5.0, 5.0, "1x")], 360)


@pytest.mark.parametrize(("low", "high"), [(7.02, 7.9), (9.1, 9.9), (0.0121, 0.0124), (4.4, 5.6)])
def test_a_narrow_axis_has_values_too(low: float, high: float) -> None:
    values = LogAxis(low, high, 0, 700).ticks()
    assert 2 <= len(values) <= 9
    assert low <= min(values) < max(values) <= high
    assert all(float(f"{value:.4g}") == pytest.approx(value) for value in values)  # round ones


def test_a_limit_of_zero_has_no_place_on_a_logarithmic_axis() -> None:
    forks = [plots.Fork(plots.Label("a", "(torch)", "other"), 0.5, (0.4, 0.6), "2x")]
    assert plots.forest([("a shape", forks)], (1.0, 1.0), [0.0, 0.6], 360).count('class="limit"') == 1


def test_few_samples_have_no_density_and_what_is_beyond_the_axis_is_counted() -> None:
    label, draw = plots.Label("a", "(torch)", "other"), np.random.default_rng(1)

    def drawn(times: np.ndarray) -> str:
        return plots.distributions([plots.Distribution(label, times, 5.0, 5.1)], 1040)

    many = draw.uniform(4.9, 5.1, 1000)
    assert "polygon" in drawn(many)
    assert "more, to" not in drawn(many)
    assert "2 more, to 90.0 ms" in drawn(np.append(many, [70.0, 90.0]))
    assert "polygon" not in drawn(many[:19])
    assert drawn(np.linspace(4, 6, 19)).split('class="strip"')[1].split("/>")[0].count("M") == 19


def test_the_forest_has_the_noise_behind_its_first_shape_and_the_limits() -> None:
    fork = plots.Fork(plots.Label("a", "(torch)", "winner"), 0.5, (0.45, 0.55), "0.50x [0.45, 0.55]")
    drawn = plots.forest([("one", [fork]), ("two", [fork])], (0.97, 1.04), [0.6], 1040)
    assert drawn.count('class="band"') == drawn.count('class="limit"') == 1
    assert drawn.count('class="one"') == 2
    assert drawn.count(">0.50x [0.45, 0.55]</text>") == 2


def test_the_front_leaves_out_what_is_beaten() -> None:
    report = make_report("a (torch)", "b (torch)")
    points = [
        plots.Point(plots.Label(*words.name_parts(one), "other"), one.latency[0].p50, one.scores["accuracy"])
        for one in report.candidates
    ]
    beaten = plots.Point(plots.Label("slow and wrong", "", "other"), 1.0, 0.1)
    assert {point.label.name for point in plots._front([*points, beaten])} == {"a", "b"}
