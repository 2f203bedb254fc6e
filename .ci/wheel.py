"""Check a wheel: it holds our two packages whole and nothing else, and it works without the checkout."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"theseus_deploy": ROOT / "theseus_deploy", "theseus_deploy_cli": ROOT / "cli" / "theseus_deploy_cli"}


def check_contents(wheel: Path) -> None:
    """Compare the wheel with the source tree, file by file: code, templates, recipes and type markers alike."""
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {
        f"{package}/{file.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    source |= {f"{package}/py.typed" for package in PACKAGES}
    if packed != source:
        raise SystemExit(f"{wheel.name} and the source tree differ in {', '.join(sorted(packed ^ source))}")
    print(f"{wheel.name}: {len(packed)} files in {' and '.join(sorted({name.split('/')[0] for name in packed}))}")


def check_installed(wheel: Path) -> None:
    """Install the wheel in an environment of its own and run its commands there."""
    with tempfile.TemporaryDirectory(prefix=".venv-wheel-", dir=ROOT) as elsewhere:
        venv.create(elsewhere, with_pip=True)
        install = ["python", "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
        for command, *arguments in (
            [*install, "--upgrade", "pip"],
            [*install, str(wheel)],
            ["theseus", "--version"],
            ["theseus", "doctor"],
        ):
            print("$", command, *arguments, flush=True)
            subprocess.run([Path(elsewhere, "bin", command), *arguments], cwd=elsewhere, check=True)


if __name__ == "__main__":
    check_contents(Path(sys.argv[1]))
    check_installed(Path(sys.argv[1]).resolve())
