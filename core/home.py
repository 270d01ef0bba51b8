"""Home: the one folder in which everything kept on this computer lies, readable by its owner only."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from core.model import held_file
from core.model.errors import ConfigurationError
from core.unattended.mark import MARK, Unattended, is_shared, read_mark
from core.unattended.place import Place, is_own_machine_folder, machine_folder, machine_place

HOME_VARIABLE = "DICOM_FERRY_HOME"
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
#: Of an unattended engine's home that a group may use; what is made in such a folder gets the folder's group.
_SHARED_FOLDER_MODE = 0o2770
_SHARED_FILE_MODE = 0o660


@dataclass(frozen=True, slots=True)
class Home:
    """Where things are kept. Made by `Home.open`, which also creates the folders.

    On Linux and macOS folders get the mode 0700 and files 0600. On Windows nothing is set: the default
    folder lies in the user's profile, whose access list (the user, SYSTEM and administrators) is
    inherited; whoever moves the home elsewhere with ``DICOM_FERRY_HOME`` chooses that folder's rights.
    The home of an unattended engine may be open to a group, too, where an administrator has asked for that.

    Attributes
    ----------
    folder : Path
        Absolute.
    id : str
        Eight random hexadecimal digits, made with the home: keeps the keyring entries of two homes apart.
    unattended : Unattended | None
        It belongs to an unattended engine: no other process runs one on it. None for a person's own.
    """

    folder: Path
    id: str
    unattended: Unattended | None = None

    @classmethod
    def open(cls, folder: Path | None = None) -> Home:
        """The home at `folder`, else at ``DICOM_FERRY_HOME``, else in the user's own application data.

        Raises
        ------
        ConfigurationError
            It can't be made or written, with what stands in the way and a next step.
        """
        root = Path(folder) if folder is not None else default_folder()
        try:
            root = root.expanduser().absolute()
            unattended = read_mark(root)
            if unattended is not None:
                _refuse_root(root, unattended)
            _make_private_folder(root)
            _try_writing(root)
            home = cls(root, _identity(root / "home-id"), unattended)
            for inner in (home.log_folder, home.spool_folder, home.scratch_folder):
                _make_private_folder(inner)
        except (OSError, RuntimeError, ValueError) as error:
            raise _refused(root, error) from error
        return home

    @property
    def ledger_file(self) -> Path:
        """The SQLite file; its ``-wal`` and ``-shm`` neighbours get the same rights from SQLite."""
        return self.folder / "ledger.sqlite"

    @property
    def lock_file(self) -> Path:
        """Held by the process that runs this home's engine."""
        return self.folder / "engine.lock"

    @property
    def file_mode(self) -> int:
        """The mode of files that processes of this home share."""
        return _file_mode(self.folder)

    @property
    def settings_file(self) -> Path:
        return self.folder / "settings.json"

    @property
    def log_folder(self) -> Path:
        return self.folder / "logs"

    @property
    def spool_folder(self) -> Path:
        return self.folder / "spool"

    @property
    def scratch_folder(self) -> Path:
        """Files of the moment of the running engine, which empties it when it starts."""
        return self.folder / "scratch"

    @property
    def node_folder(self) -> Path:
        """Holds a folder for each node that keeps something on this computer, made when it first does."""
        return self.folder / "nodes"

    def private_file(self, path: Path) -> Path:
        """Create `path` empty where it is missing, and make it readable by its owner only.

        Raises
        ------
        ConfigurationError
        """
        try:
            make_private_file(path)
        except OSError as error:
            raise _refused(path, error) from error
        return path


def default_folder() -> Path:
    """``DICOM_FERRY_HOME``, else the platform's folder for a user's application data.

    For the account of the unattended engine, that engine's.
    """
    named = os.environ.get(HOME_VARIABLE, "").strip()
    if named:
        return Path(named)
    if is_own_machine_folder():
        return machine_folder()
    return Path(
        platformdirs.user_data_dir("DICOM Ferry" if sys.platform != "linux" else "dicom-ferry", appauthor=False)
    )


def make_private_file(path: Path) -> None:
    """Create `path` where it is missing; on POSIX only its owner may then read it."""
    mode = _file_mode(path.parent)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, mode)
    try:
        if os.name == "posix" and stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def write_private_text(path: Path, text: str) -> None:
    """Write a whole file, owner-only, so that a crash leaves either the old or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=path.name, suffix=".new", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # mkstemp makes it 0600
            if os.name == "posix" and _file_mode(path.parent) != _FILE_MODE:
                os.fchmod(file.fileno(), _file_mode(path.parent))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        held_file.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            held_file.unlink(name)
        raise


def _make_private_folder(folder: Path) -> None:
    """Make it, or tighten it if it is ours already; a folder with other things in it keeps its rights.

    Someone may name a folder that serves for other things too; what we put in is private by itself.
    """
    ours = not folder.exists()
    mode = _SHARED_FOLDER_MODE if os.name == "posix" and is_shared(folder) else _FOLDER_MODE
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    if os.name != "posix":
        return
    ours = (
        ours
        or (folder / "home-id").exists()
        or (folder / MARK).exists()
        or folder.name in ("logs", "spool", "scratch")
        or not any(folder.iterdir())
    )
    if ours and stat.S_IMODE(folder.stat().st_mode) != mode:
        folder.chmod(mode)


def _file_mode(folder: Path) -> int:
    return _SHARED_FILE_MODE if os.name == "posix" and is_shared(folder) else _FILE_MODE


def _refuse_root(root: Path, unattended: Unattended) -> None:
    """Files that root made would be closed to the engine's own account."""
    if os.name == "posix" and os.geteuid() == 0 and root.stat().st_uid != 0:
        raise ConfigurationError(
            f"{root} belongs to the unattended engine, which runs under the account {unattended.account}.",
            f"Give the command as that account: sudo -u {unattended.account} dicom-ferry …",
            code="home-of-account",
        )


def _try_writing(folder: Path) -> None:
    """Only writing shows whether one may write: disks are full, shares read-only, access lists long."""
    descriptor, name = tempfile.mkstemp(prefix="write-test", dir=folder)
    try:
        os.write(descriptor, b"x")
    finally:
        os.close(descriptor)
        held_file.unlink(name)


def _identity(path: Path) -> str:
    """The home's identity, made once: of two processes that begin together one wins and both read the same."""
    for _ in range(100):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE)
        except FileExistsError:
            text = path.read_text(encoding="ascii", errors="replace").strip()
            if len(text) == 8 and text.isalnum():
                return text
            if text:
                raise OSError(f"{path.name} is damaged: eight letters and digits were expected") from None
            time.sleep(0.01)  # the other process has made it and not written it yet
            continue
        text = secrets.token_hex(4)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            if os.name == "posix":
                os.fchmod(descriptor, _file_mode(path.parent))
            file.write(text)
        return text
    write_private_text(path, secrets.token_hex(4))  # the process that made it died before it wrote
    return path.read_text(encoding="ascii")


def _refused(path: Path, error: Exception) -> ConfigurationError:
    place = machine_place(path) if isinstance(error, PermissionError) else None
    if place is not None and place.account and not place.may_open:
        return _closed(place, error)
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        why = "a file is in the way"
    elif isinstance(error, PermissionError):
        why = "you may not write there"
    elif isinstance(error, OSError) and error.strerror:
        why = error.strerror[0].lower() + error.strerror[1:]
    else:
        why = str(error)
    return ConfigurationError(
        f"The folder in which DICOM Ferry keeps its ledger and settings can't be used: {path} ({why}).",
        f"Give your account the right to write there, or set {HOME_VARIABLE} to a folder of your own.",
        detail=repr(error),
        code="home",
    )


def _closed(place: Place, error: Exception) -> ConfigurationError:
    if place.folder == machine_folder():
        sentence = f"{place.folder} belongs to the unattended engine of this computer; only {place.who} may open it."
    else:
        sentence = f"{place.folder} belongs to another account; only {place.who} may open it."
    return ConfigurationError(sentence, place.how, detail=repr(error), code="home-of-account")
