"""The proof of the MSI under Wine: installed, used, upgraded, uninstalled, silently and on a screen."""

from __future__ import annotations

from installer.windows.checks import (
    MOST_INSTALL_SECONDS,
    MSI_FAILURE,
    MSI_LOG,
    PER_MACHINE,
    ProofError,
    check,
    files_of,
)
from installer.windows.product import AT_LOGIN, NAME, OTHER_INSTALLER, RUN_KEY, WINDOW_EXE
from installer.windows.proof import InstallerProof
from installer.windows.windows_screen import on_screen
from installer.windows.wine import WineError, windows_path
from tests.support.waiting import wait_for

NAMED = r"C:\Apps for all\DICOM Ferry"


class MsiProof(InstallerProof):
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
        self.say("silent installation of the older version, with start at login, into a folder that was named")
        self.folder = self.program.folder = NAMED
        self.install(f"INSTALLFOLDER={NAMED}", "ADDLOCAL=Program,StartAtLogin,DesktopShortcut", old=True)
        check(self.installed_version() == self.files.old_version, "the older version is not installed")
        at_login = self.wine.registry(f"HKLM\\{RUN_KEY}", NAME)
        check(at_login == f'"{self.folder}\\{WINDOW_EXE}" {AT_LOGIN}', f"start at login: {at_login}")
        self.check_installed()
        self.check_shortcuts(desktop=True)
        self.check_signed([self.files.old_msi, *self.program.executables()])
        self.say("self-test, and a forward between two Orthanc servers")
        self.program.self_test()
        self.forward()
        self.upgrade_over_running_copies()
        self.check_installed()  # where the older one was
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
        self.folder = self.program.folder = PER_MACHINE
        with self.figures.timed(f"{self.name}, installed", MOST_INSTALL_SECONDS):
            self.install()
        check("From" in self.program.run("node", "list"), "the nodes were not kept")
        self.uninstall_on_a_screen()
        self.check_gone(before, home_stays=False)
        self.say("installation into a folder that was named, and silent uninstallation that removes all")
        self.folder = self.program.folder = NAMED
        self.install(f"INSTALLFOLDER={NAMED}", "ADDLOCAL=Program,Unattended")
        check("From" not in self.program.run("node", "list"), "something of the home was left")
        self.unattended_until(lambda: self.uninstall("REMOVEDATA=1"))
        self.check_gone(before, home_stays=False)

    def uninstall_on_a_screen(self) -> None:
        self.say("interactive uninstallation asks what becomes of a person's nodes and records")
        with on_screen(self.wine, self.work / "screen-msi") as screen:
            uninstall = self.wine.start(["msiexec", "/x", windows_path(self.files.msi), "/qb"])
            try:
                question = "Windows Installer"
                screen.appears(question)
                screen.settled(self.pictures / "installer-msi-uninstall.png")
                answered = "the answer to what Windows Installer asks"
                screen.press(
                    question, ["alt+y"], lambda: uninstall.poll() is not None or not screen.windows(question), answered
                )
                wait_for(lambda: uninstall.poll() is not None, what="the interactive uninstallation")
                check(uninstall.returncode == 0, f"the interactive uninstallation ended with {uninstall.returncode}")
            finally:
                uninstall.kill()
                uninstall.wait()
