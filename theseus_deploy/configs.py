"""What can be asked of each stage: frozen, checked on construction, no I/O.

The CLI and recipes read their defaults here. A configuration goes unchanged into the manifest of the folder it made.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from theseus_deploy.config_base import Checked, flag
from theseus_deploy.errors import ConfigError
from theseus_deploy.machine import MOST_THREADS

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Method = Literal["theseus", "truncate", "distill", "theseus+distill"]
ScheduleKind = Literal["linear", "constant", "anti"]
TaskKind = Literal["auto", "single-label", "multi-label", "regression", "tokens"]
Thaw = Literal["none", "head", "all"]
Decay = Literal["linear", "successor", "none"]
Keep = Literal["best", "last"]
Init = Literal["auto", "bottom", "first", "last", "every-other"]
Quantize = Literal["none", "dynamic", "static", "fp16", "auto"]
Runtime = Literal["auto", "torch", "onnxruntime", "openvino"]
POISSON = "poisson"
RATES = (1e-6, 1e9)  # in inputs a second: rarer, and a time is no longer told from the one a moment later
LONGEST_MS = 1e9  # eleven days
DEAREST = 1e9  # an hour, in whatever is paid
EPOCHS = 3.0  # where nobody says otherwise
FEWEST_STEPS = 1_000  # of compressing, there: what the paper's shortest schedule takes until the rate is 1


@dataclass(frozen=True)
class MethodFacts:
    """Whether modules are replaced one by one; whether the predecessor's logits are learned from."""

    replaces: bool
    has_teacher: bool


METHODS: dict[Method, MethodFacts] = {
    "theseus": MethodFacts(replaces=True, has_teacher=False),
    "theseus+distill": MethodFacts(replaces=True, has_teacher=True),
    "truncate": MethodFacts(replaces=False, has_teacher=False),
    "distill": MethodFacts(replaces=False, has_teacher=True),
}


@dataclass(frozen=True, kw_only=True)
class Config(Checked):
    """What every stage can be asked."""

    seed: int = 1
    device: Device = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least("seed", 0)
        self._at_most("seed", 2**32 - 1)  # numpy's limit
        self._at_least("threads", 1)
        self._at_most("threads", MOST_THREADS)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """What both trainings can be asked: times in epochs or optimizer steps, lengths in tokens.

    `max_steps` overrides `epochs`, of which None is `EPOCHS`; `max_length` None keeps the model's own, or 128. A batch
    is divided among the processes that share the training. `metric` decides which evaluation is the best, and whatever
    is decided later; None is what the data, or a model of this kind, is usually judged by. `patience` ends the training
    after so many evaluations in a row that were no better.
    """

    epochs: float | None = None
    max_steps: int | None = None
    lr: float = 5e-5
    batch_size: int = 32
    accumulate: int = 1
    max_length: int | None = None
    precision: Precision = "auto"
    metric: str | None = None
    patience: int | None = None
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.epochs <= 0:
            raise ConfigError(f"--epochs {self.epochs} is not above 0; raise it")
        if not 0 < self.lr < 1:
            raise ConfigError(f"--lr {self.lr} is outside 0..1 (exclusive); the usual is 1e-5 to 2e-4")
        self._at_least("max_steps", 1)
        self._at_least("batch_size", 1)
        self._at_least("accumulate", 1)
        self._at_least("max_length", 4)
        self._at_least("patience", 1)

    def steps(self, steps_per_epoch: int) -> int:
        """Return how many optimizer steps are asked for, where so many are an epoch."""
        return self.max_steps or ceil(round((self.epochs or EPOCHS) * steps_per_epoch, 6))


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """What `theseus finetune` can be asked.

    `task` is how the labels are understood; `warmup` is the share of training in which the learning rate rises.
    """

    task: TaskKind = "auto"
    warmup: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within("warmup", 0, 1)


@dataclass(frozen=True, kw_only=True)
class CompressConfig(TrainingConfig):
    """What `theseus compress` can be asked.

    `layers` (evenly divided) or `map` gives the modules; without both, half of the predecessor's layers. Without
    `epochs` and `max_steps`, a training takes at least `FEWEST_STEPS`.
    `method` adds the predecessor's logits to the task's loss, which the paper's `theseus` does without, or is a rival.
    `init` says which layers the successors start as; `auto` asks them before any training (`compress.start`).
    `replace_until` is the fraction of training at which the replacing rate reaches 1; `k` is the paper's slope of
    the rate per optimizer step, and takes its place. `thaw` is what trains beside the successor's layers once the
    rate is 1, for the rivals from the start; None is everything where the predecessor's logits are learned from, else
    nothing, as in the paper's code. `decay` says how the learning rate falls: to 0 over the whole training, or from
    `replace_until` on, where the successor is trained whole; or not at all, as eq. 7 of the paper assumes. `keep`
    says whether the successor is that of the best evaluation, of equals the first, or of the last step. `dropout` is
    that of the predecessor's own training; None leaves it out where a text's logits are learned from, which the
    predecessor computes without it, and not where words are tagged. `temperature` and `alpha` belong to distillation.
    """

    method: Method = "theseus+distill"
    layers: int | None = None
    map: str | None = None
    init: Init = "auto"
    schedule: ScheduleKind = "linear"
    base_rate: float = 0.3
    replace_until: float = 0.5
    k: float | None = None
    thaw: Thaw | None = None
    lr: float = 1e-4
    decay: Decay = "successor"
    keep: Keep = "best"
    dropout: bool | None = None
    temperature: float = 4.0
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers is not None and self.map is not None:
            raise ConfigError(f"--layers {self.layers} and --map {self.map} were both given; keep one of them")
        if self.replaces and self.precision == "fp16":
            raise ConfigError(
                "--precision fp16 cannot skip a step in which no module is replaced; use bf16, fp32 or auto"
            )
        self._at_least("layers", 1)
        self._within("base_rate", 0, 1)
        self._within("replace_until", 0, 1)
        if self.k is not None and self.k <= 0:
            raise ConfigError(f"--k {self.k} is not above 0; the rate must rise, by 0.0006 a step for instance")
        if self.temperature <= 0:
            raise ConfigError(f"--temperature {self.temperature} is not above 0; the usual is 1 to 10")
        self._within("alpha", 0, 1)

    def steps(self, steps_per_epoch: int) -> int:
        """Return how many optimizer steps are asked for, where so many are an epoch: by default not too few."""
        asked = super().steps(steps_per_epoch)
        return asked if self.max_steps or self.epochs else max(asked, FEWEST_STEPS)

    @property
    def replaces(self) -> bool:
        """Whether modules are replaced one by one, and not all at once."""
        return METHODS[self.method].replaces

    @property
    def has_teacher(self) -> bool:
        """Whether the predecessor's logits are learned from beside the labels."""
        return METHODS[self.method].has_teacher

    @property
    def scheduled(self) -> bool:
        """Whether anything follows the replacement schedule: modules, or where the learning rate begins to fall."""
        return self.replaces or self.decay == "successor"

    @property
    def thaws(self) -> Thaw:
        """What trains beside the successor's layers."""
        return self.thaw or ("all" if self.has_teacher else "none")

    def drops(self, tags_words: bool) -> bool:
        """Tell whether activations are dropped in training."""
        return tags_words or not self.has_teacher if self.dropout is None else self.dropout


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Config):
    """What `theseus export` can be asked; `atol` bounds the difference of any logit from the checkpoint's.

    `quantize_embeddings` and `per_channel` (one scale a column of a weight, not one for all of it) belong to int8, and
    so do its budgets: `min_agreement` of labels with the checkpoint, `max_metric_drop` of the data's metric below it.
    Inputs are cut at `max_length` tokens; None is as the model was trained, or 128 where nobody knows.
    """

    quantize: Quantize = "none"
    max_length: int | None = None
    quantize_embeddings: bool = True
    per_channel: bool = True
    min_agreement: float | None = None
    max_metric_drop: float | None = None
    opset: int = 20
    atol: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device == "cuda":
            raise ConfigError("--device cuda, but export runs on the CPU only; use --device cpu")
        self._within("opset", 18, 23)
        self._at_least("max_length", 4)
        if self.atol <= 0:
            raise ConfigError(f"--atol {self.atol} is not above 0; the usual is 1e-4")
        for name in ("min_agreement", "max_metric_drop"):
            self._within(name, 0, 1)
            if (limit := getattr(self, name)) is not None and self.quantize in ("none", "fp16"):
                raise ConfigError(
                    f"{flag(name)} {limit} is a budget for int8, and --quantize {self.quantize} has none; use "
                    "--quantize auto, dynamic or static"
                )


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(Config):
    """What `theseus benchmark` can be asked: shapes in inputs and tokens, times in seconds, gates as limits.

    Every batch size is also measured at the data's own lengths, tokenisation included. `min_samples` is for each
    candidate and shape; `max_seconds` is for all the timing together, but for ten rounds of each shape; `max_rows`
    bounds the rows that are scored. `threads_sweep` measures the first shape with each of these numbers of threads as
    well; `price_per_hour` is that of all cores that this program may use. `bf16` measures checkpoints in bfloat16 as
    well, `reference` a checkpoint that is the baseline in the bundles' runtime as well. `cuda_graphs` belongs to
    bundles on a GPU. `against` is an earlier report, and `max_regression_ratio` limits how much slower than there a
    candidate may be.
    """

    batch: tuple[int, ...] = (1, 8)
    sequence: tuple[int, ...] = ()
    runtime: Runtime = "auto"
    min_samples: int = 30
    max_seconds: float = 120.0
    max_rows: int | None = None
    threads_sweep: tuple[int, ...] = ()
    price_per_hour: float | None = None
    bf16: bool = False
    reference: bool = True
    cuda_graphs: bool = False
    against: str | None = None
    max_p50_ratio: float | None = None
    max_p95_ratio: float | None = None
    max_regression_ratio: float | None = None
    max_metric_drop: float | None = None
    min_label_loyalty: float | None = None
    max_size_ratio: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch", "sequence", "threads_sweep"):
            if any(value < 1 for value in getattr(self, name)):
                given = ",".join(map(str, getattr(self, name)))
                raise ConfigError(f"{flag(name)} {given} holds a value below 1; raise it")
        if not self.batch:
            raise ConfigError("--batch is empty; give at least one batch size, such as 1")
        self._at_least("min_samples", 5)
        self._at_least("max_seconds", 1)
        self._at_least("max_rows", 1)
        self._within("price_per_hour", 0, DEAREST)
        self._at_least("max_p50_ratio", 0)
        self._at_least("max_p95_ratio", 0)
        self._at_least("max_size_ratio", 0)
        self._at_least("max_regression_ratio", 0)
        if self.max_regression_ratio is not None and self.against is None:
            raise ConfigError(
                f"--max-regression-ratio {self.max_regression_ratio} has nothing to compare with; give an earlier "
                "report with --against previous.json"
            )
        if self.cuda_graphs and self.device != "cuda":
            raise ConfigError(f"--cuda-graphs with --device {self.device}; use --device cuda, or leave it out")
        self._within("max_metric_drop", 0, 1)
        self._within("min_label_loyalty", 0, 1)


@dataclass(frozen=True, kw_only=True)
class PlanConfig(Checked):
    """What `theseus plan` can be asked: the load in inputs a second, the objective, and how servers form batches.

    A server that is free takes up to `max_batch` inputs (None: the largest batch that was measured) as soon as so many
    wait or the first of them has waited for the window, and spends the overhead on them beside what was measured.
    `network_ms` is what an input's way to the server and back adds to its latency, and keeps no server busy.
    `arrivals` is `poisson`, or a file of time stamps to replay, at their own rate without `qps`. `price_per_hour` is
    that of all the cores which the report's programs might use.
    """

    p99_ms: float
    qps: float | None = None
    batch_window_ms: float = 0.0
    max_batch: int | None = None
    overhead_ms: float = 0.0
    network_ms: float = 0.0
    arrivals: str = POISSON
    price_per_hour: float | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p99_ms <= 0:
            raise ConfigError(f"--p99-ms {self.p99_ms} is not above 0; raise it")
        self._within("qps", *RATES)
        if self.qps is None and self.arrivals == POISSON:
            raise ConfigError("--qps is missing, and Poisson arrivals have no rate without it; give inputs a second")
        for name in ("p99_ms", "batch_window_ms", "network_ms", "overhead_ms"):
            self._within(name, 0, LONGEST_MS)
        if self.batch_window_ms + self.network_ms >= self.p99_ms:
            raise ConfigError(
                f"--batch-window-ms {self.batch_window_ms:g} and --network-ms {self.network_ms:g} leave nothing of "
                f"--p99-ms {self.p99_ms:g} to answer in; lower the window"
            )
        self._at_least("max_batch", 1)
        self._within("price_per_hour", 0, DEAREST)
        self._at_least("seed", 0)
