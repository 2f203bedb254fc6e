"""What changed since an earlier report: refused where it was made in another environment, for then nothing is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theseus_deploy.benchmark.contender import Contender
from theseus_deploy.benchmark.noise import crowded
from theseus_deploy.benchmark.report import Against, BenchmarkReport, Candidate, Change, Shape
from theseus_deploy.benchmark.stats import Array, Estimate, Interval, median_ratio_change
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.errors import ConfigError

ENVIRONMENT = ("cpu", "gpu", "isa", "cores", "threads", "cpu_quota", "preloaded")
DATA = ("sha256", "split", "rows", "max_length")
SHOWN = 5  # differences that an error names


def open_earlier(
    config: BenchmarkConfig,
    contenders: Sequence[Contender],
    environment: Mapping[str, Any],
    data: Mapping[str, Any],
    shape: Shape,
) -> BenchmarkReport | None:
    """Read the report to compare with, if one was given, and check that it can be compared with.

    Raises:
        ArtifactError: it is no report.
        ConfigError: its machine, versions, baseline, data or first shape are others, or it knows no candidate; with a
            gate on the change, not all of them.
    """
    if config.against is None:
        return None
    earlier = BenchmarkReport.open(Path(config.against))
    then = _facts(earlier.environment, earlier.baseline, earlier.data, earlier.baseline.latency[0].shape)
    now = _facts(environment, contenders[0], data, shape)
    if other := [name for name in {**then, **now} if then.get(name) != now.get(name)]:
        shown = "; ".join(f"{name} was {then.get(name)}, is {now.get(name)}" for name in other[:SHOWN])
        raise ConfigError(
            f"--against {config.against} was measured otherwise ({shown}); compare reports of one environment, or "
            "measure the earlier candidate beside the new one"
        )
    known = [one.name for one in earlier.candidates]
    judged = [one.name for one in contenders[1:] if one.role == "candidate"]
    missing = [name for name in judged if name not in known]
    if missing and (config.max_regression_ratio is not None or missing == judged):
        raise ConfigError(
            f"--against {config.against} does not know {', '.join(missing)}, only {', '.join(known)}; give a candidate "
            "the name of the folder that was measured then"
        )
    return earlier


@dataclass(frozen=True)
class Past:
    """How an earlier report timed a candidate and its baseline, in arrays of shape (rounds, samples a round)."""

    candidate: Array
    baseline: Array
    noise: Interval

    @classmethod
    def of(cls, earlier: BenchmarkReport | None, name: str) -> "Past | None":
        """Take the first shape of a candidate out of a report; None where it is not in there."""
        was = next((one for one in earlier.candidates if one.name == name), None) if earlier else None
        if earlier is None or was is None:
            return None
        then, first = earlier.environment["noise"], was.latency[0]
        noise = crowded(then["interval"], then.get("crowding", 0.0), first.ratio.p50)
        return cls(first.by_round, earlier.baseline.latency[0].by_round, noise)

    def change(self, candidate: Array, baseline: Array, noise: Interval, seed: int) -> Estimate:
        """Estimate the ratio now, of arrays like these, over that of then, widened by the noise of both."""
        found = median_ratio_change((candidate, baseline), (self.candidate, self.baseline), (seed, seed + 1))
        return found.widened(noise).widened(self.noise)


def compare(
    earlier: BenchmarkReport,
    path: str,
    baseline: Candidate,
    candidates: Sequence[Candidate],
    noise: Interval,
    crowding: float,
    seed: int,
) -> Against:
    """Compare ratios to the baseline with those that candidates of the same names had in the earlier report.

    Intervals are widened by the noise of both reports; `noise` and `crowding` are those of now.
    """
    before = {one.name: one for one in earlier.candidates}
    changes = []
    for one in candidates:
        if past := Past.of(earlier, one.name):
            was, now = before[one.name], one.latency[0]
            around = crowded(noise, crowding, now.ratio.p50)
            found = past.change(now.by_round, baseline.latency[0].by_round, around, seed)
            changes.append(
                Change(
                    candidate=one.name,
                    before=was.latency[0].ratio.p50,
                    score_before=was.scores[earlier.data["metric"]],
                    bytes_before=was.bytes,
                    ratio=found.value,
                    interval=found.interval,
                )
            )
    return Against(path, tuple(changes))


def _facts(
    environment: Mapping[str, Any], baseline: Contender | Candidate, data: Mapping[str, Any], shape: Shape
) -> dict[str, Any]:
    """Gather what two reports must have in common: a ratio to the baseline means something on one machine only."""
    return {
        **{name: environment.get(name) for name in ENVIRONMENT},
        **environment["versions"],
        "baseline": baseline.sha256[:12],
        "runtime": f"{baseline.runtime} on {baseline.device}",
        **{f"data {name}": data[name] for name in DATA},
        "shape": str(shape),
    }
