"""Removing everything that is kept on this computer: the passwords in the keyring, then the home folder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from core.app import App
from core.home import Home, default_folder
from core.model import held_file
from core.model.errors import ConfigurationError, LedgerError, LocalError
from core.model.fields import secret_fields
from core.nodes.registry import node_kinds
from core.pseudonym_keys import kept_names
from core.step_book import SHARED

#: What the program puts into its home. Anything else that lies there is somebody else's, and stays.
_OURS = (
    "ledger*.sqlite*", "engine.lock", "engine-process", "unattended.json", "handed-over", "settings.json*",
    "window.ini*", "logs", "spool", "scratch", "nodes", "home-id*",
    "told-of-unattended",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kept:
    """What would be lost.

    Attributes
    ----------
    folder : Path
        The home.
    nodes, unconfirmed_studies : int
        Registered nodes; studies that are not yet proved at their destination.
    """

    folder: Path
    nodes: int
    unconfirmed_studies: int


def what_is_kept() -> Kept | None:
    """What this account's home holds; None where there is none.

    Raises
    ------
    FerryError
        The ledger can't be read.
    """
    folder = default_folder()
    if not (folder / "home-id").exists():
        return None
    app = App.open()
    try:
        return Kept(app.home.folder, len(app.nodes.all()), app.ledger.unconfirmed_studies())
    finally:
        app.close()


def remove_everything() -> Path | None:
    """Remove this account's passwords and home; the folder that was removed, None where there was none.

    Folders that were chosen for images, and studies at servers, are not touched.

    Raises
    ------
    ConfigurationError
        DICOM Ferry runs on it.
    SecretError
        The keyring refuses; everything is still there.
    LocalError
        A file can't be deleted.
    """
    folder = default_folder()
    if not (folder / "home-id").exists():
        return None
    home = Home.open(folder)
    lock = FileLock(home.lock_file, mode=home.file_mode, is_singleton=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigurationError(
            "DICOM Ferry is running on this home folder.", "End it first: Quit safely.", code="engine-runs"
        ) from None
    try:
        _forget_secrets()
    finally:
        lock.release()
    try:
        for pattern in _OURS:
            for path in folder.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    held_file.remove_tree(path)
                else:
                    held_file.unlink(path)
    except OSError as error:
        raise LocalError(
            f"{error.filename or folder} can't be deleted ({error.strerror or error}).",
            "Close programs that use it, and try again.",
            detail=repr(error),
            code="remove-data",
        ) from error
    with contextlib.suppress(OSError):  # something of somebody else's lies there
        folder.rmdir()
    return folder


def _forget_secrets() -> None:
    """A ledger that can't be read no longer tells which nodes there were: their passwords then stay."""
    try:
        app = App.open()
    except LedgerError:
        return
    try:
        for record in app.ledger.nodes():
            kind = node_kinds.all().get(record.kind)
            if kind is not None:
                app.secrets.remove(record.name, secret_fields(kind.Fields))
        app.secrets.remove(SHARED, kept_names(app.ledger.jobs()))
    finally:
        app.close()
