"""How each system is asked not to go to sleep by itself; what is held ends with the process, however that ends.

Windows: a power request, which ``powercfg /requests`` shows with its reason. Linux: an inhibitor of systemd-logind
for the machine and one of the desktop's session, over D-Bus. macOS: ``caffeinate``. A person can still choose to
send the computer to sleep, and the screen may turn off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

PROGRAM = "DICOM Ferry"
_CALL_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Hold(Protocol):
    """Something that keeps the computer awake until it is released, by the thread that took it.

    Attributes
    ----------
    how : str
        For the log.
    """

    how: str

    def release(self) -> None: ...


def take_hold(reason: str) -> Hold | None:
    """Keep the computer awake; None where nothing here can be asked.

    Parameters
    ----------
    reason : str
        A few words that the system may show.
    """
    if sys.platform == "win32":
        return _power_request(reason) or _thread_state()
    if sys.platform == "darwin":
        return _caffeinate()
    return _inhibitors(reason)


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _SYSTEM_REQUIRED, _EXECUTION_REQUIRED = 1, 3  # POWER_REQUEST_TYPE; the second is Modern Standby's
    _ES_CONTINUOUS, _ES_SYSTEM_REQUIRED = 0x80000000, 0x00000001

    class _Reason(ctypes.Structure):
        """REASON_CONTEXT with a plain text; the union's other member is larger."""

        _fields_ = [
            ("version", wintypes.ULONG),
            ("flags", wintypes.DWORD),
            ("text", wintypes.LPCWSTR),
            ("rest", ctypes.c_void_p * 2),
        ]

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.PowerCreateRequest.restype = wintypes.HANDLE
    _kernel.PowerCreateRequest.argtypes = [ctypes.POINTER(_Reason)]
    _kernel.PowerSetRequest.argtypes = [wintypes.HANDLE, ctypes.c_int]
    _kernel.CloseHandle.argtypes = [wintypes.HANDLE]
    _kernel.SetThreadExecutionState.argtypes = [wintypes.DWORD]
    _kernel.SetThreadExecutionState.restype = wintypes.DWORD

    class _PowerRequest:
        how = "power request"

        def __init__(self, handle: int) -> None:
            self._handle = handle

        def release(self) -> None:
            _kernel.CloseHandle(self._handle)

    def _power_request(reason: str) -> Hold | None:
        context = _Reason(0, 1, f"{PROGRAM}: {reason}")  # POWER_REQUEST_CONTEXT_SIMPLE_STRING
        handle = _kernel.PowerCreateRequest(ctypes.byref(context))
        if handle in (None, ctypes.c_void_p(-1).value):
            _log.info("no power request: error %d", ctypes.get_last_error())
            return None
        if not _kernel.PowerSetRequest(handle, _SYSTEM_REQUIRED):
            _log.info("the power request is refused: error %d", ctypes.get_last_error())
            _kernel.CloseHandle(handle)
            return None
        _kernel.PowerSetRequest(handle, _EXECUTION_REQUIRED)  # where the system knows it
        return _PowerRequest(handle)

    class _ThreadState:
        how = "state of a thread"

        def release(self) -> None:
            _kernel.SetThreadExecutionState(_ES_CONTINUOUS)

    def _thread_state() -> Hold | None:
        """Where there are no power requests; holds for as long as the calling thread lives."""
        return _ThreadState() if _kernel.SetThreadExecutionState(_ES_CONTINUOUS | _ES_SYSTEM_REQUIRED) else None


class _Child:
    how = "caffeinate"

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def release(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CALL_SECONDS)


def _caffeinate() -> Hold | None:
    command = ["/usr/bin/caffeinate", "-i", "-w", str(os.getpid())]  # -w: it ends with us
    try:
        return _Child(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))  # noqa: S603
    except OSError as error:
        _log.info("no caffeinate: %s", error)
        return None


class _Inhibitors:
    """Those that were given: each ends when it is closed, and when this process does."""

    def __init__(self, given: list[tuple[str, Callable[[], object]]]) -> None:
        self._given = given
        self.how = " and ".join(name for name, _end in given)

    def release(self) -> None:
        for _name, end in self._given:
            with contextlib.suppress(OSError):
                end()


def _inhibitors(reason: str) -> Hold | None:
    try:
        import jeepney  # noqa: F401 - comes with the keyring
    except ImportError:
        return None
    given = []
    for name, ask in (("systemd-logind", _from_logind), ("the desktop's session", _from_session)):
        try:
            given.append((name, ask(reason)))
        except Exception as error:  # noqa: BLE001 - no bus, no such service, refused: the library's types are many
            _log.debug("%s keeps nothing awake: %r", name, error)
    return _Inhibitors(given) if given else None


def _from_logind(reason: str) -> Callable[[], object]:
    """org.freedesktop.login1.Manager.Inhibit: held for as long as the descriptor is open that it returns."""
    from jeepney import DBusAddress
    from jeepney.io.blocking import open_dbus_connection

    manager = DBusAddress("/org/freedesktop/login1", "org.freedesktop.login1", "org.freedesktop.login1.Manager")
    with open_dbus_connection("SYSTEM", enable_fds=True) as connection:
        (descriptor,) = _call(connection, manager, "Inhibit", "ssss", ("idle", PROGRAM, reason, "block"))
    number = descriptor.to_raw_fd()
    return lambda: os.close(number)


def _from_session(reason: str) -> Callable[[], object]:
    """GNOME's session, else what KDE, Xfce and others offer: held for as long as the connection stands."""
    from jeepney import DBusAddress
    from jeepney.io.blocking import open_dbus_connection

    gnome = DBusAddress("/org/gnome/SessionManager", "org.gnome.SessionManager", "org.gnome.SessionManager")
    path = "/org/freedesktop/PowerManagement/Inhibit"
    others = DBusAddress(path, "org.freedesktop.PowerManagement", "org.freedesktop.PowerManagement.Inhibit")
    connection = open_dbus_connection("SESSION")
    try:
        try:
            _call(connection, gnome, "Inhibit", "susu", ("dicom-ferry", 0, reason, 4))  # 4: suspending
        except Exception:  # noqa: BLE001 - another desktop
            _call(connection, others, "Inhibit", "ss", (PROGRAM, reason))
    except BaseException:
        connection.close()
        raise

    def end() -> None:
        connection.close()

    return end


def _call(connection: Any, address: Any, method: str, signature: str, body: tuple[object, ...]) -> tuple[Any, ...]:
    from jeepney import MessageFlag, new_method_call
    from jeepney.wrappers import unwrap_msg

    call = new_method_call(address, method, signature, body)
    call.header.flags |= MessageFlag.no_auto_start
    answer: tuple[Any, ...] = unwrap_msg(connection.send_and_get_reply(call, timeout=_CALL_SECONDS))
    return answer
