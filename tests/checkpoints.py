"""What tests of checkpoints share: a task, what a changed config makes of a folder, and refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from theseus_deploy.errors import TheseusError
from theseus_deploy.models.checkpoint import Checkpoint, open_checkpoint
from theseus_deploy.tasks import Task

Save = Callable[..., Path]
MOODS = Task("single-label", ("bad", "fine", "good"), ("text",), "mood", 32, "accuracy")


def refuse(work: Callable[[], object]) -> str:
    with pytest.raises(TheseusError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def configure(folder: Path, **changes: Any) -> Checkpoint:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return open_checkpoint(str(folder))
