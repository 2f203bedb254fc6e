"""What is written beside every number is what this machine says of itself."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from theseus_deploy.machine import ISA, Machine, cpu_quota, moved_int8, this_machine, usable_cores, versions


def test_this_machine_is_named_by_its_cpu() -> None:
    machine = this_machine()
    assert machine.cpu
    assert machine.isa == tuple(flag for flag in ISA if flag in machine.isa)
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert json.loads(json.dumps(machine.to_json())) == {
        "cpu": machine.cpu,
        "isa": list(machine.isa),
        "cores": machine.cores,
    }


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux has /proc/cpuinfo")
def test_the_instruction_sets_are_those_of_the_kernel() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    assert {flag for flag in ISA if flag in flags} == set(this_machine().isa)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds processes to cores")
def test_cores_are_those_that_this_process_may_use() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    code += "from theseus_deploy.machine import usable_cores; print(usable_cores())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


def test_a_quota_is_a_number_of_cores() -> None:
    quota = cpu_quota()
    assert quota is None or quota > 0
    assert quota is None or usable_cores() < quota + 1


@pytest.mark.parametrize(
    ("isa", "int8", "bf16"),
    [
        ((), False, False),
        (("avx2", "avx512f"), False, False),
        (("avx2", "avx_vnni"), True, False),
        (("avx512f", "avx512_vnni"), True, False),
        (("avx512_vnni", "avx512_bf16"), True, True),
        (("amx_bf16", "amx_int8"), True, True),
        (("asimd",), False, False),
        (("asimd", "asimddp"), True, False),
        (("asimd", "bf16", "i8mm"), True, True),
    ],
)
def test_what_is_native_follows_from_the_instruction_sets(isa: tuple[str, ...], int8: bool, bf16: bool) -> None:
    machine = Machine("some cpu", isa, 1)
    assert (machine.native_int8, machine.native_bf16) == (int8, bf16)


@pytest.mark.parametrize(
    ("made_on", "here", "effect"),
    [
        (("avx2", "avx512_vnni"), ("avx2", "avx_vnni"), ""),
        (("asimd", "i8mm"), ("avx512_vnni",), ""),
        (("avx2", "avx512_vnni"), ("avx2", "avx512f"), "overflow"),
        (("asimd", "asimddp"), ("avx2",), "overflow"),
        (("avx512_vnni",), ("asimd",), ""),  # slower, and right
        (("avx512_vnni",), (), ""),  # not Linux: what it has is not known
        (("avx2",), ("avx2", "avx512f"), ""),
        (("avx2",), ("avx512_vnni",), "7 bits"),
        ((), ("asimddp",), "7 bits"),
    ],
)
def test_int8_that_was_moved_is_wrong_where_it_overflows_and_coarse_where_it_need_not_be(
    made_on: tuple[str, ...], here: tuple[str, ...], effect: str
) -> None:
    found = moved_int8(Machine("there", made_on, 1), Machine("here", here, 1))
    assert bool(found) == bool(effect)
    assert effect in found


def test_versions_are_of_what_is_installed() -> None:
    found = versions()
    assert found["torch"] == version("torch")
    assert found["theseus-deploy"] == version("theseus-deploy")
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(found.values())
