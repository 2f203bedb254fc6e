"""Reports made of constructed samples: nothing is measured, everything is derived as in a real one."""

from dataclasses import replace

import numpy as np

from theseus_deploy.benchmark.latency import Timings, summarise
from theseus_deploy.benchmark.report import (
    Against,
    BenchmarkReport,
    Candidate,
    Change,
    Disagreement,
    Exchange,
    Gate,
    Loyalty,
    Paced,
    Role,
    Shape,
    Sighting,
    Sweep,
)
from theseus_deploy.tasks import KINDS

SHAPES = (Shape(1, "data"), Shape(8, "data"), Shape(1, 16))
HOSTILE = '<script>alert("x")</script>|*a*&\x00\x1b[31m [bold]'
GATES = (
    Gate("p50-ratio", "small (onnxruntime)", 0.6, 0.5, (0.49, 0.51), "pass"),
    Gate("metric-drop", "small (onnxruntime)", 0.01, 0.03, (0.02, 0.04), "fail"),
    Gate("label-loyalty", "small (onnxruntime)", 0.95, 0.95, (0.94, 0.96), "inconclusive", "few rows; add some"),
)


def make_report(
    *names: str, gates: tuple[Gate, ...] = (), kind: str = "single-label", text: str = ""
) -> BenchmarkReport:
    """A baseline at 10 ms, and candidates each half as slow as the one before, which disagree on one `text`."""
    everyone = ("base (torch)", *(names or ("small (onnxruntime)",)))
    draw = np.random.default_rng(1)
    timings = [
        Timings(
            shape,
            {name: 0.01 / 2**place * draw.lognormal(0, 0.1, (12, 4)) for place, name in enumerate(everyone)},
        )
        for shape in SHAPES
    ]
    metric, labels = KINDS[kind].primary, kind != "regression"
    seen = Sighting(3, text, text if kind == "tokens" else None, "no", 0.9, "yes", 0.8, "no")
    departs = Disagreement((Exchange("yes", "yes", 90, 90, 90), Exchange("no", "yes", 6, 4, 2)), (seen,))
    candidates = [
        Candidate(
            name=name, path=f"models/{place}", sha256="1" * 64, runtime="onnxruntime" if place else "torch",
            device="cpu", precision="fp32", parameters=1000, layers=4, bytes=12000 // (place + 1), load_seconds=2.5,
            peak_rss_bytes=300_000_000,
            scores={metric: 0.9 - 0.01 * place}, loyalty=Loyalty(0.95, 0.9) if place and labels else None,
            latency=tuple(summarise(timing, name, everyone[0], seed=1) for timing in timings),
            intervals={metric: (0.85, 0.93)} | ({"label_loyalty": (0.91, 0.99)} if place and labels else {}),
            disagreement=departs if place and labels else None,
            paced=tuple(Paced(busy, (0.012 / 2**place,), (0.01 / 2**place,)) for busy in (0.2, 0.6)),
        )
        for place, name in enumerate(everyone)
    ]  # fmt: skip
    return BenchmarkReport(
        environment={
            "cpu": "a CPU", "isa": ["avx2"], "cores": 2, "threads": 2, "cpu_quota": None, "versions": {"numpy": "2"},
            "noise": {"aa_p50_ratio": 1.01, "interval": [0.98, 1.03], "load_average": [0.1, 0.1, 0.1],
                      "shape": {"batch": 1, "sequence": "data"}},
        },
        data={"ref": "corpus", "sha256": "0" * 64, "split": "test", "rows": 96, "items": 1234, "max_length": 64,
              "kind": kind, "metric": metric},
        config={"seed": 1},
        baseline=candidates[0],
        candidates=tuple(candidates[1:]),
        gates=gates,
    )  # fmt: skip


def with_everything(*names: str, gates: tuple[Gate, ...] = ()) -> BenchmarkReport:
    """A report with a price, a sweep of threads, a reference, the last, and an earlier report."""
    report = make_report(*(names or ("a (torch)", "b (onnxruntime)")), gates=gates)

    def priced(one: Candidate, role: Role) -> Candidate:
        latency = tuple(replace(each, per_second_and_core=71.5, cost_per_million=0.654) for each in one.latency)
        return replace(
            one,
            latency=latency,
            role=role,
            first_answer_seconds=2.75,
            sweep=(Sweep(1, latency[0]), Sweep(4, latency[0])),
        )

    changes = (Change(report.candidates[0].name, 0.5, 0.91, 8000, 1.04, (0.97, 1.12)),)
    return replace(
        report,
        config={**report.config, "price_per_hour": 0.2},
        baseline=priced(report.baseline, "candidate"),
        candidates=(
            *(priced(one, "candidate") for one in report.candidates[:-1]),
            priced(report.candidates[-1], "reference"),
        ),
        against=Against("old.json", changes),
    )
