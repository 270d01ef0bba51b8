"""What the proofs of both installers use: limits, figures, and the installed program as a person runs it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from installer.windows.product import CONSOLE_EXE, NAME, WINDOW_EXE
from installer.windows.wine import Wine

PER_MACHINE = r"C:\Program Files\DICOM Ferry"
PASSWORD = "pa§ß wörd"  # as it is written on standard input, in UTF-8
MOST_INSTALL_SECONDS = 20.0
MOST_START_SECONDS = 3.0
MOST_INSTALLED_BYTES = 160_000_000
_FAR = 6.0
#: Windows Installer's ERROR_INSTALL_FAILURE, as Linux sees it: its lowest eight bits.
MSI_FAILURE = 1603 & 0xFF
MSI_LOG = r"C:\windows\temp\msi.log"


class ProofError(AssertionError):
    """Something is not as it should be."""


def check(good: object, what: str) -> None:
    if not good:
        raise ProofError(what)


@dataclass(frozen=True, slots=True)
class Installers:
    """The files under proof: this version, and an older one made of the same program with one file more."""

    msi: Path
    setup: Path
    old_msi: Path
    old_setup: Path
    version: str
    old_version: str
    only_in_old: str  # the file's name
    old_signer: Path  # the certificate with which the older one is signed, PEM


@dataclass(slots=True)
class Figures:
    """What was measured, for the summary."""

    lines: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, what: str, most: float | None = None) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds(what, time.monotonic() - began, most)

    def seconds(self, what: str, seconds: float, most: float | None = None) -> None:
        """Note how long something took, and whether that is more than what is aimed at.

        It fails only where it is far from it: other computers are slower, and have other things to do.
        """
        over = most is not None and seconds > most
        self.note(f"{what}: {seconds:.1f} s{f' (MORE than the {most:.0f} s aimed at)' if over else ''}")
        check(most is None or seconds < _FAR * most, f"{what} took {seconds:.1f} s, and should take less than {most} s")

    def note(self, line: str) -> None:
        self.lines.append(line)
        print(f"  {line}", flush=True)


class Installed:
    """The installed program of one prefix, run as a person or a script runs it."""

    def __init__(self, wine: Wine, folder: str) -> None:
        self.wine = wine
        self.folder = folder

    @property
    def place(self) -> Path:
        return self.wine.path(self.folder)

    @property
    def home(self) -> Path:
        """The home of the one account there is in a prefix, where the program puts it by itself."""
        users = [path for path in (self.wine.drive / "users").iterdir() if path.name != "Public"]
        return users[0] / "AppData" / "Local" / NAME

    def run(self, *words: str, expect: int | None = 0, stdin: str | None = None, timeout: float = 300) -> str:
        command = [f"{self.folder}\\{CONSOLE_EXE}", *words]
        return self.wine.run(command, expect=expect, stdin=stdin, timeout=timeout)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return self.wine.start([f"{self.folder}\\{CONSOLE_EXE}", *words])

    @contextmanager
    def window(self, env: dict[str, str] | None = None, *words: str) -> Iterator[subprocess.Popen[str]]:
        """The window's program, which is ended with the block if it has not ended by then."""
        window = self.wine.start([f"{self.folder}\\{WINDOW_EXE}", *words], env=env)
        try:
            yield window
        finally:
            window.kill()
            window.wait()

    def logged(self) -> str:
        return text_of(self.home / "logs" / "window.log")

    def executables(self) -> list[Path]:
        return [self.place / WINDOW_EXE, self.place / CONSOLE_EXE]

    def self_test(self) -> None:
        """All checks pass, the keyring's too; a tray is asked for on a screen only."""
        result = self.wine.drive / "self-test.json"
        said = self.run("self-test", "--json", "C:\\self-test.json", expect=None)
        check(result.exists(), f"the self-test wrote nothing:\n{said}")
        found = json.loads(result.read_text(encoding="utf-8"))
        result.unlink()
        wrong = [c for c in found["checks"] if c["result"] != "ok" and c["name"] != "Tray"]
        check(not wrong and found["works"], f"the self-test of the installed program:\n{wrong}\n{said}")
        check(len(found["checks"]) >= 8, f"the self-test made {len(found['checks'])} checks")


def text_of(file: Path) -> str:
    """What a file holds; empty where it isn't there."""
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def files_of(wine: Wine) -> set[str]:
    """All files of drive C:, as paths relative to it."""
    return {str(path.relative_to(wine.drive)) for path in wine.drive.rglob("*") if not path.is_dir()}


def is_noise(path: str) -> bool:
    """What Windows and Wine write by themselves."""
    lower = path.lower()
    return "/temp/" in lower or lower.startswith(("windows/installer/", "windows/temp/", "windows/logs/"))
