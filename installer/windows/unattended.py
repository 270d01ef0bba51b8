"""The proof of the unattended engine under Wine: what the installers set up is looked at, and run as Windows would.

Wine registers tasks and starts none, has no other accounts and no access lists: what it can't tell is in the README
for IT. The engine is started here by the command that the task has, on the home that the task names.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from installer.windows.product import CONSOLE_EXE, NAME, REGISTRY_KEY, TASK, UNATTENDED
from installer.windows.wine import Wine
from tests.support.orthanc import OrthancServer
from tests.support.waiting import wait_for

HOME = rf"C:\ProgramData\{NAME}"
_TASKS = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


class Unattended:
    """The start-up task of one prefix.

    Parameters
    ----------
    folder : str
        Where the program is installed, as Windows names it.
    """

    def __init__(self, wine: Wine, folder: str) -> None:
        self.wine = wine
        self.folder = folder

    @property
    def task_file(self) -> Path:
        """Where Wine notes that a task is registered."""
        return self.wine.drive / "windows" / "system32" / "tasks" / TASK

    @property
    def home(self) -> Path:
        return self.wine.path(HOME)

    def check_chosen(self) -> list[str]:
        """The task is registered and remembered, and its home is there; the words of its command."""
        assert self.task_file.exists(), f"no task {TASK} was registered"
        assert self.wine.registry(f"HKLM\\{REGISTRY_KEY}", UNATTENDED) == "1", "the choice was not written down"
        assert (self.home / "unattended.json").exists(), f"{HOME} was not made"
        assert b"dicom-ferry service install" in self.task_file.read_bytes(), "it is another task"
        # Wine keeps neither principal nor actions: what it was given.
        said = self.run("service", "install", "--print")
        root = ElementTree.fromstring(said[said.index("<Task") :])
        user = root.findtext(f"{_TASKS}Principals/{_TASKS}Principal/{_TASKS}UserId")
        assert user == "S-1-5-19", f"the task runs as {user}"
        run = root.find(f"{_TASKS}Actions/{_TASKS}Exec")
        assert run is not None, "the task does nothing"
        command = [run.findtext(f"{_TASKS}Command") or "", "--home", HOME, "engine"]
        assert command[0] == f"{self.folder}\\{CONSOLE_EXE}", f"the task runs {command[0]}"
        assert run.findtext(f"{_TASKS}Arguments") == f'--home "{HOME}" engine'
        return command

    def check_gone(self, *, home_stays: bool) -> None:
        assert not self.task_file.exists(), "the task is left"
        assert self.home.exists() == home_stays, f"the home of the unattended engine: {self.home.exists()}"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """What Windows does when it starts: the command of the task. It is ended with the block, if it has not yet."""
        process = self.wine.start([*self.check_chosen(), "--json"])
        said: list[str] = []
        # A pipe holds only so much.
        reader = threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True)
        reader.start()
        try:
            wait_for(lambda: process.poll() is not None or any('"running": true' in line for line in said), what="it")
            assert process.poll() is None, f"the engine ended:\n{''.join(said)}"
            told = self.run("service", "status")
            assert "It runs." in told, f"an engine that runs:\n{told}"
            yield process
        finally:
            process.kill()
            process.wait()

    def run(self, *words: str, stdin: str | None = None) -> str:
        return self.wine.run([f"{self.folder}\\{CONSOLE_EXE}", *words], stdin=stdin, timeout=300)

    def command(self, *words: str) -> str:
        """A command to the unattended engine."""
        return self.run("--home", HOME, *words)

    def check_forward(self, source: OrthancServer, destination: OrthancServer, password: str, images: int) -> None:
        """The running engine is given a password, keeps it, and forwards all studies of `source`, login and all."""
        self.command("node", "add", "orthanc", "From", "--url", source.url, "--username", next(iter(source.users)))
        self.command("node", "add", "orthanc", "To", "--url", destination.url)
        said = self.run("service", "secret", "From", stdin=password + "\n")
        assert "Credential Manager" in said, f"the password was not taken:\n{said}"
        assert not list((self.home / "handed-over").glob("*")), "what was handed over is left"
        self.command("job", "save", "forward", "--source", "From", "--destination", "To", "--name", "Unattended")
        self.command("job", "start", "Unattended", "--no-wait")
        wait_for(lambda: destination.count() == images, timeout=300, what="all images at their destination")

    def check_stopped(self, process: subprocess.Popen[str]) -> None:
        """An installer asked it to end, and it settled what was on its way."""
        process.wait(90)
        assert process.returncode == 0, f"the unattended engine ended with {process.returncode}"
