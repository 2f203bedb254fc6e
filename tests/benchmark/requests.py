"""A request for a short benchmark, with all that a configuration may ask of it."""

from theseus_deploy.benchmark.stage import BenchmarkRequest
from theseus_deploy.configs import BenchmarkConfig

CONFIG = BenchmarkConfig(
    batch=(1, 4), sequence=(8,), min_samples=12, max_seconds=2, threads=1, max_size_ratio=1.0, min_label_loyalty=0.8,
    threads_sweep=(1, 2), price_per_hour=3.6,
)  # fmt: skip


def asked(candidates: list[str], baseline: object, data: object, config: BenchmarkConfig = CONFIG) -> BenchmarkRequest:
    return BenchmarkRequest(candidates=candidates, baseline=str(baseline), data=str(data), config=config)
