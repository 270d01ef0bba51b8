"""On Windows, installers and IT ask a running copy to end by a named event; it ends as it does after Ctrl-C.

Elsewhere SIGTERM says the same, and nothing of this is needed. Each process has an event of its own,
``Global\\DICOM-Ferry-end-<process id>``, which its own account, the system and administrators may set from
any session: another user on the same computer can end nobody's transfers.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading

_log = logging.getLogger(__name__)

#: Full access for the owner, the system and administrators; nobody else.
_WHO_MAY = "D:P(A;;GA;;;OW)(A;;GA;;;SY)(A;;GA;;;BA)"
_FOREVER = 0xFFFFFFFF
_listening = threading.Lock()


def event_name(process: int) -> str:
    """The name of the event that asks this process to end."""
    return f"Global\\DICOM-Ferry-end-{process}"


def listen_for_the_end() -> None:
    """From now on, the event interrupts this process's main thread as Ctrl-C would. Returns at once.

    Whoever handles SIGINT (`core.cli_commands.interruption`, `gui.signals`) settles what is on its way first.
    """
    if sys.platform == "win32" and _listening.acquire(blocking=False):  # once in a process
        event = _make_event(event_name(os.getpid()))
        if event:
            threading.Thread(target=_wait, args=(event,), name="asked-to-end", daemon=True).start()


def ask_to_end(process: int) -> bool:
    """Ask another copy to settle what is on its way and to end; False where that may not be asked of it."""
    return sys.platform == "win32" and _set_event(event_name(process))


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _SecurityAttributes(ctypes.Structure):
        _fields_ = [("length", wintypes.DWORD), ("descriptor", wintypes.LPVOID), ("inherit", wintypes.BOOL)]

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.CreateEventW.restype = wintypes.HANDLE
    _kernel.CreateEventW.argtypes = [
        ctypes.POINTER(_SecurityAttributes), wintypes.BOOL, wintypes.BOOL, wintypes.LPCWSTR,
    ]  # fmt: skip
    _kernel.WaitForSingleObject.argtypes = [wintypes.HANDLE, wintypes.DWORD]
    _kernel.WaitForSingleObject.restype = wintypes.DWORD
    _kernel.LocalFree.argtypes = [wintypes.HLOCAL]
    _kernel.OpenEventW.restype = wintypes.HANDLE
    _kernel.OpenEventW.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.LPCWSTR]
    _kernel.SetEvent.argtypes = [wintypes.HANDLE]
    _kernel.CloseHandle.argtypes = [wintypes.HANDLE]
    _MODIFY_STATE = 2
    _advapi = ctypes.WinDLL("advapi32", use_last_error=True)
    _to_descriptor = _advapi.ConvertStringSecurityDescriptorToSecurityDescriptorW
    _to_descriptor.argtypes = [
        wintypes.LPCWSTR, wintypes.DWORD, ctypes.POINTER(wintypes.LPVOID), ctypes.POINTER(wintypes.ULONG),
    ]  # fmt: skip

    def _make_event(name: str) -> int:
        """The handle, which the process keeps to its end; 0 where none can be made: then only Ctrl-C ends it."""
        descriptor = wintypes.LPVOID()
        if not _to_descriptor(_WHO_MAY, 1, ctypes.byref(descriptor), None):
            _log.warning("no rights for the event %s: error %d", name, ctypes.get_last_error())
            return 0
        try:
            rights = _SecurityAttributes(ctypes.sizeof(_SecurityAttributes), descriptor, False)
            event = _kernel.CreateEventW(ctypes.byref(rights), True, False, name)
        finally:
            _kernel.LocalFree(descriptor)
        if not event:
            _log.warning("the event %s can't be made: error %d", name, ctypes.get_last_error())
        return event or 0

    def _set_event(name: str) -> bool:
        event = _kernel.OpenEventW(_MODIFY_STATE, False, name)
        if not event:
            return False
        try:
            return bool(_kernel.SetEvent(event))
        finally:
            _kernel.CloseHandle(event)

    def _wait(event: int) -> None:
        if _kernel.WaitForSingleObject(event, _FOREVER) == 0:
            _log.info("asked to end")
            _thread.interrupt_main(signal.SIGINT)
