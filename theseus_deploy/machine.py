"""What this machine is: the facts that go beside every number we print."""

import os
import platform
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
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

GPU_WHEEL = "pip install --force-reinstall --no-deps onnxruntime-gpu"  # over the CPU's: both write the same folder
MOST_THREADS = 4096  # that may be asked for
INT8 = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")  # dot products that do not saturate
BF16 = ("avx512_bf16", "amx_bf16", "bf16")
AMX = ("amx_bf16", "amx_int8")


@dataclass(frozen=True)
class Machine:
    """CPU name, the instruction sets that matter to us, and the cores this process may use."""

    cpu: str
    isa: tuple[str, ...]
    cores: int

    def __str__(self) -> str:
        return f"{self.cpu} ({', '.join(self.isa) or 'no known extensions'})"

    @property
    def said(self) -> str:
        """Say what a number that was measured here is to be read with."""
        native = [name for name, is_native in (("int8", self.native_int8), ("bf16", self.native_bf16)) if is_native]
        cores = f"{self.cores} core" + "s" * (self.cores != 1)
        return f"{self.cpu} ({cores}, {'native ' + ' and '.join(native) if native else 'no native int8 or bf16'})"

    @property
    def native_bf16(self) -> bool:
        """Whether matrix products in bfloat16 are faster than in float32 here."""
        return bool(set(BF16) & set(self.isa))

    @property
    def native_int8(self) -> bool:
        """Whether the CPU multiplies int8 without an intermediate that saturates (VNNI, AMX, dot product)."""
        return bool(set(INT8) & set(self.isa))

    @property
    def saturates_int8(self) -> bool:
        """Whether sums of int8 products overflow 16 bits here: x86 without VNNI. What is unknown is not said to."""
        return "avx2" in self.isa and not self.native_int8

    def to_json(self) -> dict[str, Any]:
        """Return the `machine` object of `theseus.json`."""
        return {**asdict(self), "isa": list(self.isa)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Machine":
        """Read what `to_json` wrote."""
        return cls(data["cpu"], tuple(data["isa"]), data["cores"])


def warn_if_moved(folder: Path | str, precision: str, made_on: Machine | None) -> str:
    """Warn of an int8 bundle from a CPU whose products of bytes are others than this one's; return what was said."""
    effect = moved_int8(made_on, this_machine()) if made_on and precision.startswith("int8") else ""
    if not effect:
        return ""
    said = f"{folder} was quantised on {made_on}, and this is {this_machine()}: {effect}; "
    said += "export it again on a CPU like this one"
    warnings.warn(said, stacklevel=4)  # at whoever opened the bundle
    return said


def moved_int8(made_on: Machine, here: Machine) -> str:
    """Say what is wrong with running an int8 graph here that was quantised there; nothing where nothing is."""
    if made_on.native_int8 and here.saturates_int8:
        return "its weights of 8 bits overflow in the products of this CPU, and answers may be wrong"
    if here.native_int8 and not made_on.native_int8:
        return "its weights keep to 7 bits, a precision that this CPU need not give up"
    return ""


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


def throttled_seconds() -> float | None:
    """Read for how long the cgroup's quota has made this process's group wait, or None where that is not counted."""
    try:
        counted = dict(line.split() for line in Path("/sys/fs/cgroup/cpu.stat").read_text().splitlines())
        return int(counted["throttled_usec"]) / 1e6
    except (OSError, ValueError, KeyError):
        return None


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that decide a result."""
    from importlib.metadata import PackageNotFoundError, version  # slow, and production has no use for it

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
