"""Who takes part: every folder found, checked and named before any process starts."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from theseus_deploy.artifact import Artifact, fingerprint
from theseus_deploy.benchmark.report import Role
from theseus_deploy.benchmark.runtimes import BF16, RUNTIMES, FolderKind, runtime_for
from theseus_deploy.configs import BenchmarkConfig
from theseus_deploy.errors import ConfigError
from theseus_deploy.machine import this_machine, warn_if_moved
from theseus_deploy.models.checkpoint import Checkpoint, open_checkpoint
from theseus_deploy.tasks import Task

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # one file, or an index of several; the first is what is loaded
GRAPHS = ("*.onnx", "*.onnx.data", "*.onnx_data")


@dataclass(frozen=True)
class Contender:
    """A candidate before it is measured; `bytes` counts its weights, `positions` the longest input its model takes.

    `says_length` is False where 128 tokens are a guess of what its model was trained on; `remark` is what a reader
    of its numbers should know of it.
    """

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
    says_length: bool = True
    role: Role = "candidate"
    remark: str = ""

    @property
    def where(self) -> str:
        """Say in what it runs, as its name has it."""
        return f"{self.runtime} bf16" if self.precision == BF16 else self.runtime


def line_up(
    baseline: str, candidates: Sequence[str], config: BenchmarkConfig, references: Sequence[str] = ()
) -> list[Contender]:
    """Find and check the baseline, the candidates and the references, in this order, and give them names that differ.

    A reference is the baseline in another form; what else is asked of checkpoints in bf16 comes last.

    Raises:
        ConfigError: no candidate; a runtime, device, label set or length that does not go with the rest.
        ModelError: a folder that is no model.
        ArtifactError: a folder of ours that is not as it was written.
    """
    if not candidates:
        raise ConfigError("0 candidates were given; give at least 1 checkpoint or bundle to compare with the baseline")
    refs = [baseline, *candidates]
    found = [_find(ref, config, is_baseline=position == 0) for position, ref in enumerate(refs)]
    found += [replace(_find(ref, config, is_baseline=False), role="reference") for ref in references]
    if config.device == "cuda":
        for runtime in dict.fromkeys(contender.runtime for contender in found):
            if refuse := RUNTIMES[runtime].check_gpu:
                refuse()
    if config.bf16:
        found += _in_bf16(found)
    for contender in found[1:]:
        _check_labels(contender, found[0])
    return with_names(_with_one_length(found, config))


def missing_reference(contenders: Sequence[Contender], config: BenchmarkConfig) -> int | None:
    """Return where the baseline is to be cut, in tokens, if bundles lack it as one of them in fp32; else None."""
    first, *others = contenders
    bundles = [Artifact.open(one.path).manifest for one in others if RUNTIMES[one.runtime].kind == "bundle"]
    lacks = (
        config.reference
        and bool(bundles)
        and RUNTIMES[first.runtime].kind == "checkpoint"
        and not any(
            one.precision == "fp32" and one.parent is not None and one.parent.sha256 == first.sha256 for one in bundles
        )
    )
    return first.task.max_length if lacks else None


def _in_bf16(contenders: list[Contender]) -> list[Contender]:
    checkpoints = [one for one in contenders if RUNTIMES[one.runtime].kind == "checkpoint"]
    machine = this_machine()
    if not checkpoints:
        raise ConfigError("--bf16 is for checkpoints, and 0 were given; give one, or leave it out")
    if checkpoints[0].device == "cpu" and not machine.native_bf16:
        raise ConfigError(f"--bf16, but {machine} only imitates it, slower than fp32; leave it out")
    return [replace(one, precision=BF16, role="reference" if one is contenders[0] else one.role) for one in checkpoints]


def _find(ref: str, config: BenchmarkConfig, is_baseline: bool) -> Contender:
    path = Path(ref)
    artifact = Artifact.open(path) if Artifact.exists(path) else None
    kind: FolderKind = "bundle" if artifact and artifact.manifest.kind == "bundle" else "checkpoint"
    runtime = runtime_for(kind, config.runtime, ref, is_baseline)
    device, remark = "cpu" if config.device == "auto" else config.device, ""
    if device not in RUNTIMES[runtime].devices:
        raise ConfigError(f"--device {device}: {ref} runs in {runtime} on the CPU only; use --device cpu")
    if artifact and kind == "bundle":
        artifact.require_unchanged(ref)
        remark = warn_if_moved(ref, artifact.manifest.precision, artifact.manifest.machine)
        checkpoint = Checkpoint(ref, path, artifact)  # its config.json is the checkpoint's
    else:
        checkpoint = open_checkpoint(ref)
        path = checkpoint.path
        if not checkpoint.artifact:  # what we wrote is trained, and just as we wrote it
            checkpoint.check_trained()
    manifest = artifact.manifest if artifact else None
    return Contender(
        name=path.resolve().name if Path(ref).is_dir() else Path(ref).name,
        ref=ref,
        path=path,
        sha256=fingerprint(path),
        runtime=runtime,
        device=device,
        task=checkpoint.task,
        precision=manifest.precision if manifest else "fp32",
        parameters=manifest.parameters if manifest else None,
        layers=manifest.layers if manifest else checkpoint.config.num_hidden_layers,
        bytes=_bytes_of_weights(path, kind),
        positions=checkpoint.positions,
        says_length=artifact is not None,
        remark=remark,
    )


def _bytes_of_weights(path: Path, kind: FolderKind) -> int:
    """Count what is loaded: many a checkpoint of the Hub has its weights in two forms, or precisions."""
    if kind == "bundle":
        return sum(file.stat().st_size for pattern in GRAPHS for file in path.glob(pattern))
    for name in WEIGHTS:
        index = path / f"{name}.index.json"
        if (path / name).exists():
            return (path / name).stat().st_size
        if index.exists():
            parts = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            return sum((path / part).stat().st_size for part in parts)
    return 0


def _check_labels(contender: Contender, baseline: Contender) -> None:
    ours, theirs = contender.task, baseline.task
    if (ours.kind, ours.labels) != (theirs.kind, theirs.labels):
        raise ConfigError(
            f"{contender.ref} ({ours.kind}) answers with {_labels(ours)}, the baseline {baseline.ref} ({theirs.kind}) "
            f"with {_labels(theirs)}; compare models of the same task and the same order of labels"
        )


def _with_one_length(contenders: list[Contender], config: BenchmarkConfig) -> list[Contender]:
    """Truncate alike: at the shortest of all, which a checkpoint can follow and a bundle cannot.

    A checkpoint that does not say where it was cut goes along with those that do, as far as it has positions.
    """
    nobody_says = not any(contender.says_length for contender in contenders)

    def reach(contender: Contender) -> float:
        return contender.task.max_length if contender.says_length or nobody_says else contender.positions

    shortest = min(contenders, key=reach)
    length = int(reach(shortest))
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


def with_names(contenders: list[Contender]) -> list[Contender]:
    """Tell folders of the same name apart by the folders they lie in, or their Hub ids, and one folder by a number."""
    parts = {
        one.path.resolve(): (one.path.resolve() if one.path == Path(one.ref) else Path(one.ref)).parts
        for one in contenders
    }
    folders = {(one.path.resolve(), one.where): f"{one.name} ({one.where})" for one in contenders}
    depth = 1
    while len(set(folders.values())) < len(folders):
        depth += 1
        taken = Counter(folders.values())
        for (path, where), name in folders.items():
            if taken[name] > 1:
                folders[path, where] = f"{'/'.join(parts[path][-depth:])} ({where})"
    seen = Counter[str]()
    unique = []
    for contender in contenders:
        name = folders[contender.path.resolve(), contender.where]
        seen[name] += 1
        unique.append(replace(contender, name=name if seen[name] == 1 else f"{name} #{seen[name]}"))
    return unique


def _labels(task: Task) -> str:
    return f"{len(task.labels)} labels ({', '.join(task.labels[:5])})" if task.labels else "a number"
