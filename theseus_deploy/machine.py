"""What this machine is: the facts that go beside every number we print."""

import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from typing import Any

PACKAGES = ("theseus-deploy", "torch", "transformers", "onnx", "onnxscript", "onnxruntime", "openvino", "optimum",
            "accelerate", "datasets", "tokenizers", "numpy")  # fmt: skip

# The instructions that decide how fast int8 and bf16 run, by the names the Linux kernel gives them.
ISA = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8",
    "asimd", "asimddp", "bf16", "i8mm",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """CPU name, the instruction sets that matter to us, and the cores this process may use."""

    cpu: str
    isa: tuple[str, ...]
    cores: int

    @property
    def native_bf16(self) -> bool:
        """Whether matrix products in bfloat16 are faster than in float32 here."""
        return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(self.isa))

    @property
    def native_int8(self) -> bool:
        """Whether the CPU multiplies int8 without an intermediate that saturates (VNNI, AMX, dot product)."""
        return bool({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"} & set(self.isa))

    def to_json(self) -> dict[str, Any]:
        """Return the `machine` object of `theseus.json`."""
        return {**asdict(self), "isa": list(self.isa)}


@cache
def this_machine() -> Machine:
    """Describe the machine this process runs on."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags |= set(value.split())
    return Machine(cpu=name, isa=tuple(flag for flag in ISA if flag in flags), cores=usable_cores())


def usable_cores() -> int:
    """Count the cores that affinity and the cgroup quota leave to this process."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, affinity if quota is None else min(affinity, ceil(quota)))


def cpu_quota() -> float | None:
    """Read the cgroup's CPU quota in cores, or None where there is no limit."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        return None


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
