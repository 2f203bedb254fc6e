"""A gain is a product of steps between candidates that differ in one thing."""

import math
from dataclasses import replace

import pytest

from tests.benchmark.reports import make_report
from theseus_deploy.benchmark.gains import gain
from theseus_deploy.benchmark.report import BenchmarkReport
from theseus_deploy.benchmark.views import html

PLACES = {  # runtime, layers, precision, in the order of the times: each half as slow as the one before
    "original (torch)": ("torch", 6, "fp32"),
    "original-onnx (onnxruntime)": ("onnxruntime", 6, "fp32"),
    "small-onnx (onnxruntime)": ("onnxruntime", 3, "fp32"),
    "small-int8 (onnxruntime)": ("onnxruntime", 3, "int8-dynamic"),
}


def measured(*names: str) -> BenchmarkReport:
    report = make_report("b", "c", "d")
    first, *rest = (
        replace(one, runtime=runtime, layers=layers, parameters=layers * 100, precision=precision, name=name)
        for one, (name, (runtime, layers, precision)) in zip(
            (report.baseline, *report.candidates), PLACES.items(), strict=True
        )
    )
    return replace(report, baseline=first, candidates=tuple(one for one in rest if one.name in names))


def test_the_factors_multiply_to_the_whole() -> None:
    report = measured(*PLACES)
    found = gain(report, report.candidates[2])
    assert [step.changes for step in found.steps] == [("runtime",), ("compression",), ("quantisation",)]
    assert [step.end.name for step in found.steps] == list(PLACES)[1:]
    whole = 1 / report.candidates[2].latency[0].ratio.p50
    assert math.prod(step.speedup.value for step in found.steps) == pytest.approx(whole)
    assert sum(found.share(step) or 0 for step in found.steps) == pytest.approx(1)
    for step in found.steps:
        low, high = step.speedup.interval
        assert 1.7 < low < step.speedup.value < high < 2.3
    assert found.gaps == ()


def test_what_was_not_measured_leaves_one_factor_and_is_named() -> None:
    report = measured("small-int8 (onnxruntime)")
    found = gain(report, report.candidates[0])
    assert [step.changes for step in found.steps] == [("runtime", "compression", "quantisation")]
    assert [(gap.model.name, gap.runtime, gap.precision) for gap in found.gaps] == [
        ("original (torch)", "onnxruntime", "fp32"),
        ("small-int8 (onnxruntime)", "onnxruntime", "fp32"),
    ]


def test_the_way_goes_over_what_was_measured() -> None:
    report = measured("small-onnx (onnxruntime)", "small-int8 (onnxruntime)")
    found = gain(report, report.candidates[1])
    assert [step.changes for step in found.steps] == [("runtime", "compression"), ("quantisation",)]
    assert [(gap.model.name, gap.runtime) for gap in found.gaps] == [("original (torch)", "onnxruntime")]
    small = replace(report.candidates[0], runtime="torch", name="small (torch)")
    found = gain(replace(report, candidates=(small, report.candidates[1])), report.candidates[1])
    assert [step.changes for step in found.steps] == [("compression",), ("runtime", "quantisation")]
    assert found.steps[0].end is small


def test_of_two_alike_each_is_the_end_of_its_own_way() -> None:
    report = measured("small-onnx (onnxruntime)", "small-int8 (onnxruntime)")
    rival = replace(report.candidates[1], name="rival-int8 (onnxruntime)")
    both = replace(report, candidates=(*report.candidates, rival))
    for one in both.candidates[1:]:
        assert gain(both, one).steps[-1].end is one


def test_of_a_model_of_the_same_shape_the_time_is_known_and_no_score() -> None:
    report = measured("small-onnx (onnxruntime)", "small-int8 (onnxruntime)")
    (metric,) = report.baseline.scores
    other = replace(report.candidates[0], name="other-onnx (onnxruntime)", scores={metric: 0.5})
    for candidates, known in [(report.candidates, ["0.880", "0.870"]), ((other, *report.candidates), ["–", "0.870"])]:
        rows = html._steps(replace(report, candidates=candidates))
        explained = "A dash is where another model of this shape" in html.render(replace(report, candidates=candidates))
        assert explained == ("–" in known)
        mine = [row for row in rows if row["candidate"].text == "small-int8 (onnxruntime)"]
        assert [row["metric"].text for row in mine] == known
        assert [row["size"].text == "–" for row in mine] == [score == "–" for score in known]
        assert "–" not in {row["time"].text for row in mine}


def test_where_nothing_is_faster_nothing_is_shared_out() -> None:
    report = measured("original-onnx (onnxruntime)")
    swapped = replace(report, baseline=report.candidates[0], candidates=(report.baseline,))
    same = replace(report.baseline, runtime="onnxruntime", name="again")
    assert gain(replace(swapped, candidates=(same,)), same).steps == ()
    slower = gain(swapped, report.baseline)
    assert [step.changes for step in slower.steps] == [("runtime",)]
    assert slower.share(slower.steps[0]) is None
