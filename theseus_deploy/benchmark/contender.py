"""Who takes part: every folder found, checked and named before any process starts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from theseus_deploy.artifact import Artifact, fingerprint
from theseus_deploy.benchmark.report import Role
from theseus_deploy.benchmark.runtimes import RUNTIMES, FolderKind, runtime_for
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.errors import ConfigError, ModelError
from theseus_deploy.models import Checkpoint, open_checkpoint
from theseus_deploy.tasks import Task

WEIGHTS = ("*.safetensors", "*.bin", "*.onnx", "*.onnx.data", "*.onnx_data")


@dataclass(frozen=True)
class Contender:
    """A candidate before it is measured; `bytes` counts its weights, `positions` the longest input its model takes."""

    name: str
    ref: str
    path: Path
    sha256: str
    runtime: str
    device: str
    task: Task
    precision: str
    parameters: int | None
    layers: int
    bytes: int
    positions: float
    role: Role = "candidate"


def line_up(baseline: str, candidates: Sequence[str], config: BenchmarkConfig) -> list[Contender]:
    """Find and check the baseline and the candidates, in this order, and give them names that differ.

    Raises:
        ConfigError: no candidate; a runtime, device, label set or length that does not go with the rest.
        ModelError: a folder that is no model.
        ArtifactError: a folder of ours that is damaged.
    """
    if not candidates:
        raise ConfigError("0 candidates were given; give at least 1 checkpoint or bundle to compare with the baseline")
    refs = [baseline, *candidates]
    found = [_find(ref, config, is_baseline=position == 0) for position, ref in enumerate(refs)]
    for contender in found[1:]:
        _check_labels(contender, found[0])
    return _with_names(_with_one_length(found, config))


def _find(ref: str, config: BenchmarkConfig, is_baseline: bool) -> Contender:
    path = Path(ref)
    artifact = Artifact.open(path) if Artifact.exists(path) else None
    kind: FolderKind = "bundle" if artifact and artifact.manifest.kind == "bundle" else "checkpoint"
    runtime = runtime_for(kind, config.runtime, ref, is_baseline)
    device = "cpu" if config.device == "auto" else config.device
    if device not in RUNTIMES[runtime].devices:
        raise ConfigError(f"--device {device}: {ref} runs in {runtime} on the CPU only; use --device cpu")
    if artifact and kind == "bundle":
        if problems := artifact.check_files():
            raise ModelError(f"{ref} is damaged: {problems[0]}; write it again, or check it with `theseus verify`")
        checkpoint = Checkpoint(ref, path, artifact)  # its config.json is the checkpoint's
    else:
        checkpoint = open_checkpoint(ref)
        path = checkpoint.path
    manifest = artifact.manifest if artifact else None
    return Contender(
        name=f"{path.resolve().name if Path(ref).is_dir() else Path(ref).name} ({runtime})",
        ref=ref,
        path=path,
        sha256=fingerprint(path),
        runtime=runtime,
        device=device,
        task=checkpoint.task,
        precision=manifest.precision if manifest else "fp32",
        parameters=manifest.parameters if manifest else None,
        layers=manifest.layers if manifest else checkpoint.config.num_hidden_layers,
        bytes=sum(file.stat().st_size for pattern in WEIGHTS for file in path.glob(pattern)),
        positions=checkpoint.positions,
    )


def _check_labels(contender: Contender, baseline: Contender) -> None:
    ours, theirs = contender.task, baseline.task
    if (ours.kind, ours.labels) != (theirs.kind, theirs.labels):
        raise ConfigError(
            f"{contender.ref} ({ours.kind}) answers with {_labels(ours)}, the baseline {baseline.ref} ({theirs.kind}) "
            f"with {_labels(theirs)}; compare models of the same task and the same order of labels"
        )


def _with_one_length(contenders: list[Contender], config: BenchmarkConfig) -> list[Contender]:
    """Truncate alike: at the shortest of all, which a checkpoint can follow and a bundle cannot."""
    shortest = min(contenders, key=lambda contender: contender.task.max_length)
    length = shortest.task.max_length
    for contender in contenders:
        if contender.task.max_length != length and RUNTIMES[contender.runtime].kind == "bundle":
            raise ConfigError(
                f"{contender.ref} truncates at {contender.task.max_length} tokens, {shortest.ref} at {length}; "
                "compare models of one --max-length"
            )
        if max(config.sequence, default=0) > contender.positions:
            raise ConfigError(
                f"--sequence {max(config.sequence)} is more than the {contender.positions} positions of "
                f"{contender.ref}; lower it"
            )
    return [replace(contender, task=replace(contender.task, max_length=length)) for contender in contenders]


def _with_names(contenders: list[Contender]) -> list[Contender]:
    """Tell folders of the same name apart by the folders they lie in, and the same folder by a number."""
    folders = {(contender.path.resolve(), contender.runtime): contender.name for contender in contenders}
    depth = 1
    while len(set(folders.values())) < len(folders):
        depth += 1
        taken = Counter(folders.values())
        for (path, runtime), name in folders.items():
            if taken[name] > 1:
                folders[path, runtime] = f"{'/'.join(path.parts[-depth:])} ({runtime})"
    seen = Counter[str]()
    unique = []
    for contender in contenders:
        name = folders[contender.path.resolve(), contender.runtime]
        seen[name] += 1
        unique.append(replace(contender, name=name if seen[name] == 1 else f"{name} #{seen[name]}"))
    return unique


def _labels(task: Task) -> str:
    return f"{len(task.labels)} labels ({', '.join(task.labels[:5])})" if task.labels else "a number"
