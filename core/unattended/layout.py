"""Where the parts of the unattended engine lie on Linux, and what an administrator chooses of it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from core.model.errors import ConfigurationError, LocalError
from core.unattended.commands import run
from core.unattended.place import SERVICE, machine_folder

UNIT = f"{SERVICE}.service"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie below the root of a system (`/`, or a folder in which one is being made)."""

    root: Path = Path("/")

    @property
    def running(self) -> bool:
        """systemd runs on this computer (sd_booted(3)), and this is its system."""
        return self.root == Path("/") and Path("/run/systemd/system").is_dir()

    @property
    def unit(self) -> Path:
        return self.root / "etc/systemd/system" / UNIT

    @property
    def secrets_conf(self) -> Path:
        """The drop-in of the unit that names its credentials."""
        return self.unit.with_name(f"{UNIT}.d") / "secrets.conf"

    @property
    def credentials(self) -> Path:
        return self.root / "etc" / SERVICE / "credentials"

    @property
    def home(self) -> Path:
        return self.root / machine_folder().relative_to("/")


@dataclass(frozen=True, slots=True)
class Choice:
    """What an administrator chose.

    Attributes
    ----------
    account : str
        Made where it is missing.
    group : str
        Its members may open the home; empty: the account alone.
    folders : tuple[Path, ...]
        Folders beside the home in which the engine may write.
    """

    account: str = SERVICE
    group: str = ""
    folders: tuple[Path, ...] = ()


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a whole file, so that a crash leaves the old one or the new one; never through a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.chmod(mode)
    new.replace(path)


def need_root() -> None:
    """Raises a `ConfigurationError` for anybody else."""
    if sys.platform == "win32" or os.geteuid() != 0:
        raise ConfigurationError(
            "Only root may set up the engine of the computer.",
            "Give the command with sudo, or with --user for an engine of your own.",
            code="no-root",
        )


def cant_write(error: OSError) -> LocalError:
    """What a person is told of it."""
    return LocalError(
        f"{error.filename or 'A file'} can't be written ({error.strerror or error}).",
        "Check the rights and the room on that disk.",
        detail=repr(error),
        code="service",
    )


def need(command: str, sentence: str, step: str = "Run `dicom-ferry engine` by whatever starts programs here.") -> None:
    """Raises a `ConfigurationError` where the system lacks a command."""
    if shutil.which(command) is None:
        raise ConfigurationError(sentence, step, detail=f"{command} was not found", code="no-systemd")


def systemctl(layout: Layout, *words: str) -> None:
    """Have systemd do it, or have done to a system that does not run."""
    where = [] if layout.root == Path("/") else [f"--root={layout.root}"]
    run(["systemctl", *where, *words], step=f"journalctl -u {SERVICE} may tell more.")


def make_folder(folder: Path) -> None:
    """For root alone."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
