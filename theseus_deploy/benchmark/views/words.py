"""A report's findings in words, the same in every view."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from theseus_deploy.benchmark.gains import Gain, Step, gain
from theseus_deploy.benchmark.report import BenchmarkReport, Candidate, Gate, Latency
from theseus_deploy.benchmark.views.numbers import counted, digits, interval, megabytes, times
from theseus_deploy.benchmark.winner import asked, p50_ratio, surely_faster, undefeated, winner, winner_or_fastest
from theseus_deploy.machine import Machine

RESTLESS = 0.1  # half the width of a ratio's interval, as a share of it, beyond which its point should not be quoted
TAILS = {"p90": 10, "p95": 20, "p99": 100}  # samples below which none is expected beyond the percentile
ONCE = "Load and memory were measured once, and have no interval."
TOO_NOISY = "Two equal candidates differ too much here: quieten the machine before believing the times."
MOST_DECIMALS = 9  # that a gate's number is written with, where fewer would put it at its limit
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Said:
    """How a kind of task is spoken of: how loyal a winner is, what is alike then, and what some metrics are of.

    `chosen` are the things that get a label, and `timed` says what an input is that is no text.
    """

    loyal: str
    alike: str
    chosen: str
    metric_of: Mapping[str, str] = field(default_factory=dict)
    timed: str = ""


SAID: Mapping[str, Said] = {
    "single-label": Said("it agrees with the baseline on {:.1%} of the labels", "labels equal to", "inputs"),
    "multi-label": Said(
        "it gives {:.1%} of the inputs all the baseline's labels and no other",
        "inputs whose labels are exactly",
        "labels",
    ),
    "regression": Said("", "", ""),
    "tokens": Said(
        "it tags {:.1%} of the words as the baseline does",
        "words whose tags equal",
        "words",
        {"f1": "entity", "precision": "entity", "recall": "entity", "accuracy": "word"},
        "; inputs are lists of words",
    ),
}


def kind_of(report: BenchmarkReport) -> str:
    """Return the kind of the report's task."""
    kind: str = report.data.get("kind", "single-label")  # there were but this kind and regressions before it was noted
    return kind


def said(report: BenchmarkReport) -> Said:
    """Return how the report's kind of task is spoken of."""
    return SAID[kind_of(report)]


def plain(text: str) -> str:
    """Replace what no view can show: control characters, and what XML forbids."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def faster(ratio: float, bounds: tuple[float, float] | None = None) -> str:
    """Say how much faster, or slower, a ratio of times is; from what to what where its interval is a wide one."""
    if bounds and (bounds[1] - bounds[0]) / 2 > RESTLESS * ratio and bounds[1] < 1:
        return f"{digits(1 / bounds[1], 2)}x to {digits(1 / bounds[0], 2)}x faster"
    return f"{digits(1 / ratio, 2)}x faster" if ratio <= 1 else f"{digits(ratio, 2)}x slower"


def percentile(latency: Latency, name: str) -> float | None:
    """Return a percentile in seconds, or None where too few samples were taken to tell it from the slowest of them."""
    value: float = getattr(latency, name)
    return value if len(latency.samples) >= TAILS.get(name, 1) else None


def name_parts(one: Candidate) -> tuple[str, str]:
    """Return the name of a candidate's folder, and its runtime with whatever else tells it from others."""
    name, _, runtime = plain(one.name).rpartition(" (")
    return (name, f"({runtime}") if name else (runtime, "")


def metric_parts(report: BenchmarkReport) -> tuple[str, str]:
    """Name the metric that decides, in two parts: of what, if it is not of every answer, and its own name."""
    metric = report.data["metric"]
    of_what = said(report).metric_of.get(metric, "")
    return (of_what, metric) if of_what else (metric, "")


def metric_name(report: BenchmarkReport) -> str:
    """Name the metric that decides."""
    return " ".join(metric_parts(report)).strip()


def ratio_cell(latency: Latency) -> str:
    """Write the ratio of p50 with its interval."""
    return f"{times(latency.ratio.p50)}x {interval(latency.ratio.interval)}"


def verdict_line(report: BenchmarkReport) -> str:
    """Say how the gates went."""
    if report.verdict is None:
        return "No gates were set."
    count = {
        verdict: sum(gate.verdict == verdict for gate in report.gates) for verdict in ("fail", "inconclusive", "pass")
    }
    parts = [f"{number} {_VERBS[verdict]}" for verdict, number in count.items() if number]
    return f"{counted(len(report.gates), 'gate')}: {', '.join(parts)}."


def winner_line(report: BenchmarkReport) -> str:
    """Say who won, by how much, and what it cost."""
    best = winner(report)
    if best is None:
        sure = [one for one in asked(report) if surely_faster(report, one)]
        fastest, able = min(sure, key=p50_ratio, default=winner_or_fastest(report)), undefeated(report)
        stops = [gate.name for gate in report.gates if gate.candidate == fastest.name and gate.verdict != "pass"]
        if not stops:
            return "No candidate is certainly faster than the baseline."
        nobody = "passed every gate" if not able else "that passed every gate is certainly faster than the baseline"
        return f"No candidate {nobody}; the fastest, {plain(fastest.name)}, was stopped by {', '.join(stops)}."
    metric, ratio = report.data["metric"], best.latency[0].ratio
    loyal = f"; {said(report).loyal.format(best.loyalty.label)}" if best.loyalty else ""
    return (
        f"{plain(best.name)} is {faster(ratio.p50, ratio.interval)} than {plain(report.baseline.name)} "
        f"({times(ratio.p50)}x {interval(ratio.interval)}); {metric_name(report)} {best.scores[metric]:.3f} against "
        f"{report.baseline.scores[metric]:.3f}{loyal}."
    )


def gain_line(report: BenchmarkReport) -> str:
    """Say which share of the winner's gain, or of the fastest candidate's, came from what."""
    found = gain(report, winner_or_fastest(report))
    if not found.steps:
        return f"{plain(found.candidate.name)} has the baseline’s runtime, layers and precision: no gain to take apart."
    whole = 1 / found.candidate.latency[0].ratio.p50
    factors = " × ".join(f"{changes(step)} {factor(step)}" for step in found.steps)
    return f"{plain(found.candidate.name)} is {digits(whole)}x as fast: {factors}.{gap_line(found)}"


def changes(step: Step) -> str:
    """Name what a step changed."""
    return _listed(step.changes) + " together" * (len(step.changes) > 1)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def factor(step: Step) -> str:
    """Write how many times as fast a step made it, with its interval."""
    low, high = step.speedup.interval
    return f"{digits(step.speedup.value)}x [{digits(low)}, {digits(high)}]"


def change_detail(step: Step) -> str:
    """Say from what to what a step went."""
    start, end = step.start, step.end
    models = [f"{one.layers} layers" for one in (start, end)]
    if start.layers == end.layers:
        models = [f"{one.parameters / 1e6:.1f} M parameters" for one in (start, end)]
    pairs = {
        "runtime": [one.runtime if one.device == "cpu" else f"{one.runtime} on {one.device}" for one in (start, end)],
        "compression": models,
        "quantisation": [start.precision, end.precision],
    }
    return ", ".join(" → ".join(pairs[change]) for change in step.changes)


def gap_line(found: Gain) -> str:
    """Say what was not measured, and what cannot be told for want of it."""
    if not found.gaps:
        return ""
    mixed = "; ".join(_listed(step.changes) for step in found.steps if len(step.changes) > 1)
    wanted = [f"{name_parts(gap.model)[0]}’s model in {gap.runtime} {gap.precision}" for gap in found.gaps]
    return f" To tell {mixed} apart, measure {_listed(wanted)} as well."


def price_line(report: BenchmarkReport) -> str:
    """Say at what price costs are, where one was given."""
    if all(one.latency[0].cost_per_million is None for one in (report.baseline, *report.candidates)):
        return ""
    return f"Costs are of a million inputs, at {report.config['price_per_hour']:g} an hour for the machine."


def cost_line(report: BenchmarkReport) -> str:
    """Say what a million inputs cost each, where a price was given."""
    if not (price := price_line(report)):
        return ""
    costs = (
        f"{plain(one.name)} {'–' if (cost := one.latency[0].cost_per_million) is None else digits(cost)}"
        for one in (report.baseline, *report.candidates)
    )
    return f"{price[:-1]}: {', '.join(costs)}."


def reference_line(report: BenchmarkReport) -> str:
    """Say which candidates nobody asked for."""
    names = [plain(one.name) for one in report.candidates if one.role == "reference"]
    return f"For comparison only, the baseline in another form, judged by no gate: {', '.join(names)}." if names else ""


def since_lines(report: BenchmarkReport) -> list[str]:
    """Say of each candidate what became of it since the earlier report."""
    if report.against is None:
        return []
    metric, now = report.data["metric"], {one.name: one for one in report.candidates}
    return [
        f"{plain(change.candidate)}: {times(change.ratio)}x {interval(change.interval)} its time in "
        f"{plain(report.against.path)}, each over its baseline’s; {metric_name(report)} "
        f"{now[change.candidate].scores[metric]:.3f}, was {change.score_before:.3f}; "
        f"{megabytes(now[change.candidate].bytes)} MB, was {megabytes(change.bytes_before)}"
        for change in report.against.changes
    ]


def departures_line(report: BenchmarkReport, one: Candidate) -> str:
    """Say how often a candidate departs from the baseline, and who is right then."""
    if one.disagreement is None:
        return ""
    chosen, found = said(report).chosen, one.disagreement.departures
    total = sum(each.count for each in one.disagreement.confusion)
    count, theirs, ours = (
        sum(getattr(each, name) for each in found) for name in ("count", "baseline_right", "candidate_right")
    )
    if not count:
        return f"all {total:,} {chosen} as the baseline has them"
    return (
        f"{count:,} of {total:,} {chosen} otherwise than the baseline, which is right on {theirs:,} of them; "
        f"the candidate on {ours:,}"
    )


def gate_value(gate: Gate, value: float) -> str:
    """Write a gate's number, with as many decimals as it takes to stand on its side of the limit, or at it."""
    first = 2 if gate.name.endswith("-ratio") else 4
    written = (f"{value:.{decimals}f}" for decimals in range(first, MOST_DECIMALS))
    return next((text for text in written if _side(float(text), gate) == _side(value, gate)), f"{value:.{first}f}")


def _side(value: float, gate: Gate) -> int:
    return (value > gate.limit) - (value < gate.limit)


def gate_interval(gate: Gate) -> str:
    """Write a gate's interval."""
    return f"[{gate_value(gate, gate.interval[0])}, {gate_value(gate, gate.interval[1])}]"


def limit(gate: Gate) -> str:
    """Write a gate's limit with its direction."""
    short = f"{gate.limit:g}"
    return f"{'≤' if gate.at_most else '≥'} {short if float(short) == gate.limit else repr(gate.limit)}"


def gate_line(gate: Gate) -> str:
    """Say in one line what a gate found."""
    return (
        f"{plain(gate.candidate)}: {gate.name} is {gate_value(gate, gate.value)} {gate_interval(gate)}, "
        f"the limit {limit(gate)}: {gate.verdict}" + f", for {plain(gate.reason)}" * bool(gate.reason)
    )


def undecided_lines(report: BenchmarkReport) -> list[str]:
    """Say why gates are inconclusive and what would help, a line a reason."""
    gates: dict[str, dict[str, None]] = {}
    for gate in report.gates:
        if gate.reason:
            gates.setdefault(gate.reason, {})[gate.name] = None
    return [f"{_listed(list(names))} undecided: {plain(reason)}." for reason, names in gates.items()]


def method_line(report: BenchmarkReport) -> str:
    """Say how it was measured."""
    environment, first = report.environment, report.baseline.latency[0]
    threads = counted(environment["threads"], "thread")
    return (
        f"Times at {first.shape}, tokenisation included{said(report).timed}; {len(first.samples)} samples in "
        f"{first.rounds} interleaved rounds, one process a candidate, {threads} each, on "
        f"{Machine.from_json(environment).said}. Ratios are candidate over baseline, with 95 % intervals."
    )


def noise_line(report: BenchmarkReport) -> str:
    """Say what the machine adds by itself."""
    noise = report.environment["noise"]
    low, high = noise["interval"]
    load = noise["load_average"][0]
    restless = "" if low >= 1 - RESTLESS and high <= 1 + RESTLESS else f" {TOO_NOISY}"
    remarks = " ".join(["", *map(plain, noise.get("remarks", ()))])
    return (
        f"Noise: the baseline against a second process of itself reads {times(noise['aa_p50_ratio'])}x "
        f"[{times(low)}, {times(high)}]; the load average was {load:.1f} at the start.{restless}{remarks}"
    )


_VERBS = {"fail": "failed", "inconclusive": "inconclusive", "pass": "passed"}
