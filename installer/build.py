"""Freeze the program into one folder: ``python installer/build.py``, on Windows, under Wine, or on Linux.

Needs the program and PyInstaller in the same Python (``pip install -e .[freeze]``). Writes
``dist/DICOM Ferry`` (or the folder named), and what it made on the way to ``build/frozen``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from core import __version__  # noqa: E402
from installer.freezing import CONSOLE_NAME, WINDOW_NAME  # noqa: E402

COMPANY = "DICOM Ferry contributors"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the folder is put")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "frozen", help="for what is made on the way")
    chosen = parser.parse_args()
    began = time.monotonic()
    folder = freeze(chosen.dist.absolute(), chosen.work.absolute())
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.0f} MB, frozen in {time.monotonic() - began:.0f} s")
    return 0


def freeze(dist: Path, work: Path) -> Path:
    """Freeze; the folder that holds the program."""
    from PyInstaller.__main__ import run  # type: ignore[import-untyped]

    folder = dist / WINDOW_NAME
    shutil.rmtree(folder, ignore_errors=True)
    made = work / "dicom-ferry"  # workpath of the specification
    made.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        from installer.icon import write_icon

        write_icon(made / "dicom-ferry.ico")
        for name, what in ((CONSOLE_NAME, "console"), (WINDOW_NAME, "window")):
            (made / f"version-{what}.txt").write_text(_version_resource(name, what), encoding="utf-8")
    # A folder of PyInstaller's own: nothing of another build's bytecode.
    os.environ["PYINSTALLER_CONFIG_DIR"] = str(work / "cache")
    run(
        [
            "--noconfirm", "--log-level", "WARN", "--distpath", str(dist), "--workpath", str(work),
            str(ROOT / "installer" / "dicom-ferry.spec"),
        ]
    )  # fmt: skip
    return folder


def _version_resource(name: str, what: str) -> str:
    """What the properties of the executable show, in PyInstaller's notation."""
    version = __version__
    numbers = ([int(part) for part in version.split(".") if part.isdecimal()] + [0, 0, 0, 0])[:4]
    told = {
        "CompanyName": COMPANY,
        "FileDescription": "DICOM Ferry" if what == "window" else "DICOM Ferry, command line",
        "FileVersion": version,
        "InternalName": name,
        "LegalCopyright": _copyright(),
        "OriginalFilename": f"{name}.exe",
        "ProductName": "DICOM Ferry",
        "ProductVersion": version,
    }
    strings = ", ".join(f"StringStruct({key!r}, {value!r})" for key, value in told.items())
    return (
        f"VSVersionInfo(ffi=FixedFileInfo(filevers={tuple(numbers)}, prodvers={tuple(numbers)}, mask=0x3F, flags=0, "
        "OS=0x40004, fileType=1, subtype=0, date=(0, 0)), "
        f"kids=[StringFileInfo([StringTable('040904B0', [{strings}])]), "
        "VarFileInfo([VarStruct('Translation', [0x0409, 1200])])])\n"
    )


def _copyright() -> str:
    lines = (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()
    return next((line.strip() for line in lines if line.strip().startswith("Copyright")), COMPANY)


if __name__ == "__main__":
    sys.exit(main())
