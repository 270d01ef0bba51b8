"""Handing a password to the unattended engine on Windows, which keeps it in the Credential Manager of its own account.

A person's Credential Manager is closed to other accounts. What is handed over lies for a moment in the engine's home,
which the engine's account, the system and administrators alone may read (and the group that an administrator has let
in), encrypted by the system for this computer (CryptProtectData). The engine looks every half second, keeps it, and
deletes the file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.home import write_private_text
from core.model.errors import FerryError, LocalError

if TYPE_CHECKING:
    from core.app import App

FOLDER = "handed-over"
_ENTROPY = b"DICOM Ferry: handed over to the unattended engine"
_log = logging.getLogger(__name__)


def hand_over(home: Path, node: str, field: str, value: str) -> Path:
    """Leave a secret for the engine of this home; an empty one removes. The file, which is gone once it was taken.

    Raises
    ------
    LocalError
        It can't be written.
    """
    folder = home / FOLDER
    path = folder / f"{secrets.token_hex(8)}.secret"
    try:
        folder.mkdir(exist_ok=True)
        text = json.dumps({"node": node, "field": field, "value": value})
        write_private_text(path, _protect(text.encode("utf-8")).hex())
    except OSError as error:
        raise LocalError(
            f"The password can't be handed to the unattended engine ({error.strerror or error}).",
            "Do it as an administrator: dicom-ferry service secret.",
            detail=repr(error),
            code="handover",
        ) from error
    return path


def take_handed_over(app: App) -> int:
    """Keep what was handed over to this engine; how many secrets."""
    if sys.platform != "win32" or app.home.unattended is None:
        return 0
    taken = 0
    for path in sorted((app.home.folder / FOLDER).glob("*.secret")):
        try:
            values = json.loads(_reveal(bytes.fromhex(path.read_text(encoding="ascii"))).decode("utf-8"))
            node, field, value = str(values["node"]), str(values["field"]), str(values["value"])
        except PermissionError:
            continue  # it is being written, or an antivirus program looks at it
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("what was handed over in %s can't be used: %s", path.name, type(error).__name__)
            _delete(path)
            continue
        try:
            _keep(app, node, field, value)
            taken += 1
            _log.info("took a secret of %s that was handed over", node)
        except FerryError as error:
            _log.error("a secret of %s that was handed over can't be kept: %s", node, error)
        _delete(path)
    return taken


def _keep(app: App, node: str, field: str, value: str) -> None:
    """With the node itself, where it is registered: it is opened anew then."""
    if app.ledger.node(node) is not None:
        app.nodes.edit(node, {}, {field: value})
    elif value:
        app.secrets.put(node, field, value)
    else:
        app.secrets.remove(node, (field,))


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is taken again: that changes nothing
        path.unlink()


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _Blob(ctypes.Structure):
        _fields_ = [("length", wintypes.DWORD), ("data", ctypes.POINTER(ctypes.c_char))]

    _crypt = ctypes.WinDLL("crypt32", use_last_error=True)
    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.LocalFree.argtypes = [ctypes.c_void_p]
    _UI_FORBIDDEN, _LOCAL_MACHINE = 0x1, 0x4

    def _blob(data: bytes) -> _Blob:
        return _Blob(
            len(data), ctypes.cast(ctypes.create_string_buffer(data, len(data)), ctypes.POINTER(ctypes.c_char))
        )

    def _converted(function: str, data: bytes) -> bytes:
        given, entropy, found = _blob(data), _blob(_ENTROPY), _Blob()
        flags = _UI_FORBIDDEN | _LOCAL_MACHINE
        call = getattr(_crypt, function)
        if not call(
            ctypes.byref(given), None, ctypes.byref(entropy), None, None, wintypes.DWORD(flags), ctypes.byref(found)
        ):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            return ctypes.string_at(found.data, found.length)
        finally:
            _kernel.LocalFree(found.data)

    def _protect(data: bytes) -> bytes:
        return _converted("CryptProtectData", data)

    def _reveal(data: bytes) -> bytes:
        return _converted("CryptUnprotectData", data)

else:

    def _protect(data: bytes) -> bytes:
        raise OSError(f"of Windows alone, not of {os.name}")

    def _reveal(data: bytes) -> bytes:
        raise OSError(f"of Windows alone, not of {os.name}")
