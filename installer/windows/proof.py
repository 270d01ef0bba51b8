"""The proof of an installer under Wine: what is the same for both.

Wine is no Windows: what it can't tell is listed in the README for IT. What it can tell is checked here on each
landing, with two real Orthanc servers outside of it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from installer.windows.checks import (
    MOST_INSTALLED_BYTES,
    PASSWORD,
    PER_MACHINE,
    Figures,
    Installed,
    Installers,
    check,
    files_of,
    is_noise,
    text_of,
)
from installer.windows.product import CONSOLE_EXE, NAME, REGISTRY_KEY, RUN_KEY, WINDOW_EXE
from installer.windows.signing import is_signed
from installer.windows.unattended import HOME, Unattended
from installer.windows.wine import Wine
from tests.support.orthanc import OrthancServer
from tests.support.studies import Study, merged_digests
from tests.support.waiting import wait_for


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proof puts its files, and its pictures of what a person sees."""

    work: Path
    pictures: Path


class InstallerProof(ABC):
    """What is the same for both installers."""

    name = ""
    folder = PER_MACHINE

    def __init__(
        self, files: Installers, figures: Figures, wine: Wine, place: Place,
        source: OrthancServer, destination: OrthancServer, studies: list[Study],
    ) -> None:  # fmt: skip
        self.files, self.figures, self.work, self.pictures = files, figures, place.work, place.pictures
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

    def upgrade_over_running_copies(self) -> None:
        """This version over the older one, while that carries studies; nothing but the choices is left of it."""
        self.say("upgrade over running copies in mid-transfer")
        self._upgrade_in_mid_transfer()
        check(self.installed_version() == self.files.version, "it was not upgraded")
        check(not list(self.program.place.rglob(self.files.only_in_old)), "a file of the older version is left")
        check(self.wine.registry(f"HKLM\\{RUN_KEY}", NAME) is not None, "the upgrade forgot the start at login")

    def _upgrade_in_mid_transfer(self) -> None:
        """A command and the window run; both are asked to end, the transfer is parked, and goes on afterwards."""
        # Slowly: on a busy machine, the window takes its time.
        transfer = self.program.start(*self._job("--bandwidth", "0.2", "--workers", "2"))
        try:
            with self.program.window({"WINEQT_QPA_PLATFORM": "offscreen"}) as window:
                before = self.destination.count()
                wait_for(lambda: self.destination.count() > before + 10, what="a transfer that is under way")
                wait_for(lambda: "window shown" in self.program.logged(), what="the window")
                check(transfer.poll() is None and window.poll() is None, "the copies to be closed ended by themselves")
                with self.figures.timed(f"{self.name}, upgraded over a running transfer and window"):
                    self.install()
                said, _ = transfer.communicate(timeout=60)
                check(transfer.returncode == 130, f"the transfer ended with {transfer.returncode}:\n{said[-3000:]}")
                check(window.wait(60) == 0, f"the window ended with {window.returncode}")
        finally:
            transfer.kill()
            transfer.wait()
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

    def unattended_until(self, removed: Callable[[], None]) -> None:
        """What the start-up task would start forwards all studies, the window attaches to it, and both are asked to
        end when the program is uninstalled."""
        self.say("the unattended engine, a window on it, and their removal while they run")
        self.destination.wipe()
        unattended = Unattended(self.wine, self.folder)
        images = sum(len(study) for study in self.studies)
        with unattended.running() as engine:
            unattended.check_forward(self.source, self.destination, PASSWORD, images)
            check(self.destination.digests() == merged_digests(self.studies), "destination and source differ")
            with self.program.window({"WINEQT_QPA_PLATFORM": "offscreen"}, "--home", HOME) as window:
                log = unattended.home / "logs" / "window.log"
                wait_for(lambda: "attached to the engine" in text_of(log), what="a window on the unattended engine")
                removed()
                check(window.wait(60) == 0, f"the window ended with {window.returncode}")
            unattended.check_stopped(engine)
        unattended.check_gone(home_stays=False)

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
        left = sorted(path for path in files_of(self.wine) - before if not is_noise(path))
        home = str(self.program.home.relative_to(self.wine.drive))
        kept = [path for path in left if path.startswith(home)]
        others = [path for path in left if not path.startswith(home)]
        check(not others, f"left behind: {others[:20]}")
        check(bool(kept) == home_stays, f"of the home is there: {kept[:20]}")
        for key in (f"HKLM\\{REGISTRY_KEY}", f"HKCU\\{REGISTRY_KEY}"):
            check(self.wine.registry(key) is None, f"{key} is left")
        for key in (f"HKLM\\{RUN_KEY}", f"HKCU\\{RUN_KEY}"):
            check(self.wine.registry(key, NAME) is None, f"{key} still starts it")
