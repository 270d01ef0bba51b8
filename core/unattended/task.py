"""The unattended engine as a start-up task of Windows: registered, started, removed, and given its secrets.

The task runs at the start of the computer, whoever is logged in, under ``LocalService`` unless another account is
named: a built-in account with few rights, no password that expires, and a Credential Manager of its own.
``NetworkService`` is the one to take where folders on shares are used: it shows itself there as the computer. Its home
lies in ProgramData and is open to that account, the system and administrators, and to a group if that was asked for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import string
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from subprocess import list2cmdline
from xml.sax.saxutils import escape

from filelock import FileLock, Timeout

from core.asked_to_end import ask_to_end
from core.home import write_private_text
from core.model.errors import ConfigurationError, LocalError
from core.unattended.commands import refusal, run
from core.unattended.handover import hand_over
from core.unattended.mark import MARK, Unattended, mark_text, read_mark
from core.unattended.place import TASK, machine_folder
from core.unattended.program import program

PROCESS = "engine-process"
"""File of the home with the process id of its unattended engine."""

#: Accounts that every Windows has and that log on without a password, by their names in small letters.
BUILT_IN = {
    "localservice": ("S-1-5-19", "LocalService"),
    r"nt authority\localservice": ("S-1-5-19", "LocalService"),
    r"nt authority\local service": ("S-1-5-19", "LocalService"),
    "networkservice": ("S-1-5-20", "NetworkService"),
    r"nt authority\networkservice": ("S-1-5-20", "NetworkService"),
    r"nt authority\network service": ("S-1-5-20", "NetworkService"),
}
_SYSTEM, _ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"
_END_SECONDS = 90.0
_TAKE_SECONDS = 15.0

#: Registers a task under an account with a password, which comes on standard input: it is in no list of processes.
_REGISTER = (
    "$ErrorActionPreference = 'Stop'; "
    "$name = [Console]::In.ReadLine(); $file = [Console]::In.ReadLine(); "
    "$user = [Console]::In.ReadLine(); $password = [Console]::In.ReadLine(); "
    "$xml = [IO.File]::ReadAllText($file); "
    "Register-ScheduledTask -TaskName $name -Xml $xml -User $user -Password $password -Force | Out-Null"
)


def task_text(account: str = "LocalService", command: tuple[str, ...] | None = None) -> str:
    """The task's definition, XML of Task Scheduler's schema 1.2."""
    words = program() if command is None else command
    sid, _name = _principal(account)
    rest = list2cmdline([*words[1:], "--home", str(machine_folder()), "engine"])
    values = {
        "user": sid or account,
        # A built-in account has no kind of logon to choose; another one logs on with its password, so that its
        # Credential Manager can be opened.
        "logon": "" if sid else "\n      <LogonType>Password</LogonType>",
        "command": words[0],
        "arguments": rest,
        "where": str(machine_folder()),
    }
    template = string.Template(files("resources").joinpath("service", "windows-task.xml").read_text(encoding="utf-8"))
    return template.substitute({name: value if name == "logon" else escape(value) for name, value in values.items()})


def install(account: str | None, group: str | None, remark: Callable[[str], None] = lambda _text: None) -> list[str]:
    """Make the home, register the task and start it; what was done, in sentences.

    What is not given (None) is as it was at the last installation: so an upgrade needs no password again.

    Raises
    ------
    ConfigurationError
        No administrator, an unusable account, or a home that somebody else made.
    LocalError
        Windows refuses; with what it said.
    """
    home = machine_folder()
    _check_home(home)
    mark = _mark(home)
    before = Unattended("LocalService") if mark is None else mark
    group = before.group if group is None else group
    again = account is None and mark is not None
    account = before.account if account is None else account
    sid, name = _principal(account)
    as_it_is = again and not sid and _registered()  # its password is known to Windows alone
    password = "" if sid or as_it_is else _ask_password(account)
    _make_home(home, sid or account, name, group)
    remark(f"{home}: open to {name}{' and ' + group if group else ''}, the system and administrators")
    stopped = _stop(home)  # one that runs already goes on with what is said now
    with tempfile.TemporaryDirectory(prefix="dicom-ferry-") as folder:
        file = Path(folder) / "task.xml"
        file.write_text(task_text(account), encoding="utf-16")
        if as_it_is:
            run(["schtasks", "/Change", "/TN", TASK, "/ENABLE"])
        elif sid:
            run(["schtasks", "/Create", "/TN", TASK, "/XML", str(file), "/F"])
        else:
            lines = "\n".join((TASK, str(file), account, password)) + "\n"
            run(["powershell", "-NoProfile", "-NonInteractive", "-Command", _REGISTER], stdin=lines)
    run(["schtasks", "/Run", "/TN", TASK])
    done = [
        f"The task “{TASK}” starts the engine with the computer, under the account {name}.",
        f"Its home is {home}.",
        "It was started." if not stopped else "It was started anew.",
    ]
    if not _wait(lambda: _runs(home), _TAKE_SECONDS):
        done[-1] = "It was told to start, and does not run yet: look at its last result in Task Scheduler."
    return done


def remove(*, data: bool) -> list[str]:
    """Stop the engine and remove the task; with `data` also the home.

    Raises
    ------
    ConfigurationError
    LocalError
    """
    home = machine_folder()
    done = []
    if _registered():
        with contextlib.suppress(LocalError):
            run(["schtasks", "/Change", "/TN", TASK, "/DISABLE"])  # or it is started again meanwhile
    if not _stop(home) and _runs(home):
        raise LocalError(
            f"The engine did not end within {_END_SECONDS:.0f} s.", "Try again in a while.", code="engine-runs"
        )
    if _registered():
        run(["schtasks", "/Delete", "/TN", TASK, "/F"])
        done.append(f"Removed the task “{TASK}”.")
    if data and home.exists():
        _check_home(home)
        try:
            shutil.rmtree(home)
        except OSError as error:
            raise LocalError(
                f"{error.filename or home} can't be deleted ({error.strerror or error}).",
                "Close programs that use it, and try again.",
                detail=repr(error),
                code="remove-data",
            ) from error
        done.append(f"Removed {home}. Passwords stay in the Credential Manager of the engine's account.")
    elif home.exists():
        done.append(f"{home} stays: nodes, jobs, records, received images.")
    return done or ["Nothing was installed."]


def status() -> list[str]:
    """Whether it is installed and runs, in sentences.

    Raises
    ------
    LocalError
        Task Scheduler does not answer.
    """
    home = machine_folder()
    if not _registered():
        return ["No unattended engine is installed on this computer, or this account may not see its task."]
    mark = _mark(home)
    account = f", under the account {mark.account}" if mark else ""
    running = "It runs." if _runs(home) else "It does not run now, or this account may not see that."
    return [f"The task “{TASK}” starts the engine with the computer{account}.", f"Its home is {home}.", running]


def give_secret(node: str, field: str, value: str) -> list[str]:
    """Hand a secret to the engine; an empty one is forgotten.

    Raises
    ------
    ConfigurationError
        No unattended engine is installed.
    LocalError
        It can't be written.
    """
    home = machine_folder()
    mark = _mark(home)
    if mark is None:
        raise ConfigurationError(
            "No unattended engine is installed on this computer, or this account may not open its home.",
            "As an administrator: dicom-ferry service install.",
            code="service",
        )
    path = hand_over(home, node, field, value)
    if _wait(lambda: not path.exists(), _TAKE_SECONDS if _runs(home) else 0.0):
        what = "kept in" if value else "removed from"
        return [f"The engine has {what} the Credential Manager of the account {mark.account}."]
    return ["It was handed over; the engine takes it when it runs."]


# --- the home


def _make_home(home: Path, account: str, name: str, group: str) -> None:
    """The home with its mark, closed to everybody else before anything is written into it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        grants = [f"*{_SYSTEM}:(OI)(CI)F", f"*{_ADMINISTRATORS}:(OI)(CI)F"]
        for who in (account, group):
            if who:
                grants.append(f"{'*' if who.startswith('S-1-') else ''}{who}:(OI)(CI)M")
        run(["icacls", str(home), "/inheritance:r", "/grant:r", *grants])
        write_private_text(home / MARK, mark_text(Unattended(name, group)))
    except OSError as error:
        raise LocalError(
            f"{home} can't be made ({error.strerror or error}).",
            "Give the command as an administrator.",
            detail=repr(error),
            code="service",
        ) from error


def _check_home(home: Path) -> None:
    """Everybody may make folders in ProgramData: one that was put there beforehand is not trusted.

    Raises
    ------
    ConfigurationError
    """
    if home.is_symlink() or home.is_junction() if hasattr(home, "is_junction") else home.is_symlink():
        owner = "a link"
    elif home.exists():
        owner = owner_of(home)
        if owner in (_SYSTEM, _ADMINISTRATORS, current_account()):
            return
    else:
        return
    raise ConfigurationError(
        f"{home} was not made by an administrator ({owner}).",
        "Look what it holds, move it away, and try again.",
        code="service",
    )


def _mark(home: Path) -> Unattended | None:
    try:
        return read_mark(home)
    except (OSError, ValueError):
        return None


# --- the engine


def tell_process(home: Path) -> None:
    """Write down that this process is the home's unattended engine, so that it can be asked to end."""
    write_private_text(home / PROCESS, f"{os.getpid()}\n")


def _runs(home: Path) -> bool:
    lock_file = home / "engine.lock"
    try:
        if not lock_file.exists():
            return False
        lock = FileLock(lock_file, is_singleton=False)
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _stop(home: Path) -> bool:
    """Ask the engine to end, and wait; whether one ran and has ended."""
    if not _runs(home):
        return False
    with contextlib.suppress(OSError, ValueError):
        ask_to_end(int((home / PROCESS).read_text(encoding="ascii")))
    return _wait(lambda: not _runs(home), _END_SECONDS)


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    until, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        if time.monotonic() >= until:
            return False
        pause.wait(0.2)
    return True


# --- Windows


def _principal(account: str) -> tuple[str, str]:
    """Its SID and its name; without a SID an account that has a password."""
    account = account.strip()
    built_in = BUILT_IN.get(account.lower())
    if built_in is not None:
        return built_in
    if not account or account.lower() in ("system", r"nt authority\system", "s-1-5-18"):
        raise ConfigurationError(
            "The engine is not run with all rights of the system.",
            "Choose LocalService, NetworkService, or an account made for it (DOMAIN\\name).",
            code="service",
        )
    return "", account


def _ask_password(account: str) -> str:
    from getpass import getpass

    if sys.stdin is not None and sys.stdin.isatty():
        password = getpass(f"Password of {account}: ")
    else:
        password = sys.stdin.readline().rstrip("\r\n") if sys.stdin is not None else ""
    if not password:
        raise ConfigurationError(
            f"The account {account} needs its password.", "Type it, or write it to standard input.", code="no-secret"
        )
    return password


def _registered() -> bool:
    return not refusal(["schtasks", "/Query", "/TN", TASK], seconds=30)


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _advapi = ctypes.WinDLL("advapi32", use_last_error=True)
    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.LocalFree.argtypes = [ctypes.c_void_p]
    _kernel.GetCurrentProcess.restype = wintypes.HANDLE
    _kernel.CloseHandle.argtypes = [wintypes.HANDLE]
    _advapi.GetNamedSecurityInfoW.argtypes = [
        wintypes.LPCWSTR, ctypes.c_int, wintypes.DWORD, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p,
        ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p),
    ]  # fmt: skip
    _advapi.ConvertSidToStringSidW.argtypes = [ctypes.c_void_p, ctypes.POINTER(wintypes.LPWSTR)]
    _advapi.OpenProcessToken.argtypes = [wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE)]
    _advapi.GetTokenInformation.argtypes = [
        wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD, ctypes.POINTER(wintypes.DWORD),
    ]  # fmt: skip

    def _sid_text(sid: ctypes.c_void_p | int | None) -> str:
        text = wintypes.LPWSTR()
        if not sid or not _advapi.ConvertSidToStringSidW(sid, ctypes.byref(text)):
            return ""
        try:
            return text.value or ""
        finally:
            _kernel.LocalFree(ctypes.cast(text, ctypes.c_void_p))

    def owner_of(path: Path) -> str:
        """The SID of a file's owner; empty where it can't be told."""
        owner, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
        file_object, owner_information = 1, 1
        if _advapi.GetNamedSecurityInfoW(
            str(path), file_object, owner_information, ctypes.byref(owner), None, None, None, ctypes.byref(descriptor)
        ):
            return ""
        try:
            return _sid_text(owner)
        finally:
            _kernel.LocalFree(descriptor)

    def current_account() -> str:
        """The SID of the account that runs this process."""
        token, needed = wintypes.HANDLE(), wintypes.DWORD()
        query, token_user = 0x0008, 1
        if not _advapi.OpenProcessToken(_kernel.GetCurrentProcess(), query, ctypes.byref(token)):
            return ""
        try:
            _advapi.GetTokenInformation(token, token_user, None, 0, ctypes.byref(needed))
            room = ctypes.create_string_buffer(needed.value)
            if not _advapi.GetTokenInformation(token, token_user, room, needed, ctypes.byref(needed)):
                return ""
            return _sid_text(ctypes.cast(room, ctypes.POINTER(ctypes.c_void_p))[0])
        finally:
            _kernel.CloseHandle(token)

else:

    def owner_of(path: Path) -> str:
        """Of Windows alone."""
        raise OSError(f"{path}: Windows alone has such owners")

    def current_account() -> str:
        """Of Windows alone."""
        raise OSError("Windows alone has such accounts")
