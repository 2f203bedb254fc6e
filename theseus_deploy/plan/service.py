"""How long a server is busy with a batch: the samples of a report, taken at the data's own lengths.

What was timed there are batches of inputs drawn at random from the data, tokenisation included. A batch of inputs
that arrive at random is another such draw, so the mix of lengths, and what padding to the longest costs, is in the
samples and needs no model.

Those batches followed each other at once. A server that had nothing to do for a while finds its weights gone from the
caches, and reads them again: that takes as long for a batch of any size, and what was timed after pauses says how long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from theseus_deploy.benchmark.report import Candidate, Rested
from theseus_deploy.benchmark.stats import Array
from theseus_deploy.errors import ArtifactError, ConfigError

LEVELS = 1000  # quantiles that stand for a distribution
SHARES = (np.arange(LEVELS) + 0.5) / LEVELS
GRAIN = 0.0005  # seconds: how finely rests are told apart


@dataclass(frozen=True)
class ServiceTimes:
    """Seconds a batch, for batches of 1 to `most` inputs.

    `measured` has the samples of some batch sizes, of shape (rounds, samples a round): of 1, and of `most` or more.
    `rested` is what was measured after pauses, in ascending order; `overhead` is what a server spends on any batch
    beside what was measured, in seconds.
    """

    measured: Mapping[int, Array]
    most: int
    rested: Sequence[Rested] = ()
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
            item.batch: np.array(item.samples).reshape(item.rounds, -1)
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
        if not candidate.rested:
            raise ArtifactError(f"{candidate.name} was not measured after pauses, as servers work; benchmark again")
        return cls(measured, most or max(measured), candidate.rested, overhead)

    def table(self, draw: np.random.Generator | None = None) -> Array:
        """Return the quantiles of a batch's seconds, of shape (most, LEVELS): row n - 1 is for batches of n.

        Between two sizes that were measured, each quantile is interpolated. With `draw` the rounds are resampled, as
        the machine might have shown other ones.
        """
        known = np.stack([np.quantile(_rounds(samples, draw), SHARES, method="inverted_cdf")
                          for samples in self.measured.values()])  # fmt: skip
        sizes, wanted = list(self.measured), np.arange(1, self.most + 1)
        return self.overhead + np.stack([np.interp(wanted, sizes, quantiles) for quantiles in known.T], axis=1)

    def waking(self, draw: np.random.Generator | None = None) -> Array:
        """Return what a rest adds to the quantiles of the batch after it, in seconds, of shape (grains, LEVELS).

        A row is for a rest of so many grains, the last for all longer ones. What was measured after a pause has
        quantiles of its own, and its tail grows more than its middle. With `draw` what was measured is resampled.
        """
        pauses, added = [0.0], [np.zeros(LEVELS)]
        for one in self.rested:
            pairs = np.array([one.samples, one.again])
            chosen = pairs if draw is None else pairs[:, draw.integers(pairs.shape[1], size=pairs.shape[1])]
            rested, again = np.quantile(chosen, SHARES, axis=1).T
            pauses.append(one.pause)
            added.append(np.maximum(0.0, rested - again))
        rests = np.arange(round(pauses[-1] / GRAIN) + 1) * GRAIN
        return np.stack([np.interp(rests, pauses, level) for level in np.transpose(added)], axis=1)

    @property
    def capacity(self) -> float:
        """Return the most inputs a second that one server can answer, at the batch size that suits it best."""
        return float((np.arange(1, self.most + 1) / self.table().mean(axis=1)).max())


def _rounds(samples: Array, draw: np.random.Generator | None) -> Array:
    return samples if draw is None else samples[draw.integers(len(samples), size=len(samples))]
