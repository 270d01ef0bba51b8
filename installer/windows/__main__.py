"""The whole pipeline: ``python -m installer.windows`` (``make windows``), on Linux with Wine.

Fetches and verifies a Windows Python, runs the tests in it, freezes the program, checks what was frozen, builds
both installers into ``dist``, and proves them. ``--only PART`` does a part (or several) of it, on what the parts
before it have left: `PARTS` names them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core import __version__
from installer.windows.checks import PASSWORD, Figures, Installers
from installer.windows.contents import epoch, settle_times, write_contents
from installer.windows.msi import build_msi
from installer.windows.pe import check_folder
from installer.windows.pipeline import Part, PartError, Pipeline
from installer.windows.product import NAME
from installer.windows.proof import InstallerProof, Place
from installer.windows.proof_msi import MsiProof
from installer.windows.proof_setup import SetupProof
from installer.windows.proof_window import measure
from installer.windows.setup_program import build_setup
from installer.windows.signing import Certificate, self_signed
from installer.windows.windows_python import (
    PYTHON,
    ROOT,
    TEST_LIBRARIES,
    add_shims,
    cache_folder,
    compile_all,
    make_python,
    recipe,
    shim_names,
)
from installer.windows.wine import Wine, WineBrokenError, WineError, windows_path
from tests import again
from tests.support.orthanc import OrthancServer
from tests.support.studies import make_studies

WORK = ROOT / "build" / "windows"
DIST = ROOT / "dist"
PICTURES = WORK / "pictures"
LOGS = WORK / "logs"
OLD_VERSION = "0.0.1"
ONLY_IN_OLD = "only-in-the-older-version.txt"
MOST_BYTES = {".exe": 50_000_000, ".msi": 65_000_000}
#: Two processors are kept busy: the tests beside everything else, and what is measured by itself, at last.
PARTS = (
    Part("python", most_seconds=1200),
    Part("linux", most_seconds=1800, patient=True),
    Part("tests", after=("python",), most_seconds=1800),
    Part("freeze", after=("python",), most_seconds=1800),
    Part("installers", after=("freeze",), most_seconds=1200),
    Part("msi", after=("installers",), most_seconds=1800),
    Part("setup", after=("installers",), most_seconds=1800),
    Part("window", after=("linux", "tests", "msi", "setup"), most_seconds=900),
)
#: Tests at the same time; many of them wait.
WORKERS = "3"
#: How often a part is begun where Wine itself fails.
_ATTEMPTS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [part.name for part in PARTS]
    parser.add_argument("--only", choices=names, action="append", help="do this part alone")
    parser.add_argument("--pytest", default="", metavar="WORDS", help="for pytest, instead of all that it runs")
    parser.add_argument("--part", choices=names, help=argparse.SUPPRESS)  # in this process: what the pipeline starts
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(epoch()))
    if chosen.part == "tests":
        run_tests(shlex.split(chosen.pytest))
        return 0
    if chosen.part:
        DO[chosen.part]()
        return 0
    command = [sys.executable, "-m", "installer.windows", f"--pytest={chosen.pytest}", "--part"]
    wanted = [part for part in PARTS if part.name in (chosen.only or names)]
    began = time.monotonic()
    pipeline = Pipeline(wanted, command, ROOT, LOGS, end_all_prefixes)
    try:
        pipeline.run()
    except PartError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print("\n".join(["", *pipeline.table(), *figures(), f"All is well, after {time.monotonic() - began:.0f} s."]))
    if not chosen.only:
        for prefix in WORK.glob("prefix-*"):
            shutil.rmtree(prefix, ignore_errors=True)
    return 0


def end_all_prefixes() -> None:
    """End whatever Windows program is left of this run."""
    for prefix in WORK.glob("prefix-*"):
        Wine(prefix).end()


def figures() -> list[str]:
    """What the proofs have measured."""
    return [line for name in ("msi", "setup", "window") for line in _lines(WORK / f"figures-{name}.txt")]


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


# --- prefixes


def prepare() -> None:
    """Windows Python with all packages, and a Windows that has nothing but what Windows has: in the cache."""
    cache = cache_folder()
    # One at a time: another checkout may be doing the same.
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(2) as pool:
            for future in (pool.submit(_prepare_python, cache), pool.submit(_prepare_empty, cache)):
                future.result()


def _prepare_python(cache: Path) -> None:
    python = Wine(cache / "prefix")
    try:
        make_python(python, cache)
    finally:
        python.end()


def _prepare_empty(cache: Path) -> None:
    base = Wine(cache / "prefix-empty")
    ready, wanted = base.prefix / "ready", recipe()
    if not ready.exists() or ready.read_text(encoding="ascii") != wanted:
        base.end()
        shutil.rmtree(base.prefix, ignore_errors=True)
        with base:
            add_shims(base)
            base.settle()
        ready.write_text(wanted, encoding="ascii")


def copy_prefix(base: Path, to: Path) -> None:
    """A prefix of this run's own: nothing that it leaves behind is seen by the next."""
    Wine(to).end()
    shutil.rmtree(to, ignore_errors=True)
    # Another checkout may be making it anew.
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        subprocess.run(["cp", "-a", base, to], check=True, timeout=300)


@contextlib.contextmanager
def own_prefix(name: str) -> Iterator[Wine]:
    with Wine(WORK / f"prefix-{name}") as wine:
        yield wine


# --- parts


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


def run_tests(words: list[str]) -> None:
    """The tests that make sense on Windows, in the source tree; which don't, tests/on_windows.py says."""
    now = WORK / "tests-now"

    def run(python: Wine) -> None:
        shutil.rmtree(now, ignore_errors=True)
        now.mkdir()
        source = copy_sources(python)
        report = WORK / "tests.xml"
        report.unlink(missing_ok=True)

        def pytest(*more: str) -> None:
            python.run(
                [
                    PYTHON, "-X", "utf8", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                    # A test that hangs is named and fails; one that hangs Python itself at least says where it does.
                    *("--timeout", "300", "-o", "faulthandler_timeout=280"), *more,
                ],
                env={"PYTHONPATH": TEST_LIBRARIES, "DICOM_FERRY_TESTS_NOW": windows_path(now)},
                cwd=source, timeout=1500, show=True,
            )  # fmt: skip

        with told_what_ran(now):
            try:
                spread = ("-n", WORKERS, "--dist", "loadfile", "--durations", "15")
                pytest(*spread, "--junit-xml", windows_path(report), *words)
            except WineError:
                few = again.read(report).few if report.exists() else ()
                if not few:
                    raise
                print("Failed once; each is run again, alone:", *few, sep="\n  ", flush=True)
                pytest(*few)
                print("UNSTEADY, passed when run again:", *few, sep="\n  ", flush=True)

    with_fresh_prefixes(cache_folder() / "prefix", "tests", run)


def copy_sources(python: Wine) -> Path:
    """The source tree on drive C: nothing is written into our own, and Windows programs find names sooner."""
    source = python.drive / "source"
    shutil.rmtree(source, ignore_errors=True)
    skipped = shutil.ignore_patterns("__pycache__", ".*", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=skipped)
    compile_all(python, source)
    return source


@contextlib.contextmanager
def told_what_ran(now: Path) -> Iterator[None]:
    """When the tests are ended from outside, say which were running."""
    try:
        yield
    except WineError:
        for file in sorted(now.iterdir()):
            print(f"The last test of {file.stem}: {file.read_text(encoding='utf-8').strip()}", flush=True)
        raise


def freeze() -> None:
    """Freeze the program by the same script as on Windows itself, and check each program and library."""
    frozen = WORK / "frozen"

    def run(python: Wine) -> None:
        shutil.rmtree(frozen, ignore_errors=True)
        copy_sources(python)  # what Linux has compiled of ours by the way is not taken
        said = python.run(
            [
                PYTHON, r"C:\source\installer\build.py", "--dist", windows_path(frozen), "--work", r"C:\build",
            ],
            # The same sources give the same bytes.
            env={"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": os.environ["SOURCE_DATE_EPOCH"]}, timeout=1500,
        )  # fmt: skip
        print(said.strip()[-2000:])
        shutil.copy2(python.drive / "build" / "dicom-ferry" / "dicom-ferry.ico", WORK / "dicom-ferry.ico")

    with_fresh_prefixes(cache_folder() / "prefix", "freeze", run)
    folder = frozen / NAME
    wrong = check_folder(folder)
    wrong += [f"{path.name} is for Wine alone" for path in folder.rglob("*") if path.name.lower() in shim_names()]
    if wrong:
        raise WineError("The frozen program is not fit to be shipped:\n" + "\n".join(wrong))


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
    settle_times(frozen)
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
    print("\n".join(write_contents(frozen, [made.msi, made.setup], DIST / f"DICOM-Ferry-{__version__}-contents.txt")))


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


def prove(proof: type[InstallerProof]) -> None:
    """One installer on a Windows that has nothing but what Windows has, with two real Orthanc servers beside it."""
    name = proof.name.lower()
    with (
        OrthancServer("1.10", name="SOURCE", users={"ferry": PASSWORD}) as source,
        OrthancServer("1.12", name="DESTINATION") as destination,
    ):
        studies = make_studies(12, instances=40, size_bytes=60_000)
        for study in studies:
            source.upload(study)

        def run(wine: Wine, figures: Figures) -> None:
            destination.wipe()
            proof(current(), figures, wine, Place(WORK, PICTURES), source, destination, studies).run()

        on_bare_windows(name, run)


def measure_window() -> None:
    """How soon the window is there; nothing else of the pipeline runs meanwhile."""
    on_bare_windows("window", lambda wine, figures: measure(wine, current(), figures, WORK))


def on_bare_windows(name: str, run: Callable[[Wine, Figures], None]) -> None:
    """Do it in a fresh prefix, and write down what it has measured; again only where Wine itself has failed."""
    figures = Figures()

    def once(wine: Wine) -> None:
        figures.lines.clear()
        run(wine, figures)

    with_fresh_prefixes(cache_folder() / "prefix-empty", name, once)
    (WORK / f"figures-{name}.txt").write_text("\n".join(figures.lines) + "\n", encoding="utf-8")


def with_fresh_prefixes(base: Path, name: str, do: Callable[[Wine], None]) -> None:
    """Do it in a copy of a prefix; in another one, up to two times, where Wine itself has failed. What fails in a Wine
    that works is a failure of the program, and final.

    Raises
    ------
    WineBrokenError
        Wine failed three times.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        copy_prefix(base, WORK / f"prefix-{name}")
        with own_prefix(name) as wine:
            try:
                do(wine)
                return
            except (AssertionError, WineError, WineBrokenError, subprocess.TimeoutExpired) as error:
                how = str(error) if isinstance(error, WineBrokenError) else wine.broken()
                if not how:
                    raise
                print(f"WINE ITSELF FAILED ({attempt} of {_ATTEMPTS} times): {how}. What was seen: {error}", flush=True)
    raise WineBrokenError(f"Wine failed {_ATTEMPTS} times; the last time: {how}")


DO: dict[str, Callable[[], None]] = {
    "python": prepare,
    "linux": freeze_for_linux,
    "freeze": freeze,
    "installers": build_installers,
    "msi": functools.partial(prove, MsiProof),
    "setup": functools.partial(prove, SetupProof),
    "window": measure_window,
}


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"{what} …", flush=True)
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
