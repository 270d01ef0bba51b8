"""The proof of both installers under Wine: installed, tested, used between real servers, upgraded, uninstalled.

Wine is no Windows: what it can't tell is listed in the README for IT. What it can tell is checked here on each
landing, with two real Orthanc servers outside of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from installer.windows.product import (
    AT_LOGIN,
    CONSOLE_EXE,
    NAME,
    NEWER_INSTALLED,
    OTHER_INSTALLER,
    REGISTRY_KEY,
    RUN_KEY,
    WINDOW_EXE,
)
from installer.windows.signing import is_signed
from installer.windows.unattended import Unattended
from installer.windows.wine import Wine, WineError, windows_path
from tests.support.orthanc import OrthancServer
from tests.support.screen import Screen
from tests.support.studies import Study, make_studies, merged_digests
from tests.support.waiting import wait_for

PER_MACHINE = r"C:\Program Files\DICOM Ferry"
PASSWORD = "pa§ß wörd"  # as it is written on standard input, in UTF-8
MOST_INSTALL_SECONDS = 20.0
MOST_START_SECONDS = 3.0
MOST_INSTALLED_BYTES = 160_000_000
#: Windows Installer's ERROR_INSTALL_FAILURE, as Linux sees it: its lowest eight bits.
MSI_FAILURE = 1603 & 0xFF
MSI_LOG = r"C:\windows\temp\msi.log"


def busy() -> float:
    """How much slower than alone a program runs here just now: work that waits for each processor, 1 at least."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


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
        seconds = time.monotonic() - began
        self.note(f"{what}: {seconds:.1f} s")
        check(most is None or seconds < most * busy(), f"{what} took {seconds:.1f} s, not under {most} s")

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

    def start_window(self, env: dict[str, str] | None = None, *words: str) -> subprocess.Popen[str]:
        return self.wine.start([f"{self.folder}\\{WINDOW_EXE}", *words], env=env)

    def logged(self) -> str:
        log = self.home / "logs" / "window.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

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


class Proof:
    """All checks, one after the other.

    Parameters
    ----------
    base : Wine
        A prefix with what Wine lacks of Windows, and nothing else; each part works on a copy.
    pictures : Path
        Where pictures of wizard and window are put.
    """

    def __init__(self, base: Wine, installers: Installers, work: Path, pictures: Path) -> None:
        self.base = base
        self.files = installers
        self.work = work
        self.pictures = pictures
        self.figures = Figures()

    def run(self, installer: str) -> Figures:
        """Prove one installer, ``msi`` or ``setup``."""
        proof = {"msi": _MsiProof, "setup": _SetupProof}[installer]
        with (
            OrthancServer("1.10", name="SOURCE", users={"ferry": PASSWORD}) as source,
            OrthancServer("1.12", name="DESTINATION") as destination,
        ):
            studies = make_studies(12, instances=40, size_bytes=60_000)
            for study in studies:
                source.upload(study)
            with self._prefix(installer) as wine:
                proof(self, wine, source, destination, studies).run()
        return self.figures

    @contextmanager
    def _prefix(self, name: str) -> Iterator[Wine]:
        """A fresh copy of the base prefix; its programs end with the block."""
        prefix = self.work / f"prefix-{name}"
        shutil.rmtree(prefix, ignore_errors=True)
        shutil.copytree(self.base.prefix, prefix, symlinks=True)
        with Wine(prefix) as wine:
            yield wine


class _InstallerProof(ABC):
    """What is the same for both installers."""

    name = ""
    folder = PER_MACHINE

    def __init__(
        self, proof: Proof, wine: Wine, source: OrthancServer, destination: OrthancServer, studies: list[Study]
    ) -> None:
        self.files, self.figures, self.work, self.pictures = proof.files, proof.figures, proof.work, proof.pictures
        self.wine, self.source, self.destination, self.studies = wine, source, destination, studies
        self.program = Installed(wine, self.folder)

    # what each installer does in its own way

    @abstractmethod
    def run(self) -> None:
        """All steps."""

    @abstractmethod
    def install(self, *words: str, old: bool = False, expect: int = 0) -> None:
        """Install silently, this version or the older one."""

    @abstractmethod
    def uninstall(self, *words: str) -> None:
        """Uninstall silently."""

    # steps

    def say(self, what: str) -> None:
        print(f"{self.name}: {what}", flush=True)

    def installed_version(self) -> str | None:
        return self.wine.registry(f"HKLM\\{REGISTRY_KEY}", "Version")

    def check_installed(self) -> None:
        place = self.program.place
        check((place / WINDOW_EXE).exists() and (place / CONSOLE_EXE).exists(), f"{place} holds no program")
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        self.figures.note(f"{self.name}, installed: {size / 1e6:.0f} MB")
        check(size < MOST_INSTALLED_BYTES, f"{size} bytes are installed")

    def check_shortcuts(self, *, desktop: bool) -> None:
        """One in the start menu, one on the desktop where it was chosen; for everybody or for one person."""
        links = [path.relative_to(self.wine.drive).parts for path in self.wine.drive.rglob(f"{NAME}.lnk")]
        for name, wanted in (("Start Menu", True), ("Desktop", desktop)):
            found = [parts for parts in links if name in parts]
            check(len(found) == wanted, f"shortcuts, {name}: {found}")

    def check_signed(self, files: list[Path]) -> None:
        for file in files:
            check(is_signed(file, self.files.old_signer), f"{file.name} is not signed")

    def forward(self) -> None:
        """Studies from one real server to the other, with a password out of the Credential Manager."""
        self.program.run(
            *("node", "add", "orthanc", "From", "--url", self.source.url, "--username", "ferry"),
            *("--secret-stdin", "password"), stdin=PASSWORD + "\n",
        )  # fmt: skip
        self.program.run("node", "add", "orthanc", "To", "--url", self.destination.url)
        self.program.run("node", "test", "From")
        finished = self._finished(self.program.run(*self._job("--filter", "AccessionNumber <= A00003")))
        wanted = sum(len(study) for study in self.studies[:3])
        check(finished["verified"] == wanted and finished["failed"] == 0, f"the first forward: {finished}")

    def upgrade_in_mid_transfer(self, upgrade: Callable[[], None]) -> None:
        """A command and the window run; both are asked to end, the transfer is parked, and goes on afterwards."""
        transfer = self.program.start(*self._job("--bandwidth", "1", "--workers", "2"))
        window = self.program.start_window({"WINEQT_QPA_PLATFORM": "offscreen"})
        try:
            before = self.destination.count()
            wait_for(lambda: self.destination.count() > before + 10, timeout=60, what="a transfer that is under way")
            wait_for(lambda: "window shown" in self.program.logged(), timeout=60, what="the window")
            check(transfer.poll() is None and window.poll() is None, "the copies to be closed ended by themselves")
            upgrade()
            said, _ = transfer.communicate(timeout=30)
            check(transfer.returncode == 130, f"the transfer ended with {transfer.returncode}:\n{said[-3000:]}")
            window.wait(30)
            check(window.returncode == 0, f"the window ended with {window.returncode}")
        finally:
            for process in (transfer, window):
                process.kill()
                process.wait()
        held = self.destination.count()
        total = sum(len(study) for study in self.studies)
        check(0 < held < total, f"the transfer was not in its middle: {held} of {total}")
        verified = self._finished(said)["verified"]
        self.figures.note(f"{self.name}, upgraded with {held} of {total} images there, {verified} of them confirmed")

        finished = self._finished(self.program.run(*self._job("--bandwidth", "0", "--workers", "4")))
        arrived = finished["verified"] + finished["skipped"]
        check(arrived == finished["planned"] == total, f"after the upgrade: {finished}")
        check(self.destination.digests() == merged_digests(self.studies), "destination and source differ")
        twice = {uid: n for uid, n in self.destination.received().items() if n > 1}
        check(len(twice) <= 8, f"{len(twice)} images were sent twice")  # at most those that were on their way

    def _job(self, *fields: str) -> list[str]:
        return ["run", "forward", "--source", "From", "--destination", "To", *fields, "--json"]

    def _finished(self, said: str) -> dict[str, int]:
        events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        found: dict[str, int] | None = next((e for e in reversed(events) if e.get("event") == "finished"), None)
        check(found is not None, f"no job was finished:\n{said[-3000:]}")
        assert found is not None
        return found

    def check_gone(self, before: set[str], *, home_stays: bool) -> None:
        """After the uninstall, nothing is left but the home, and that only if it should be."""
        self.wine.settle()
        left = sorted(path for path in files_of(self.wine) - before if not _is_noise(path))
        home = str(self.program.home.relative_to(self.wine.drive))
        kept = [path for path in left if path.startswith(home)]
        others = [path for path in left if not path.startswith(home)]
        check(not others, f"left behind: {others[:20]}")
        check(bool(kept) == home_stays, f"of the home is there: {kept[:20]}")
        for key in (f"HKLM\\{REGISTRY_KEY}", f"HKCU\\{REGISTRY_KEY}"):
            check(self.wine.registry(key) is None, f"{key} is left")
        for key in (f"HKLM\\{RUN_KEY}", f"HKCU\\{RUN_KEY}"):
            check(self.wine.registry(key, NAME) is None, f"{key} still starts it")

    @contextmanager
    def _screen(self) -> Iterator[Screen]:
        for name in ("Segoe UI", "Tahoma", "MS Shell Dlg", "MS Shell Dlg 2"):  # Wine has none of Windows' fonts
            key = r"HKCU\Software\Wine\Fonts\Replacements"
            self.wine.run(["reg", "add", key, "/v", name, "/d", "DejaVu Sans", "/f"], timeout=60)
        screen = Screen(self.work / "screen").start()
        try:
            yield screen
        finally:
            screen.close()

    def _appears(self, screen: Screen, name: str) -> str:
        """Wait for a window; its number."""
        look = lambda: screen.windows("--onlyvisible", "--name", name)  # noqa: E731
        return wait_for(look, timeout=180, what=f"the window {name}")[-1]

    def _press(self, screen: Screen, name: str, keys: str) -> None:
        """Press keys in the window of this name."""
        screen.xdotool("windowactivate", "--sync", self._appears(screen, name), "key", keys)

    def _settled(self, screen: Screen, picture: Path, other_than: bytes = b"") -> bytes:
        """A picture of the screen once two in a row are the same, and it is another than the last one."""
        picture.parent.mkdir(parents=True, exist_ok=True)
        seen: list[bytes] = []

        def still() -> bool:
            seen.append(screen.screenshot(picture).read_bytes())
            return len(seen) > 1 and seen[-1] == seen[-2] and seen[-1] != other_than

        wait_for(still, timeout=180, interval=0.3, what="a page that is painted")
        return seen[-1]


class _MsiProof(_InstallerProof):
    name = "MSI"

    def install(self, *words: str, old: bool = False, expect: int = 0) -> None:
        msi = windows_path(self.files.old_msi if old else self.files.msi)
        log = self.wine.drive / "windows" / "temp" / "msi.log"
        log.unlink(missing_ok=True)
        try:
            self.wine.run(["msiexec", "/i", msi, "/qn", "/l*v", MSI_LOG, *words], expect=expect, timeout=300)
        except WineError as error:
            logged = log.read_text(encoding="utf-16", errors="replace") if log.exists() else "no log was written"
            raise ProofError(f"{error}\n{logged[-6000:]}") from error

    def uninstall(self, *words: str) -> None:
        self.wine.run(["msiexec", "/x", windows_path(self.files.msi), "/qn", *words], timeout=300)

    def run(self) -> None:
        before = files_of(self.wine)
        self.say("silent installation of the older version, with start at login")
        self.install("ADDLOCAL=Program,StartAtLogin,DesktopShortcut", old=True)
        check(self.installed_version() == self.files.old_version, "the older version is not installed")
        at_login = self.wine.registry(f"HKLM\\{RUN_KEY}", NAME)
        check(at_login == f'"{self.folder}\\{WINDOW_EXE}" {AT_LOGIN}', f"start at login: {at_login}")
        self.check_installed()
        self.check_shortcuts(desktop=True)
        self.check_signed([self.files.old_msi, *self.program.executables()])
        self.say("self-test, and a forward between two Orthanc servers")
        self.program.self_test()
        self.forward()
        self.say("upgrade over running copies in mid-transfer")

        def upgrade() -> None:
            with self.figures.timed(f"{self.name}, upgraded over a running transfer and window"):
                self.install()

        self.upgrade_in_mid_transfer(upgrade)
        check(self.installed_version() == self.files.version, "it was not upgraded")
        check(not list(self.program.place.rglob(self.files.only_in_old)), "a file of the older version is left")
        check(self.wine.registry(f"HKLM\\{RUN_KEY}", NAME) is not None, "the upgrade forgot the start at login")
        self.check_shortcuts(desktop=True)
        self.program.self_test()
        self.say("a downgrade is refused, and so is the setup program beside it")
        self.install(old=True, expect=MSI_FAILURE)
        check(self.installed_version() == self.files.version, "it was downgraded")
        self.wine.run([windows_path(self.files.setup), "/S"], expect=OTHER_INSTALLER, timeout=120)
        self.say("uninstallation that keeps what a person has")
        self.uninstall()
        self.check_gone(before, home_stays=True)
        self.say("installation by itself, and uninstallation that removes all")
        with self.figures.timed(f"{self.name}, installed", MOST_INSTALL_SECONDS):
            self.install()
        check("From" in self.program.run("node", "list"), "the nodes were not kept")
        self.uninstall_on_a_screen()
        self.check_gone(before, home_stays=False)
        self.say("installation into a folder that was named, and silent uninstallation that removes all")
        self.folder = self.program.folder = r"C:\Apps for all\DICOM Ferry"
        self.install(f"INSTALLFOLDER={self.folder}", "ADDLOCAL=Program,Unattended")
        check("From" not in self.program.run("node", "list"), "something of the home was left")
        unattended = Unattended(self.wine, self.folder)
        unattended.check_chosen()
        self.uninstall("REMOVEDATA=1")
        unattended.check_gone(home_stays=False)
        self.check_gone(before, home_stays=False)

    def uninstall_on_a_screen(self) -> None:
        self.say("interactive uninstallation asks what becomes of a person's nodes and records")
        with self._screen() as screen:
            command = ["msiexec", "/x", windows_path(self.files.msi), "/qb"]
            uninstall = self.wine.start(command, env=screen.env)
            try:
                self._appears(screen, "Windows Installer")
                self._settled(screen, self.pictures / "installer-msi-uninstall.png")
                self._press(screen, "Windows Installer", "alt+y")
                uninstall.wait(120)
                check(uninstall.returncode == 0, f"the interactive uninstallation ended with {uninstall.returncode}")
            finally:
                uninstall.kill()
                uninstall.wait()


class _SetupProof(_InstallerProof):
    name = "Setup"

    def install(self, *words: str, old: bool = False, expect: int = 0) -> None:
        setup = windows_path(self.files.old_setup if old else self.files.setup)
        self.wine.run([setup, "/S", *words], expect=expect, timeout=300)

    def uninstall(self, *words: str) -> None:
        # It goes on as a copy of itself, and deletes the file last.
        uninstaller = self.program.place / "Uninstall.exe"
        self.wine.run([f"{self.folder}\\Uninstall.exe", "/S", *words], timeout=300)
        wait_for(lambda: not uninstaller.exists(), timeout=300, what="the uninstallation")

    def run(self) -> None:
        before = files_of(self.wine)
        self.say("silent installation of the older version, for everybody")
        self.install("/ALLUSERS", "/STARTATLOGIN", old=True)
        check(self.installed_version() == self.files.old_version, "the older version is not installed")
        self.check_installed()
        self.check_shortcuts(desktop=False)
        self.check_signed([self.files.old_setup, self.program.place / "Uninstall.exe", *self.program.executables()])
        self.program.self_test()
        self.forward()
        self.say("upgrade over running copies in mid-transfer")

        def upgrade() -> None:
            with self.figures.timed(f"{self.name}, upgraded over a running transfer and window"):
                self.install()

        self.upgrade_in_mid_transfer(upgrade)
        check(self.installed_version() == self.files.version, "it was not upgraded")
        check(not list(self.program.place.rglob(self.files.only_in_old)), "a file of the older version is left")
        check(self.wine.registry(f"HKLM\\{RUN_KEY}", NAME) is not None, "the upgrade forgot the start at login")
        self.say("a downgrade is refused, and so is the MSI beside it")
        self.install(old=True, expect=NEWER_INSTALLED)
        self.wine.run(["msiexec", "/i", windows_path(self.files.msi), "/qn"], expect=MSI_FAILURE, timeout=120)
        check(self.installed_version() == self.files.version, "something else was installed")
        self.window_on_a_screen()
        self.say("uninstallation that keeps what a person has")
        self.uninstall()
        self.check_gone(before, home_stays=True)
        self.say("installation for one person, by itself; uninstallation that removes all and waits")
        everybody, self.folder = (
            self.folder,
            f"C:\\users\\{self.program.home.parents[2].name}\\AppData\\Local\\Programs\\{NAME}",
        )
        self.program.folder = self.folder
        with self.figures.timed(f"{self.name}, installed", MOST_INSTALL_SECONDS):
            self.install("/CURRENTUSER")
        check(self.wine.registry(f"HKCU\\{REGISTRY_KEY}", "Version") == self.files.version, "nothing for this user")
        check("From" in self.program.run("node", "list"), "the nodes were not kept")
        self._run_line(f'"{self.folder}\\Uninstall.exe" /S /REMOVEDATA _?={self.folder}')
        # As it runs from there, it can't delete itself and its folder.
        (self.program.place / "Uninstall.exe").unlink()
        self.program.place.rmdir()
        self.check_gone(before, home_stays=False)
        self.folder = self.program.folder = everybody
        self.say("a start-up task for the unattended engine, and its removal")
        self.install("/UNATTENDED")
        unattended = Unattended(self.wine, self.folder)
        unattended.check_chosen()
        self.uninstall("/REMOVEDATA")
        unattended.check_gone(home_stays=False)
        self.wizard_on_a_screen()
        self.check_gone(before, home_stays=False)

    def _run_line(self, line: str) -> None:
        """A command as it stands in a script: some words of the setup's must not be quoted."""
        script = self.wine.drive / "windows" / "temp" / "line.bat"
        script.write_text(f"@{line}\r\n@exit /b %ERRORLEVEL%\r\n", encoding="ascii")
        self.wine.run(["cmd", "/c", r"C:\windows\temp\line.bat"], timeout=300)

    def wizard_on_a_screen(self) -> None:
        """The wizard, page by page as a person goes through it; at its end the program starts."""
        self.say("the wizard on a screen")
        with self._screen() as screen:
            env = {**screen.env, "WINEQT_QPA_PLATFORM": "windows"}
            setup = self.wine.start([windows_path(self.files.setup)], env=env)
            wizard = f"{NAME} Setup"
            try:
                self._appears(screen, wizard)
                page = b""
                for number, keys in enumerate(("alt+n", "alt+a", "alt+n", "alt+n", "alt+i"), 1):
                    page = self._settled(screen, self.pictures / f"installer-{number}.png", other_than=page)
                    self._press(screen, wizard, keys)
                wait_for(lambda: (self.program.place / "Uninstall.exe").exists(), timeout=300, what="the installation")
                # The last page, behind the one with the bar: "Start DICOM Ferry" is ticked.
                wait_for(lambda: self._finished_wizard(screen, setup), timeout=300, interval=1, what="the last page")
                self._appears(screen, f"^{NAME}$")
                self._settled(screen, self.pictures / "installer-started.png")
                self.uninstall_on(screen, env)
            finally:
                setup.kill()
                setup.wait()

    def uninstall_on(self, screen: Screen, env: dict[str, str]) -> None:
        """As a person does it, while the program runs; nodes and records are to go too."""
        self.say("interactive uninstallation asks what becomes of a person's nodes and records")
        uninstaller = self.program.place / "Uninstall.exe"
        # It goes on as a copy of itself, which holds its output open: not waited for here.
        first = self.wine.start([f"{self.folder}\\Uninstall.exe"], env=env)
        first.wait(120)
        name = f"{NAME} Uninstall"
        window = self._appears(screen, name)
        page = self._settled(screen, self.pictures / "installer-uninstall.png")
        screen.xdotool("windowactivate", "--sync", window, "mousemove", "--window", window, "214", "184", "click", "1")
        self._settled(screen, self.pictures / "installer-uninstall-all.png", other_than=page)
        self._press(screen, name, "alt+u")
        wait_for(lambda: not uninstaller.exists(), timeout=300, what="the uninstallation")
        wait_for(lambda: self._closed(screen, name), timeout=120, interval=1, what="the uninstaller's last page")
        check(not screen.windows("--onlyvisible", "--name", f"^{NAME}$"), "the program still runs")

    def _closed(self, screen: Screen, name: str) -> bool:
        for window in screen.windows("--onlyvisible", "--name", name):
            screen.xdotool("windowactivate", "--sync", window, "key", "alt+c")
        return not screen.windows("--onlyvisible", "--name", name)

    def _finished_wizard(self, screen: Screen, setup: subprocess.Popen[str]) -> bool:
        if setup.poll() is None:
            screen.xdotool("key", "alt+f")
        return setup.poll() is not None

    def window_on_a_screen(self) -> None:
        """The window on a screen: how soon it is there, and what it looks like."""
        self.say("the window on a screen")
        with self._screen() as screen:
            env = {**screen.env, "WINEQT_QPA_PLATFORM": "windows"}
            # The first start fills the disk's cache, as on any computer; of three, other work disturbs the fewest.
            seconds = min(self._start_and_end(screen, env) for _ in range(3))
            self.figures.note(f"window on the screen {seconds:.1f} s after the start (load {busy():.1f})")
            window = self.program.start_window(env)
            try:
                wait_for(lambda: screen.windows("--onlyvisible", "--name", NAME), timeout=60, what="the window")
                self._settled(screen, self.pictures / "installer-window.png")
                check(seconds < MOST_START_SECONDS * busy(), f"the window came after {seconds:.1f} s")
            finally:
                window.kill()
                window.wait()

    def _start_and_end(self, screen: Screen, env: dict[str, str]) -> float:
        """Seconds from the start to the window."""
        began = time.monotonic()
        window = self.program.start_window(env)
        try:
            wait_for(lambda: screen.windows("--onlyvisible", "--name", NAME), timeout=60, what="the window")
            return time.monotonic() - began
        finally:
            window.kill()
            window.wait()
            wait_for(lambda: not screen.windows("--onlyvisible", "--name", NAME), timeout=30, what="its end")


def files_of(wine: Wine) -> set[str]:
    """All files of drive C:, as paths relative to it."""
    return {str(path.relative_to(wine.drive)) for path in wine.drive.rglob("*") if not path.is_dir()}


def _is_noise(path: str) -> bool:
    """What Windows and Wine write by themselves."""
    lower = path.lower()
    return "/temp/" in lower or lower.startswith(("windows/installer/", "windows/temp/", "windows/logs/"))
