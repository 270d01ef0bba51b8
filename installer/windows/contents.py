"""What is shipped, file by file: for IT departments, and to see that the same sources give the same program."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from installer.windows.windows_python import LOCK, ROOT

_HEAVIEST = 8
#: Of what is built without a repository: the first second that every archive format can hold.
_NO_COMMIT = 315_619_200


def epoch() -> int:
    """The time that all files of the program bear: that of the commit, seconds since 1970."""
    said = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    return int(said.stdout) if said.returncode == 0 and said.stdout.strip().isdecimal() else _NO_COMMIT


def settle_times(folder: Path) -> None:
    """Give all files the time of the commit."""
    moment = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (moment, moment))


def write_contents(frozen: Path, installers: Iterable[Path], to: Path) -> list[str]:
    """Write the list: each installer, file and package; what is heaviest is given back.

    Signed files, where a certificate is given, differ from build to build by the time of their signature.
    """
    files = sorted((path.relative_to(frozen).as_posix(), path) for path in frozen.rglob("*") if path.is_file())
    sizes: Counter[str] = Counter()
    lines = [f"{_digest(path)} {path.stat().st_size:>10} {path.name}" for path in installers]
    lines += ["", "Installed (SHA-256, bytes, file):"]
    for name, path in files:
        size = path.stat().st_size
        parts = name.split("/")
        sizes[parts[1] if len(parts) > 1 else parts[0]] += size
        lines.append(f"{_digest(path)} {size:>10} {name}")
    packages = [line.split(" ")[0] for line in LOCK.read_text(encoding="utf-8").splitlines() if "==" in line]
    lines += ["", "Packages that it is built with:", *packages]
    to.write_text("\n".join(lines) + "\n", encoding="utf-8")
    weighs = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in sizes.most_common(_HEAVIEST))
    whole = hashlib.sha256("\n".join(f"{_digest(path)} {name}" for name, path in files).encode()).hexdigest()
    return [
        f"{len(files)} files, {sum(sizes.values()) / 1e6:.0f} MB; what weighs (MB): {weighs}",
        f"all of them together: SHA-256 {whole}",
    ]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
