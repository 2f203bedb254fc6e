"""Limits -> pass, fail, inconclusive. An interval decides, never its point: a table of rules, one a gate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from theseus_deploy.benchmark.accuracy import Answers
from theseus_deploy.benchmark.against import Past
from theseus_deploy.benchmark.certainty import agreement_estimate, drop_estimate
from theseus_deploy.benchmark.latency import CONTROL, MEDIAN, Limit, Timings
from theseus_deploy.benchmark.noise import CROWDED, allowed_for
from theseus_deploy.benchmark.report import Candidate, Change, Gate, Verdict
from theseus_deploy.benchmark.stats import Estimate, Interval
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.errors import ConfigError
from theseus_deploy.tasks import Task

TAIL_SAMPLES = 20  # below it nothing was measured beyond the 95th percentile


@dataclass(frozen=True)
class Evidence:
    """A candidate, the baseline, their answers, the seed of what is resampled, and the change since an earlier report.

    `noise` maps a quantile to the interval of its ratio between two processes of the baseline, `crowding` is the share
    of their time for which the candidates lacked a core, `calm_change` the change as it were without.
    """

    candidate: Candidate
    baseline: Candidate
    answers: Answers
    baseline_answers: Answers
    noise: Mapping[float, Interval]
    seed: int
    change: Change | None = None
    crowding: float = 0.0
    calm_change: Change | None = None

    def calm(self) -> "Evidence":
        """Return the same as if no candidate had lacked a core."""
        return replace(self, crowding=0.0, change=self.calm_change or self.change)

    def judged(self, quantile: float, ratio: Estimate) -> Estimate:
        """Widen a ratio by what the machine may have changed it by."""
        return allowed_for(ratio, self.noise[quantile], self.crowding)


@dataclass(frozen=True)
class Rule:
    """A gate: the field of the configuration that holds its limit, what it looks at, and which side is good."""

    field: str
    estimate: Callable[[Evidence], Estimate]
    at_most: bool = True
    timed: bool = False
    tail: bool = False  # what happens to a twentieth of the samples decides
    scored: bool = False  # the metric of the data decides

    def verdict(self, estimate: Estimate, limit: float) -> Verdict:
        """Pass when the whole interval keeps the limit, fail when none of it does."""
        low, high = estimate.interval
        best, worst = (low, high) if self.at_most else (-high, -low)
        bound = limit if self.at_most else -limit
        return "pass" if worst <= bound else "fail" if best > bound else "inconclusive"

    def blind(self, evidence: Evidence) -> str:
        """Say why no interval would mean anything here; "" where it does."""
        if self.scored and (reason := evidence.answers.task.unmeasured(evidence.answers.references)):
            return reason
        count = len(evidence.candidate.latency[0].samples)
        if self.tail and count < TAIL_SAMPLES:
            return (
                f"{count} samples are fewer than the {TAIL_SAMPLES} that a 95th percentile takes; raise --max-seconds"
            )
        if self.tail and evidence.crowding > CROWDED:
            return (
                f"candidates lacked a core for {evidence.crowding:.0%} of the time, and the slowest twentieth of the "
                "samples may have been waiting for one; stop what else runs here"
            )
        return ""

    def undecided(self, evidence: Evidence, found: Estimate, limit: float, max_rows: int | None) -> str:
        """Say why the interval of what was found decides nothing, and what makes it narrower."""
        if self.timed and self.verdict(self.estimate(evidence.calm()), limit) != "inconclusive":
            return (
                f"candidates lacked a core for {evidence.crowding:.0%} of the time, which more samples do not mend; "
                "stop what else runs here"
            )
        if self.timed:
            again = ", or measure the earlier report again for longer" if self.field == "max_regression_ratio" else ""
            return f"the limit is inside the interval; raise --max-seconds, or quieten the machine{again}"
        if found.value == limit and limit in (0, 1):
            return f"no number of rows proves exactly {limit:g}, which was found; allow a little"
        rows = len(evidence.answers.references)
        remedy = f"raise --max-rows {max_rows}" if max_rows == rows else "add rows to the data"
        return f"the limit is inside the interval of {rows:,} rows; {remedy}"


def _p50_ratio(evidence: Evidence) -> Estimate:
    ratio = evidence.candidate.latency[0].ratio
    return evidence.judged(0.5, Estimate(ratio.p50, ratio.interval))


def _p95_ratio(evidence: Evidence) -> Estimate:
    ratio = evidence.candidate.latency[0].ratio
    return evidence.judged(0.95, Estimate(ratio.p95, ratio.p95_interval))


def _regression_ratio(evidence: Evidence) -> Estimate:
    assert evidence.change is not None  # a limit on the change asks for the report that it is to be seen against
    return Estimate(evidence.change.ratio, evidence.change.interval)


def _metric_drop(evidence: Evidence) -> Estimate:
    return drop_estimate(evidence.answers, evidence.baseline_answers, evidence.seed)


def _label_loyalty(evidence: Evidence) -> Estimate:
    return agreement_estimate(evidence.answers, evidence.baseline_answers, evidence.seed)


def _size_ratio(evidence: Evidence) -> Estimate:
    ratio = evidence.candidate.bytes / evidence.baseline.bytes
    return Estimate(ratio, (ratio, ratio))


# Latencies are judged at the first shape: the data's own lengths at the first batch size, which is what production
# pays; their intervals are widened by the noise floor. The drop is of the task's primary metric, baseline - candidate.
RULES: dict[str, Rule] = {
    "p50-ratio": Rule("max_p50_ratio", _p50_ratio, timed=True),
    "p95-ratio": Rule("max_p95_ratio", _p95_ratio, timed=True, tail=True),
    "regression-ratio": Rule("max_regression_ratio", _regression_ratio, timed=True),
    "metric-drop": Rule("max_metric_drop", _metric_drop, scored=True),
    "label-loyalty": Rule("min_label_loyalty", _label_loyalty, at_most=False),
    "size-ratio": Rule("max_size_ratio", _size_ratio),
}
QUANTILES = {0.5: "max_p50_ratio", 0.95: "max_p95_ratio"}


def check_gates(config: BenchmarkConfig, task: Task) -> None:
    """Refuse a gate that this kind of task has no answer to.

    Raises:
        ConfigError: label loyalty was asked of a regression.
    """
    if config.min_label_loyalty is not None and not task.labels:
        raise ConfigError(
            f"--min-label-loyalty {config.min_label_loyalty} was asked of a regression, which has no labels; "
            "use --max-metric-drop"
        )


def latency_limits(config: BenchmarkConfig, baseline: str, past: Past | None) -> list[Limit]:
    """Return what a candidate's times will be judged by, `past` being those of an earlier report."""

    def noise(timings: Timings, quantile: float) -> Interval:
        return timings.ratio(CONTROL, baseline, quantile, config.seed).interval

    def ratio(quantile: float) -> Callable[[Timings, str], Estimate]:
        return lambda timings, name: timings.ratio(name, baseline, quantile, config.seed).widened(
            noise(timings, quantile)
        )

    def change(timings: Timings, name: str) -> Estimate:
        assert past is not None
        return past.change(timings.seconds[name], timings.seconds[baseline], noise(timings, MEDIAN), config.seed)

    estimates = {field: ratio(quantile) for quantile, field in QUANTILES.items()}
    if past:
        estimates["max_regression_ratio"] = change
    asked = ((getattr(config, field), estimate) for field, estimate in estimates.items())
    return [Limit(limit, estimate) for limit, estimate in asked if limit is not None]


def judge(config: BenchmarkConfig, evidence: Sequence[Evidence]) -> tuple[Gate, ...]:
    """Judge every candidate by every limit that was asked."""
    gates = []
    for one in evidence:
        for name, rule in RULES.items():
            limit = getattr(config, rule.field)
            if limit is None:
                continue
            found = rule.estimate(one)
            reason = rule.blind(one)
            verdict = "inconclusive" if reason else rule.verdict(found, limit)
            if verdict == "inconclusive":
                reason = reason or rule.undecided(one, found, limit, config.max_rows)
            gates.append(Gate(name, one.candidate.name, limit, found.value, found.interval, verdict, reason))
    return tuple(gates)
