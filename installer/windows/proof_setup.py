"""The proof of the setup program under Wine: installed, used, upgraded, uninstalled, silently and by its wizard."""

from __future__ import annotations

from collections.abc import Callable

from installer.windows.checks import MOST_INSTALL_SECONDS, MSI_FAILURE, check, files_of
from installer.windows.product import NAME, NEWER_INSTALLED, REGISTRY_KEY
from installer.windows.proof import InstallerProof
from installer.windows.unattended import Unattended
from installer.windows.windows_screen import WindowsScreen, on_screen
from installer.windows.wine import windows_path
from tests.support.waiting import wait_for


class SetupProof(InstallerProof):
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
        self.upgrade_over_running_copies()
        self.say("a downgrade is refused, and so is the MSI beside it")
        self.install(old=True, expect=NEWER_INSTALLED)
        self.wine.run(["msiexec", "/i", windows_path(self.files.msi), "/qn"], expect=MSI_FAILURE, timeout=120)
        check(self.installed_version() == self.files.version, "something else was installed")
        self.picture_of_the_window()
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

    def picture_of_the_window(self) -> None:
        """The window of a person who has carried studies."""
        runs = "the engine runs in this process"
        before = self.program.logged().count(runs)
        with on_screen(self.wine, self.work / "screen-setup") as screen, self.program.window():
            screen.appears(NAME)
            wait_for(lambda: self.program.logged().count(runs) > before, what="the window's engine")
            screen.settled(self.pictures / "installer-window.png")

    def wizard_on_a_screen(self) -> None:
        """The wizard, page by page as a person goes through it; at its end the program starts."""
        self.say("the wizard on a screen")
        with on_screen(self.wine, self.work / "screen-setup") as screen:
            setup = self.wine.start([windows_path(self.files.setup)])
            name = f"{NAME} Setup"
            try:
                screen.appears(name)
                page = screen.settled(self.pictures / "installer-1.png")
                for number, key in enumerate(("alt+n", "alt+a", "alt+n", "alt+n"), 2):
                    other = screen.painted(self.pictures / f"installer-{number}.png", other_than=page)
                    page = screen.press(name, [key, "alt+n", "alt+a"], other, f"page {number}")
                installed = (self.program.place / "Uninstall.exe").exists
                screen.press(name, ["alt+i"], installed, "the installation")
                # The last page, behind the one with the bar: "Start DICOM Ferry" is ticked.
                self._press_until(lambda: setup.poll() is not None, screen, name, "alt+f")
                screen.appears(f"^{NAME}$")
                screen.settled(self.pictures / "installer-started.png")
                self.uninstall_on(screen)
            finally:
                setup.kill()
                setup.wait()

    def uninstall_on(self, screen: WindowsScreen) -> None:
        """As a person does it, while the program runs; nodes and records are to go too."""
        self.say("interactive uninstallation asks what becomes of a person's nodes and records")
        uninstaller = self.program.place / "Uninstall.exe"
        self.wine.start([f"{self.folder}\\Uninstall.exe"]).wait(120)  # it goes on as a copy of itself
        name = f"{NAME} Uninstall"
        screen.appears(name)
        page = screen.settled(self.pictures / "installer-uninstall.png")
        screen.click(name, 214, 162)
        screen.settled(self.pictures / "installer-uninstall-all.png", other_than=page)
        screen.press(name, ["alt+u"], lambda: not uninstaller.exists(), "the uninstallation")
        self._press_until(lambda: not screen.windows(name), screen, name, "alt+c")
        check(not screen.windows(f"^{NAME}$"), "the program still runs")

    def _press_until(self, ended: Callable[[], bool], screen: WindowsScreen, name: str, key: str) -> None:
        """Press a key that does nothing before the last page is there, once a second."""

        def pressed() -> bool:
            screen.try_to_press(name, key)
            return ended()

        wait_for(lambda: ended() or pressed(), timeout=300, interval=1, what="the last page and its end")
