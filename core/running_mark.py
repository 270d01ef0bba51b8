"""On Windows, a named mutex says that a copy of the program runs, in whatever session: installers look for it.

``Global\\DICOM-Ferry-running`` exists for as long as any process of the program does. Everybody may see it; nobody
but its makers, the system and administrators can do anything with it.
"""

from __future__ import annotations

import logging
import sys

NAME = "Global\\DICOM-Ferry-running"

_log = logging.getLogger(__name__)

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    #: Full access for the owner, the system and administrators; everybody else may wait for it (SYNCHRONIZE).
    _WHO_MAY = "D:P(A;;GA;;;OW)(A;;GA;;;SY)(A;;GA;;;BA)(A;;0x00100000;;;WD)"
    _SYNCHRONIZE = 0x00100000
    _ALREADY_EXISTS, _ACCESS_DENIED = 183, 5

    class _SecurityAttributes(ctypes.Structure):
        _fields_ = [("length", wintypes.DWORD), ("descriptor", wintypes.LPVOID), ("inherit", wintypes.BOOL)]

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.CreateMutexW.restype = wintypes.HANDLE
    _kernel.CreateMutexW.argtypes = [ctypes.POINTER(_SecurityAttributes), wintypes.BOOL, wintypes.LPCWSTR]
    _kernel.OpenMutexW.restype = wintypes.HANDLE
    _kernel.OpenMutexW.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.LPCWSTR]
    _kernel.CloseHandle.argtypes = [wintypes.HANDLE]
    _kernel.LocalFree.argtypes = [wintypes.HLOCAL]
    _to_descriptor = ctypes.WinDLL("advapi32", use_last_error=True).ConvertStringSecurityDescriptorToSecurityDescriptorW
    _to_descriptor.argtypes = [
        wintypes.LPCWSTR, wintypes.DWORD, ctypes.POINTER(wintypes.LPVOID), ctypes.POINTER(wintypes.ULONG),
    ]  # fmt: skip

    class NamedMutex:
        """A mutex that counts by its being there; nobody ever owns it.

        Attributes
        ----------
        first : bool
            It was not there before.
        """

        def __init__(self, name: str) -> None:
            self.first = False
            descriptor = wintypes.LPVOID()
            if not _to_descriptor(_WHO_MAY, 1, ctypes.byref(descriptor), None):
                raise OSError(f"no rights for the mutex {name}: error {ctypes.get_last_error()}")
            try:
                rights = _SecurityAttributes(ctypes.sizeof(_SecurityAttributes), descriptor, False)
                self._handle = _kernel.CreateMutexW(ctypes.byref(rights), False, name)
                error = ctypes.get_last_error()
            finally:
                _kernel.LocalFree(descriptor)
            if self._handle:
                self.first = error != _ALREADY_EXISTS
            elif error == _ACCESS_DENIED:  # another account's: holding it is all that is wanted
                self._handle = _kernel.OpenMutexW(_SYNCHRONIZE, False, name)
            if not self._handle:
                raise OSError(f"the mutex {name} can't be made: error {error}")

        def close(self) -> None:
            handle, self._handle = self._handle, None
            if handle:
                _kernel.CloseHandle(handle)

    def exists(name: str = NAME) -> bool:
        """Whether such a mutex is there."""
        handle = _kernel.OpenMutexW(_SYNCHRONIZE, False, name)
        if not handle:
            return bool(ctypes.get_last_error() == _ACCESS_DENIED)
        _kernel.CloseHandle(handle)
        return True

    _ours: list[NamedMutex] = []


def mark_running() -> None:
    """From now to the end of this process, the mutex is there. Nothing elsewhere than on Windows."""
    if sys.platform == "win32" and not _ours:
        try:
            _ours.append(NamedMutex(NAME))
        except OSError as error:
            _log.warning("%s", error)
