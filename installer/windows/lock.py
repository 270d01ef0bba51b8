"""Pin all packages of the Windows program with their hashes: ``python -m installer.windows.lock``.

Reads what pyproject.toml asks for, lets pip choose the newest that fit Windows and Python 3.11, and writes
``installer/requirements-windows.txt`` (the program and PyInstaller) and ``…-test.txt`` (pytest and its kin).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from installer.windows.windows_python import LOCK, PLATFORM, ROOT, TEST_LOCK

#: pip chooses by the conditions of the system that it runs on: what only Windows needs is named here.
ONLY_WINDOWS = ("pywin32-ctypes>=0.2", "colorama>=0.4", "pefile>=2023.2")
#: What only Linux needs and the choice brings along.
ONLY_LINUX = {"secretstorage", "jeepney"}
#: Tests of what the Windows program does use no more than these.
TEST_TOOLS = {"pytest", "pytest-qt", "pytest-timeout", "pytest-xdist", "hypothesis"}


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    program = [*project["dependencies"], *extras["freeze"], *ONLY_WINDOWS]
    tools = [line for line in extras["test"] if _name(line) in TEST_TOOLS]
    chosen = resolve([*program, *tools])
    for_program = resolve(program).keys()
    write(LOCK, "the Windows program and what freezes it", {n: chosen[n] for n in chosen if n in for_program})
    write(TEST_LOCK, "the tests on Windows Python", {n: chosen[n] for n in chosen if n not in for_program})
    return 0


def resolve(requirements: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What pip would install on Windows: its report's entries by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--target", folder,
                "--report", report, *PLATFORM, *requirements,
            ],
            check=True, timeout=1800,
        )  # fmt: skip
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    entries = {_name(entry["metadata"]["name"]): entry for entry in found}
    return {name: entries[name] for name in sorted(entries) if name not in ONLY_LINUX}


def write(path: Path, what: str, entries: dict[str, dict[str, Any]]) -> None:
    lines = [f"# Pinned for {what}. Made by `python -m installer.windows.lock`."]
    for name, entry in entries.items():
        digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={entry['metadata']['version']} --hash=sha256:{digest}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {len(entries)} packages")


def _name(requirement: str) -> str:
    """The normalised name at the beginning of a requirement."""
    name = ""
    for sign in requirement:
        if not (sign.isalnum() or sign in "-_."):
            break
        name += sign
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.exit(main())
