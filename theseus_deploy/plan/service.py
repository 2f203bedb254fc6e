"""How long a server is busy with a batch: the samples of a report, taken at the data's own lengths.

What was timed there are batches of inputs drawn at random from the data, tokenisation included. A batch of inputs
that arrive at random is another such draw, so the mix of lengths, and what padding to the longest costs, is in the
samples and needs no model.

Those batches followed each other at once. A server that has pauses is slower: it finds its weights gone from the caches
and its core slowed down, and not for the first batch after a pause alone. How much slower follows from the share of the
time in which it works, was measured at several, and is taken to be as long for a batch of any size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from theseus_deploy.benchmark.report import Candidate, Paced
from theseus_deploy.benchmark.stats import Array
from theseus_deploy.errors import ArtifactError, ConfigError

LEVELS = 1000  # quantiles that stand for a distribution
SHARES = (np.arange(LEVELS) + 0.5) / LEVELS


@dataclass(frozen=True)
class Seconds:
    """Quantiles of the seconds a batch takes, by how busy the server is.

    `table`, of shape (most, LEVELS), is that of a server without pauses: row n - 1 is for batches of n. `slower`, of
    shape (shares, LEVELS), is what pauses add where the server works for a share `busy` of the time, ascending to 1.
    """

    table: Array
    busy: Array
    slower: Array

    def at(self, busy: float) -> Array:
        """Return the quantiles of a server that works for this share of the time, of shape (most, LEVELS)."""
        weights = np.array([np.interp(busy, self.busy, one) for one in np.eye(len(self.busy))])
        taken: Array = self.table + weights @ self.slower
        return taken


@dataclass(frozen=True)
class ServiceTimes:
    """Seconds a batch, for batches of 1 to `most` inputs.

    `measured` has the samples of some batch sizes, of shape (rounds, samples a round): of 1, and of `most` or more.
    `paced` is what was measured with pauses; `overhead` is what a server spends on any batch beside what was measured,
    in seconds.
    """

    measured: Mapping[int, Array]
    most: int
    paced: Sequence[Paced] = ()
    overhead: float = 0.0

    @classmethod
    def of(cls, candidate: Candidate, most: int | None = None, *, overhead: float = 0.0) -> "ServiceTimes":
        """Take the samples of a candidate; `most` None is the largest batch that was measured.

        Raises:
            ArtifactError: the candidate ran on no CPU, or single inputs or pauses were not measured.
            ConfigError: `most` is above the largest batch that was measured.
        """
        if candidate.device != "cpu":
            raise ArtifactError(
                f"{candidate.name} was measured on {candidate.device}, and a plan counts the cores of CPUs; benchmark "
                "with --device cpu"
            )
        measured = {
            item.batch: item.by_round
            for item in sorted(candidate.latency, key=lambda item: item.batch)
            if item.sequence == "data"
        }
        sizes = ",".join(map(str, measured))
        if 1 not in measured:
            raise ArtifactError(
                f"{candidate.name} was measured at batch {sizes}, and a server answers single inputs too; benchmark "
                f"with --batch 1,{sizes}"
            )
        if most is not None and most > max(measured):
            raise ConfigError(
                f"--max-batch {most} is above {max(measured)}, the largest batch that was measured; lower it, or "
                f"benchmark with --batch {sizes},{most}"
            )
        if not candidate.paced:
            raise ArtifactError(f"{candidate.name} was not measured with pauses, as servers work; benchmark again")
        return cls(measured, most or max(measured), candidate.paced, overhead)

    def seconds(self, draw: np.random.Generator | None = None) -> Seconds:
        """Return what a batch takes, by how busy the server is.

        With `draw` what was measured is resampled, as the machine might have shown other times.
        """
        busy, slower = list[float](), list[Array]()
        for one in sorted(self.paced, key=lambda one: one.busy):
            pairs = np.array([one.samples, one.again])
            chosen = pairs if draw is None else pairs[:, draw.integers(pairs.shape[1], size=pairs.shape[1])]
            paced, again = np.quantile(chosen, SHARES, axis=1).T
            busy.append(one.busy)
            slower.append(np.maximum(0.0, paced - again))
        return Seconds(self.table(draw), np.array([*busy, 1.0]), np.array([*slower, np.zeros(LEVELS)]))

    def table(self, draw: np.random.Generator | None = None) -> Array:
        """Return the quantiles of a batch's seconds, of shape (most, LEVELS): row n - 1 is for batches of n.

        Between two sizes that were measured, each quantile is interpolated. With `draw` the rounds are resampled, as
        the machine might have shown other ones.
        """
        known = np.stack([np.quantile(_rounds(samples, draw), SHARES, method="inverted_cdf")
                          for samples in self.measured.values()])  # fmt: skip
        sizes, wanted = list(self.measured), np.arange(1, self.most + 1)
        return self.overhead + np.stack([np.interp(wanted, sizes, quantiles) for quantiles in known.T], axis=1)

    @property
    def capacity(self) -> float:
        """Return the most inputs a second that one server can answer, at the batch size that suits it best."""
        return float((np.arange(1, self.most + 1) / self.table().mean(axis=1)).max())


def _rounds(samples: Array, draw: np.random.Generator | None) -> Array:
    return samples if draw is None else samples[draw.integers(len(samples), size=len(samples))]
