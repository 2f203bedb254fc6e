"""Print a constraints file that holds every dependency at the floor that pyproject.toml promises."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
for requirement in [*project["dependencies"], *project["optional-dependencies"]["openvino"]]:
    floor = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
    if floor is None:
        raise SystemExit(f"{requirement!r} in pyproject.toml has no floor; write it as name>=version")
    print(f"{floor[1]}=={floor[2]}")
