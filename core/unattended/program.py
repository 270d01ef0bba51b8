"""How this program is called again by the system: the command line's executable, frozen or not."""

from __future__ import annotations

import sys
from pathlib import Path


def program() -> tuple[str, ...]:
    """The words of the command, its executable as an absolute path."""
    suffix = ".exe" if sys.platform == "win32" else ""
    beside = Path(sys.executable).parent / f"dicom-ferry{suffix}"
    if beside.exists() or getattr(sys, "frozen", False):
        return (str(beside),)
    return (sys.executable, "-m", "core")
