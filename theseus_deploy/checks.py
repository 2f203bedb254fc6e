"""The answer to a question about a folder or a machine: `theseus verify` and `theseus doctor` are lists of these."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was checked: its name, whether it is as it should be, and what was found."""

    name: str
    ok: bool
    detail: str
