"""The whole pipeline: ``python -m installer.windows`` (``make windows``), on Linux with Wine.

Fetches and verifies a Windows Python, runs the tests in it, freezes the program, checks what was frozen, builds
both installers into ``dist``, and proves them. Parts: ``--only linux`` (the same specification on this system),
``tests``, ``build``, ``proof`` (of what was built).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from core import __version__
from installer.windows.msi import build_msi
from installer.windows.pe import check_folder
from installer.windows.product import NAME
from installer.windows.proof import Installers, Proof
from installer.windows.setup_program import build_setup
from installer.windows.signing import Certificate, self_signed
from installer.windows.windows_python import (
    PYTHON,
    ROOT,
    TEST_LIBRARIES,
    add_shims,
    cache_folder,
    make_python,
    shim_names,
)
from installer.windows.wine import Wine, WineError, windows_path

WORK = ROOT / "build" / "windows"
DIST = ROOT / "dist"
PICTURES = WORK / "pictures"
OLD_VERSION = "0.0.1"
ONLY_IN_OLD = "only-in-the-older-version.txt"
MOST_BYTES = {".exe": 50_000_000, ".msi": 65_000_000}
PARTS = ("linux", "tests", "build", "proof")
#: What reaches the system: files, locks, sockets, processes, the keyring, Qt. Under Wine each test takes several times
#: as long as on Linux, where all of them run.
TESTS = [
    *(
        f"tests/unit/test_{name}.py"
        for name in (
            "windows_alone", "home", "secrets", "settings", "logs", "removal", "cli_commands", "cli_fields",
            "cli_input", "ledger", "spool", "spool_recovery", "folder_node", "folder_zip", "folder_dicomdir",
            "listening", "wire_tls", "dimse_association", "kinds_contract",
        )
    ),
    "tests/gui/test_start.py",
    "tests/gui/test_bridge.py",
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="do this part alone")
    parser.add_argument("pytest", nargs="*", help="words for pytest, behind --")
    chosen = parser.parse_args()
    parts = chosen.only or list(PARTS)
    WORK.mkdir(parents=True, exist_ok=True)
    cache = cache_folder()
    began = time.monotonic()
    if "linux" in parts:
        with timed("frozen for Linux, and tested"):
            freeze_for_linux()
    if "tests" in parts or "build" in parts:
        with Wine(cache / "prefix") as python:
            with timed("Windows Python"):
                make_python(python, cache)
            if "tests" in parts:
                with timed("tests on Windows Python"):
                    run_tests(python, chosen.pytest)
            if "build" in parts:
                with timed("frozen"):
                    freeze(python)
    if "build" in parts:
        build_installers()
    if "proof" in parts:
        with timed("proof"):
            figures = prove(cache)
        print("\n".join(["", "Measured:", *(f"  {line}" for line in figures)]))
    print(f"All is well, after {time.monotonic() - began:.0f} s.")
    return 0


def freeze_for_linux() -> None:
    """The same specification on this system: the quickest way to learn that something is missing when frozen."""
    folder = WORK / "linux"
    script = ROOT / "installer" / "build.py"
    command = [sys.executable, str(script), "--dist", str(folder), "--work", str(WORK / "linux-work")]
    subprocess.run(command, check=True, timeout=900)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(WORK), "DICOM_FERRY_HOME": str(WORK / "linux-home")}
    said = subprocess.run(
        [folder / NAME / "dicom-ferry", "self-test"],
        env=environment, cwd=WORK, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    print(said.stdout, end="")
    if said.returncode:
        raise SystemExit(f"The program frozen for Linux does not work:\n{said.stdout}{said.stderr}")


def run_tests(python: Wine, words: list[str]) -> None:
    """The tests that make sense on Windows, in the source tree."""
    python.run(
        [PYTHON, "-X", "utf8", "-m", "pytest", "-q", "-p", "no:cacheprovider", *(words or TESTS)],
        env={"PYTHONPATH": TEST_LIBRARIES, "PYTHONPYCACHEPREFIX": r"C:\pycache"},
        cwd=ROOT, timeout=900, show=True,
    )  # fmt: skip


def freeze(python: Wine) -> Path:
    """Freeze the program by the same script as on Windows itself, and check each program and library."""
    frozen = WORK / "frozen"
    shutil.rmtree(frozen, ignore_errors=True)
    python.run(
        [
            PYTHON, windows_path(ROOT / "installer" / "build.py"), "--dist", windows_path(frozen),
            "--work", r"C:\build",
        ],
        timeout=1200,
    )  # fmt: skip
    shutil.copy2(python.drive / "build" / "dicom-ferry" / "dicom-ferry.ico", WORK / "dicom-ferry.ico")
    folder = frozen / NAME
    wrong = check_folder(folder)
    wrong += [f"{path.name} is for Wine alone" for path in folder.rglob("*") if path.name.lower() in shim_names()]
    if wrong:
        raise WineError("The frozen program is not fit to be shipped:\n" + "\n".join(wrong))
    return folder


def build_installers() -> None:
    """Both installers into ``dist``, signed where the environment names a certificate; older ones for the proof."""
    DIST.mkdir(exist_ok=True)
    frozen, icon = WORK / "frozen" / NAME, WORK / "dicom-ferry.ico"
    closing = WORK / "closing.dll"
    subprocess.run(
        ["x86_64-w64-mingw32-gcc", "-O2", "-Wall", "-Wextra", "-shared", "-s", "-static", "-o", closing,
         ROOT / "installer" / "windows" / "closing.c", "-lmsi"],
        check=True, timeout=120,
    )  # fmt: skip
    certificate = Certificate.from_environment()
    if certificate:
        certificate.sign([*frozen.glob("*.exe"), closing])
    made = current()
    sign = certificate.command() if certificate else []
    with timed("both installers, and those of an older version for the proof"), ThreadPoolExecutor(2) as pool:
        setup = pool.submit(build_setup, frozen, closing, icon, __version__, made.setup, WORK / "setup", sign)
        msi = pool.submit(build_msi, frozen, closing, icon, __version__, made.msi, WORK / "msi")
        old = pool.submit(build_older, frozen, closing, icon, made)
        for future in (msi, old, setup):
            future.result()
    if certificate:
        certificate.sign([made.msi, made.setup])
    for file in (made.msi, made.setup):
        size = file.stat().st_size
        print(f"  {file.relative_to(ROOT)}: {size / 1e6:.1f} MB{', signed' if certificate else ''}")
        if size > MOST_BYTES[file.suffix]:
            raise WineError(f"{file.name} has {size} bytes, more than {MOST_BYTES[file.suffix]}.")


def build_older(frozen: Path, closing: Path, icon: Path, made: Installers) -> None:
    """Both installers of an older version with one file more; signed, so that this is tried on each landing too."""
    old, work = WORK / "old" / NAME, WORK / "older"
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(frozen, old)
    (old / "_internal" / ONLY_IN_OLD).write_text("gone after an upgrade\n", encoding="ascii")
    tester, _ = self_signed(WORK)  # nobody trusts this one
    tester.sign(old.glob("*.exe"))
    build_msi(old, closing, icon, OLD_VERSION, made.old_msi, work / "msi")
    build_setup(old, closing, icon, OLD_VERSION, made.old_setup, work / "setup", tester.command(), quick=True)
    tester.sign([made.old_msi, made.old_setup])


def current() -> Installers:
    return Installers(
        msi=DIST / f"DICOM-Ferry-{__version__}.msi",
        setup=DIST / f"DICOM-Ferry-{__version__}-setup.exe",
        old_msi=WORK / f"DICOM-Ferry-{OLD_VERSION}.msi",
        old_setup=WORK / f"DICOM-Ferry-{OLD_VERSION}-setup.exe",
        version=__version__,
        old_version=OLD_VERSION,
        only_in_old=ONLY_IN_OLD,
        old_signer=WORK / "test.pem",
    )


def prove(cache: Path) -> list[str]:
    """Both installers on a Windows that has nothing but what Windows has; the figures."""
    base = Wine(cache / "prefix-empty")
    if not (base.prefix / "ready").exists():
        with base:
            add_shims(base)
            base.settle()
        (base.prefix / "ready").touch()
    return Proof(base, current(), WORK, PICTURES).run().lines


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"{what} …", flush=True)
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
