"""The setup program for a person: per user or per machine, with a wizard; made by NSIS from the frozen folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build_setup(
    frozen: Path,
    closing: Path,
    icon: Path,
    version: str,
    target: Path,
    work: Path,
    sign: Sequence[str] = (),
    *,
    quick: bool = False,
) -> Path:
    """Make the setup program.

    Parameters
    ----------
    closing : Path
        The library that asks running copies to end.
    sign : Sequence[str]
        A command that signs the file behind it in place; for the uninstaller, which only exists inside.
    quick : bool
        Compress less: for tests.
    """
    work.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    licence = work / "licence.txt"
    # Windows' own line ends, or the page shows one long line.
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    licence.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    side = work / "side.bmp"
    # Qt wants the main thread, and this may be another one.
    subprocess.run([sys.executable, "-m", "installer.icon", side.resolve()], cwd=ROOT, check=True, timeout=120)
    numbers = ".".join([*version.split("."), "0", "0", "0"][:4])
    kilobytes = sum(file.stat().st_size for file in frozen.rglob("*") if file.is_file()) // 1024
    defined = {
        "VERSION": version,
        "NUMBERS": numbers,
        "FROZEN": frozen.resolve(),
        "CLOSING": closing.resolve(),
        "ICON": icon.resolve(),
        "SIDE": side.resolve(),
        "LICENCE": licence.resolve(),
        "OUTPUT": target.resolve(),
        "SIZE_KB": kilobytes,
        **({"SIGN": " ".join(sign)} if sign else {}),
        **({"QUICK": 1} if quick else {}),
    }
    subprocess.run(
        [
            "makensis", "-V2", "-WX", "-INPUTCHARSET", "UTF8",
            *(f"-D{name}={value}" for name, value in defined.items()),
            str(ROOT / "installer" / "windows" / "setup.nsi"),
        ],
        check=True,
        timeout=900,
    )  # fmt: skip
    return target
