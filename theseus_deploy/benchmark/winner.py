"""Which candidate won: a judgement on a report that every view tells alike."""

from theseus_deploy.benchmark.noise import allowed_for
from theseus_deploy.benchmark.report import BenchmarkReport, Candidate
from theseus_deploy.benchmark.stats import Estimate


def undefeated(report: BenchmarkReport) -> list[Candidate]:
    """Return the candidates that passed every gate, in their order; without gates, all of them, references never."""
    stopped = {gate.candidate for gate in report.gates if gate.verdict != "pass"}
    return [one for one in asked(report) if one.name not in stopped]


def winner(report: BenchmarkReport) -> Candidate | None:
    """Return the fastest candidate that passed every gate and is certainly faster than the baseline: beyond noise."""
    return min((one for one in undefeated(report) if surely_faster(report, one)), key=p50_ratio, default=None)


def winner_or_fastest(report: BenchmarkReport) -> Candidate:
    """Return the candidate that is worth taking apart: the winner, or the fastest where nobody won."""
    return winner(report) or min(asked(report), key=p50_ratio)


def surely_faster(report: BenchmarkReport, one: Candidate) -> bool:
    """Tell whether a candidate is faster than the baseline, with the noise of the machine allowed for."""
    noise, ratio = report.environment["noise"], one.latency[0].ratio
    judged = allowed_for(Estimate(ratio.p50, ratio.interval), noise["interval"], noise.get("crowding", 0.0))
    return judged.interval[1] < 1


def p50_ratio(one: Candidate) -> float:
    """Return the ratio by which candidates are ranked: that of the p50 of the first shape."""
    return one.latency[0].ratio.p50


def asked(report: BenchmarkReport) -> list[Candidate]:
    """Return the candidates that the user named: all but the references."""
    return [one for one in report.candidates if one.role == "candidate"]
